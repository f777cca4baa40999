"""What answer.py and history.py share: strokes drawn in Chromium, and the time until the page has answered each."""

import numpy as np
from browser import Visitor  # of tests/

STROKES = 3
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
