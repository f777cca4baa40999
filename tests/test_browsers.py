"""The page in Firefox and WebKit: what people do most, and what failed there. In Chromium: test_browser.py."""

import io

import numpy as np
import pandas as pd
import pytest
from browser import placed
from helpers import until
from PIL import Image
from test_browser import DIGITS, rows
from webdriver import CANVAS, Firefox, Visitor, WebKit, open_browser

SEVEN = [(70, 60), (210, 60), (170, 150), (130, 230)]  # few points: in WebKit, each waits for a frame


@pytest.fixture(scope="module", params=[Firefox, WebKit], ids=["Firefox", "WebKit"])
def browser(request):
    with open_browser(request.param) as browser:
        yield browser


@pytest.fixture
def visit(browser, url, db):
    return lambda width=1280, height=900: Visitor(browser, url, width, height)


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_digits_are_drawn_read_labelled_or_cleared_and_kept(visit, db, size):
    visitor = visit(*size)
    assert visitor.evaluate("return [innerWidth, innerHeight]") == list(size)
    for digit in (2, 4, 7):
        visitor.draw(placed(DIGITS[digit]))
        visitor.wait_for("answer_digit", str(digit))
        visitor.wait_for("notice", "Saved.")
        if digit == 4:
            visitor.clear()
        else:
            visitor.label(digit)
            visitor.wait_for("notice", f"Saved as {digit}.")
    assert rows(db) == [(7, 7), (4, None), (2, 2)]


def test_on_a_phone_canvas_answer_and_all_label_buttons_are_on_the_screen_at_once(visit):
    visitor = visit(390, 844)
    visitor.draw(placed(DIGITS[5]))
    visitor.wait_for("answer_digit", "5")
    visitor.wait_for("notice", "Saved.")
    parts = ["canvas", "clear", "answer_digit", "answer_confidence", "correct-5", "notice"]
    for part in parts + [f"label-{digit}" for digit in range(10)]:
        left, top, width, height = visitor.box(f".st-key-{part}")
        assert left >= 0 and left + width <= 390, part
        assert top >= 0 and top + height <= 844, part
    assert visitor.evaluate("return document.documentElement.scrollWidth") == 390


def test_the_canvas_keeps_its_size_through_many_drawings(visit):
    """WebKit once laid it out with no height at all when the next one came, for some seconds or for good."""
    visitor = visit(390, 844)
    visitor.evaluate("""
      window.seen = new Set();
      const look = () => {
        const canvases = [...document.querySelectorAll("canvas.upper-canvas")].filter((c) => c.checkVisibility());
        for (const part of [document.querySelector(".st-key-canvas"), ...canvases]) {
          const { width, height } = part.getBoundingClientRect();
          seen.add(`${width} × ${height}`);
        }
        requestAnimationFrame(look);
      };
      look();
    """)
    for i in range(8):
        visitor.draw([SEVEN])
        visitor.wait_for("answer_digit", "7")
        visitor.clear() if i % 2 else visitor.label(7)
    assert visitor.evaluate("return [...seen]") == ["280 × 280"]


def test_a_label_pressed_at_once_after_a_stroke_takes_the_stroke_along(visit, db):
    """The component alone sends a stroke 200 ms after its end; the press comes 50 ms after it, from within the page."""
    visitor = visit()
    first, second = placed(DIGITS[4])
    visitor.draw([first])
    visitor.wait_for("notice", "Saved.")
    visitor.evaluate("""
      const press = () => setTimeout(() => document.querySelector(".st-key-label-4 button").click(), 50);
      document.addEventListener("pointerup", press, { once: true, capture: true });
    """)
    visitor.draw([second])
    visitor.begin()
    visitor.wait_for("notice", "Saved as 4.")
    assert rows(db) == [(4, 4)]
    kept = np.asarray(Image.open(io.BytesIO(db.fetch_predictions().drawing[0])))
    assert all(kept[round(y), round(x)] > 128 for x, y in (first[3], second[-1]))


def test_an_answer_comes_while_the_pen_is_down(visit):
    visitor = visit()
    visitor.evaluate("""
      window.live = [];
      window.addEventListener("answer", ({ detail }) => window.live.push(detail.answer.digit));
    """)
    left, top, *_ = visitor.box(f".{visitor.key} {CANVAS}")
    visitor.mouse([(left + x, top + y) for x, y in SEVEN], pause=150)
    visitor.wait_for("answer_digit", "7")
    assert 7 in visitor.evaluate("return window.live")


def test_the_history_opens_a_closer_look(visit, db):
    visitor = visit(1280, 1100)
    visitor.draw([SEVEN])
    visitor.wait_for("answer_digit", "7")
    visitor.label(7)
    table = ".st-key-history [data-testid=stDataFrame]"
    said = "return document.querySelector(arguments[0] + ' tbody tr')?.textContent ?? ''"
    until(lambda: "right" in visitor.evaluate(said, table), otherwise=lambda: "the drawing is not in the history")
    left, top, *_ = visitor.box(table)
    visitor.mouse([(left + 110, top + 37 + 20)])  # where the first row's button is
    dialog = "return document.querySelector('[role=dialog]')?.textContent ?? ''"
    until(lambda: "labelled 7: right" in visitor.evaluate(dialog), otherwise=lambda: "no closer look opened")
    pictures = "return [...document.querySelectorAll('[role=dialog] img')].map((image) => image.naturalWidth)"
    until(lambda: visitor.evaluate(pictures) == [280, 28], otherwise=lambda: visitor.evaluate(pictures))


def test_the_download_is_a_file_with_every_row(visit, browser, db):
    visitor = visit()
    for digit in (2, 7):
        visitor.draw(placed(DIGITS[digit]))
        visitor.wait_for("answer_digit", str(digit))
        visitor.label(digit)
    visitor.wait_for("notice", "Saved as 7.")
    find = """
      const found = [...document.querySelectorAll("a")].find((a) => a.textContent.trim() === "Download all as CSV");
      if (!found) return null;
      found.scrollIntoView({ block: "center" });
      const { left, top, width, height } = found.getBoundingClientRect();
      return [left + width / 2, top + height / 2];
    """
    visitor.mouse([until(lambda: visitor.evaluate(find), otherwise=lambda: "there is no download")])
    file = browser.folder / "predictions.csv"
    until(
        lambda: file.exists() and file.stat().st_size and not list(browser.folder.glob("*.part")),
        otherwise=lambda: "no file came",
    )
    frame = pd.read_csv(file)
    assert list(frame.true_label) == [7, 2] and list(frame.predicted_digit) == [7, 2]
    assert list(frame.id) == list(db.fetch_predictions().id)
