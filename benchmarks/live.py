"""Answers while the pen is down: how many a second, and how long from a position of the pen to its answer.

    .venv/bin/python benchmarks/live.py

Chromium draws digits with the mouse, sixty positions a second, alone and then while twenty others (crowd.py) each end a
stroke every two seconds and ask for live answers, too. A position's time goes from the browser's event to the first
answer in the page whose picture was taken after it; it is painted with the next frame. Server, browser and the others
share the machine. Takes a minute.
"""

import concurrent.futures
import contextlib
import time

import numpy as np
from bench import ROOT, arguments, begin, database, report, serve_app, spread
from browser import Visitor, open_browser
from crowd import Crowd

OTHERS, STROKES, POSITIONS, RATE = 20, 6, 120, 60  # of each stroke; a second
NOTE = """() => {
  window.positions = [];
  window.answers = [];  // [when the picture was taken that was asked about, when its answer was on the page]
  const canvas = document.querySelector(".st-key-canvas");
  canvas.addEventListener("mousemove", (e) => e.buttons && positions.push(e.timeStamp), true);
  window.addEventListener("answer", (e) => answers.push([e.detail.moved, performance.now()]));  // after the page's own
}"""


def draw(visitor):
    """(seconds with the pen down, milliseconds of each position, number of answers) of some strokes of this visitor."""
    visitor.page.evaluate(NOTE)
    down, angles = 0.0, np.linspace(0, 4 * np.pi, POSITIONS)
    for n in range(STROKES):
        x0, y0 = visitor._corner()
        points = np.stack([140 + 60 * np.sin(angles + n), 40 + 200 * np.arange(POSITIONS) / POSITIONS], 1)
        visitor.page.mouse.move(x0 + points[0][0], y0 + points[0][1])
        visitor.page.mouse.down()
        began = time.perf_counter()
        for i, (x, y) in enumerate(points):
            time.sleep(max(0, began + i / RATE - time.perf_counter()))
            visitor.page.mouse.move(x0 + x, y0 + y)
        down += time.perf_counter() - began
        visitor.page.mouse.up()
        visitor.page.wait_for_timeout(1000)
        visitor.clear()
    positions, answers = visitor.page.evaluate("[positions, answers]")
    shown = [next((at - when for taken, at in answers if taken >= when), None) for when in positions]
    return down, [ms for ms in shown if ms is not None], len(answers)


def measure(visitor, what):
    down, milliseconds, answers = draw(visitor)
    report(f"a position of the pen to the answer that shows it{what}", spread(milliseconds, digits=0))
    report(f"answers while the pen is down{what}", f"{answers / down:.1f} a second")


def main():
    begin(arguments(__doc__, app=False))
    with (
        database() as environment,
        serve_app(ROOT, environment) as app,
        open_browser() as browser,
        Visitor(browser, app.url) as visitor,
        contextlib.closing(Crowd([app.address], live=True)) as crowd,
        concurrent.futures.ThreadPoolExecutor(1) as beside,
    ):
        draw(visitor)  # to warm up
        measure(visitor, "")
        crowd.open(OTHERS)
        drawn = beside.submit(crowd.draw, STROKES * (POSITIONS / RATE + 2), settle=2)
        time.sleep(2)
        measure(visitor, f", {OTHERS} others drawing")
        drawn.result()
        report(f"live answers of each of the {OTHERS} others", crowd.live_answers())


if __name__ == "__main__":
    main()
