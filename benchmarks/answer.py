"""How long the answer takes in a browser, against a page that only holds the same canvas and echoes it.

    .venv/bin/python benchmarks/answer.py

Both pages run at once, each in a process of its own with the same settings, and Chromium draws on them in turn: from
the moment the mouse button is up until the page shows the answer (or the echo) to this stroke, the canvas's own wait of
200 ms included. Each page gets 8 visitors, who draw one stroke that is not counted and three that are. The browser
runs on the same machine. Takes some minute.
"""

import numpy as np
from bench import ROOT, database, describe, report, spread
from browser import Visitor, open_browser, serve

VISITORS, STROKES = 8, 3
WATCH = """() => {
  const times = (window.times = []);
  const answer = () => {
    const part = document.querySelector(".st-key-answer");
    return part.querySelector("img")?.src ?? part.innerText;  // what the network saw comes last
  };
  let up = null, before = answer();
  document.addEventListener("pointerup", () => { up = performance.now(); before = answer(); }, true);
  new MutationObserver(() => {
    if (up === null || answer() === before) return;
    times.push(performance.now() - up);
    up = null;
  }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def strokes(rng):
    """Pieces of a drawing, in the canvas's own pixels."""
    for _ in range(1 + STROKES):
        start, end = rng.uniform(40, 240, (2, 2))
        yield [tuple(start + t * (end - start)) for t in np.linspace(0, 1, 8)]


def draw(browser, url, rng):
    """Milliseconds from the end of each stroke to its answer, for one new visitor."""
    with Visitor(browser, url) as visitor:
        visitor.page.evaluate(WATCH)
        for n, stroke in enumerate(strokes(rng)):
            visitor.draw([stroke])
            visitor.page.wait_for_function(f"window.times.length > {n}", timeout=30_000)
            visitor.page.wait_for_timeout(300)  # until the app has said that it is saved
        return visitor.page.evaluate("window.times")[1:]


def main():
    describe(__doc__)
    bare_page = ROOT / "benchmarks" / "bare_page.py"
    with database() as environment, serve(**environment) as app, serve(bare_page) as bare, open_browser() as browser:
        times = {app: [], bare: []}
        for n in range(1 + VISITORS):
            for url in (app, bare) if n % 2 else (bare, app):
                new = draw(browser, url, np.random.default_rng(n))
                times[url] += new if n else []  # the first visitor of a process pays for its start
    medians = {url: np.median(values) for url, values in times.items()}
    report("stroke's end to answer on the page", spread(times[app], digits=0))
    report("the same on the bare page", spread(times[bare], digits=0))
    report("ratio of the two medians", f"{medians[app] / medians[bare]:.2f}")


if __name__ == "__main__":
    main()
