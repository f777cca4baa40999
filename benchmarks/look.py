"""The closer look: from the press to what it shows, and what its pictures cost.

    .venv/bin/python benchmarks/look.py

Chromium opens the look at one drawing again and again, with its strokes in the table and then without; and this process
reads the moments and parts of made-up drawings, on one thread, beside one answer. Takes a minute.
"""

import time

import numpy as np
from bench import ROOT, arguments, begin, database, report, run_sql, serve_app, spread
from browser import Visitor, open_browser
from playwright.sync_api import expect
from seed_rows import pictures

from model import predict, served
from page.explanation import explain
from utils import decode_drawing, preprocess_gray, render_strokes, side_by_side_gray, to_gray

TIMES = 12


def milliseconds(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return 1000 * (time.perf_counter() - began)


def answer(model, png):
    gray = to_gray(decode_drawing(png))
    predict(model, preprocess_gray(gray), side_by_side_gray(gray))


def opened(visitor, shown):
    """Milliseconds from each press to what this selector names."""
    dialog, spans = visitor.page.get_by_role("dialog"), []
    for _ in range(TIMES):
        button = visitor.page.get_by_role("button", name="Look at this drawing")
        expect(button).to_be_visible()
        spans.append(milliseconds(lambda: (button.click(), dialog.locator(shown).first.wait_for())))  # noqa: B023
        visitor.page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
    return spans[2:]


def main():
    begin(arguments(__doc__, app=False))
    model, (_, strokes, drawings) = served.network(), pictures(np.random.default_rng(0))
    pairs = [
        (milliseconds(explain, model, lines, render_strokes(lines)), milliseconds(answer, model, png))
        for lines, png in zip(strokes[:40], drawings[:40], strict=True)
    ][5:]
    whole, one = zip(*pairs, strict=True)
    report("moments and parts of a drawing, read in one batch", f"{spread(whole, digits=0)}; one answer {spread(one)}")
    with (
        database() as environment,
        serve_app(ROOT, environment, rows=1) as app,
        open_browser() as browser,
        Visitor(browser, app.url, viewport={"width": 1280, "height": 1600}) as visitor,
    ):
        report("press to the drawing that can be played", spread(opened(visitor, ".why polyline"), digits=0))
        run_sql(app.environment, "UPDATE predictions SET strokes = NULL")
        report("press to the bars of a row without strokes", spread(opened(visitor, ".bar"), digits=0))


if __name__ == "__main__":
    main()
