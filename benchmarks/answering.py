"""How long the answer takes in a browser, beside the bare page.

    .venv/bin/python benchmarks/answering.py    # --app DIR: of another checkout

Both pages run at once, each in a process of its own, and Chromium, on the same machine, draws on them in turn: from
the moment the mouse button is up until the page shows the answer (or the echo) to this stroke. On the bare page that
includes the component's own wait of 200 ms, which ours cuts short (page/static/canvas.js). Takes some minute.
"""

import statistics

import numpy as np
from bench import BARE_PAGE, arguments, begin, database, report, serve, serve_app, spread
from browser import Visitor, open_browser

STROKES = 3
WATCH = """() => {
  const times = (window.times = []);
  const answer = () => {
    const part = document.querySelector(".st-key-answer");
    if (part.querySelector("[aria-busy=true]")) return null;  // an answer to a pen that was down
    return part.querySelector("img")?.src ?? part.innerText;  // what the network saw
  };
  let up = null, before = answer();
  document.addEventListener("pointerup", () => { up = performance.now(); before = answer(); }, true);
  new MutationObserver(() => {
    if (up === null || answer() === null || answer() === before) return;
    times.push(performance.now() - up);
    up = null;
  }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def compare(browser, one, other, visitors=8, **context):
    """(milliseconds from the end of each stroke to its answer on one page, the same on the other), drawn on in turn.

    one, other: the addresses; visitors: of each page, who draw a stroke that is not counted and three that are;
    context: of their browser.
    """
    times = {one: [], other: []}
    for n in range(1 + visitors):
        for url in (one, other) if n % 2 else (other, one):
            new = _draw(browser, url, np.random.default_rng(n), context)
            times[url] += new if n else []  # the first visitor of a process pays for its start
    return times[one], times[other]


def _draw(browser, url, rng, context):
    with Visitor(browser, url, **context) as visitor:
        visitor.page.evaluate(WATCH)
        for n in range(1 + STROKES):
            start, end = rng.uniform(40, 240, (2, 2))  # in the canvas's own pixels
            visitor.draw([[tuple(start + t * (end - start)) for t in np.linspace(0, 1, 8)]])
            visitor.page.wait_for_function(f"window.times.length > {n}", timeout=30_000)
            visitor.page.wait_for_timeout(300)  # until the app has said that it is saved
        return visitor.page.evaluate("window.times")[1:]


def main():
    options = begin(arguments(__doc__))
    with (
        database() as environment,
        serve_app(options.app, environment) as app,
        serve(BARE_PAGE) as bare,
        open_browser() as browser,
    ):
        ours, echoed = compare(browser, app.url, bare.url)
    report("end of a stroke to the answer on the page", spread(ours, digits=0))
    report("the same on the bare page, to its echo", spread(echoed, digits=0))
    report("ratio of the two medians", f"{statistics.median(ours) / statistics.median(echoed):.2f}")


if __name__ == "__main__":
    main()
