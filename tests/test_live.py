"""Answers while the pen is down, and undo: the page in Chromium, and what stands between it and `POST /answer`."""

import itertools
import re

import numpy as np
import pytest
from browser import pixels, placed
from helpers import until
from playwright.sync_api import expect
from test_browser import DIGITS, PHONE, SCRIBBLE, Hand, arc, rows, saved

from page.scripts import STATIC

TAIL = [(0.78 - 0.06 * i / 12, 0.25 + 0.73 * i / 12) for i in range(1, 13)]
NINE = placed([arc(0.5, 0.26, 0.3, 0.25, -20, 340, 24) + TAIL], step=0.06)[0]
NOTE = """() => {
  window.noted = [];
  const note = () => {
    const view = document.querySelector(".answer");
    const now = [document.querySelector(".st-key-answer_digit").textContent, view.querySelector("img").src,
      view.ariaBusy === "true"];
    if (JSON.stringify(now) !== JSON.stringify(window.noted.at(-1))) window.noted.push(now);
  };
  note();
  new MutationObserver(note).observe(document.querySelector(".st-key-answer"),
    { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def lift(visitor, stroke):
    visitor.page.mouse.up()
    visitor.wait_sent([stroke])


def test_the_answer_changes_while_the_pen_is_down_and_the_last_one_shown_is_the_one_kept(visit, db):
    visitor = visit()
    visitor.page.evaluate(NOTE)
    visitor.press(NINE, wait=30)
    expect(visitor.at("answer_digit")).to_have_text("9")
    visitor.page.wait_for_timeout(300)  # the pen rests at its last position
    before = visitor.page.evaluate("window.noted")
    assert {digit for digit, _, busy in before if busy} >= {"0", "9"}
    assert visitor.at("answer").locator("[role=status]").text_content() == "Draw a digit to begin"
    assert rows(db) == []
    lift(visitor, NINE)
    assert visitor.answer() == 9
    after = visitor.page.evaluate("window.noted")[len(before) - 1 :]
    assert {digit for digit, *_ in after} == {"9"}  # it neither flickered nor jumped
    last, kept = (pixels(url).astype(float) for _, url, _ in after[-2:])
    assert np.abs(last - kept).mean() < 4  # of 255: what one more position can change
    saved(visitor)
    assert rows(db) == [(9, None)]


def test_y_pressed_as_the_pen_is_lifted_accepts_the_answer_that_was_seen(visit, db):
    visitor = visit()
    visitor.press(NINE, wait=30)
    expect(visitor.at("answer_digit")).to_have_text("9")
    visitor.page.mouse.up()
    visitor.page.keyboard.press("y")  # the button that says so is not there yet
    saved(visitor, 9)
    assert rows(db) == [(9, 9)]
    visitor.begin()


def test_correct_pressed_as_the_pen_is_lifted_accepts_the_answer_that_was_seen(visit, db):
    """The button that was there then stands for the answer to the stroke before."""
    visitor = visit()
    stem, bar = placed([[(0.85, 0.04), (0.6, 0.45), (0.42, 0.98)], [(0.15, 0.05), (0.85, 0.04)]], step=0.06)
    visitor.draw([stem])
    assert visitor.answer() == 1
    saved(visitor)
    button = visitor.at("correct").get_by_role("button")
    button.evaluate("button => addEventListener('mouseup', () => button.click(), { once: true })")
    visitor.press(bar, wait=30)
    expect(visitor.at("answer_digit")).to_have_text("7")
    visitor.page.mouse.up()
    saved(visitor, 7)
    assert rows(db) == [(7, 7)]
    visitor.begin()


def test_a_finger_is_answered_too_before_it_is_lifted(visit, db):
    visitor = visit(**PHONE)
    visitor.page.evaluate(NOTE)
    hand = Hand(visitor)
    hand.put(0, NINE[0])
    for point in NINE[1:]:
        hand.move(0, point)
        visitor.page.wait_for_timeout(30)
    expect(visitor.at("answer_digit")).to_have_text("9")
    assert {digit for digit, _, busy in visitor.page.evaluate("window.noted") if busy} >= {"0", "9"}
    hand.lift(0)
    visitor.wait_sent([NINE])
    assert visitor.answer() == 9


class Way:
    """What lies between the page and `POST /answer`: `pass_on` is called with each question."""

    def __init__(self, visitor, pass_on):
        self.asked, self.pass_on = 0, pass_on
        visitor.page.route("**/answer", self._hear)

    def _hear(self, route):
        self.asked += 1
        self.pass_on(route)


FAULTS = {
    "no such route": lambda route: route.fulfill(status=404, body="Not Found"),
    "no JSON": lambda route: route.fulfill(status=200, body="<html>"),
    "another JSON": lambda route: route.fulfill(status=200, json={"digit": 3, "probabilities": [1]}),
    "cut off": lambda route: route.abort(),
    "never": lambda route: None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_the_route_the_page_works_all_the_same_and_stops_asking(visit, db, fault):
    visitor = visit()
    way = Way(visitor, FAULTS[fault])
    visitor.press(NINE, wait=10)
    visitor.page.wait_for_timeout(1_700)  # longer than three answers may take
    expect(visitor.at("answer_digit")).to_have_text("")
    lift(visitor, NINE)
    assert visitor.answer() == 9
    visitor.label(9)
    saved(visitor, 9)
    assert rows(db) == [(9, 9)]
    assert way.asked == (1 if fault in ("no such route", "refused") else 3)
    visitor.complaints[:] = [text for text in visitor.complaints if "Failed to load resource" not in text]


def test_where_many_ask_the_page_asks_less_by_itself_and_goes_on(visit, db):
    visitor = visit()
    refusing, busy = True, itertools.cycle((503, 429, 408))  # a proxy may say so in other ways than the app
    way = Way(visitor, lambda route: route.fulfill(status=next(busy), body="") if refusing else route.continue_())
    visitor.press(NINE, wait=30)
    assert 2 <= way.asked <= 12  # the pen was at 37 places for a second or more
    refusing = False
    expect(visitor.at("answer_digit")).to_have_text("9")
    lift(visitor, NINE)
    assert visitor.answer() == 9
    visitor.complaints[:] = [text for text in visitor.complaints if not re.search("503|429|408", text)]


def test_one_question_is_under_way_at_a_time(visit):
    visitor = visit()
    visitor.page.evaluate(
        """() => {
          const { fetch } = window;
          window.most = window.now = 0;
          window.fetch = async (...question) => {
            if (!question[0].endsWith("/answer")) return fetch(...question);
            window.most = Math.max(window.most, ++window.now);
            const answer = await fetch(...question);
            window.now -= 1;
            return answer;
          };
        }"""
    )
    visitor.press(NINE, wait=30)
    lift(visitor, NINE)
    visitor.answer()
    assert visitor.page.evaluate("window.most") == 1


def test_an_answer_that_comes_after_the_drawing_was_cleared_is_not_shown(visit):
    visitor = visit()
    (stroke,) = placed(DIGITS[7])
    held = []
    visitor.page.route("**/answer", lambda route: held.append(route))
    visitor.draw([stroke])
    assert visitor.answer() == 7
    late = held[0]
    visitor.clear()
    late.continue_()
    visitor.page.wait_for_timeout(500)
    expect(visitor.at("answer_digit")).to_have_text("")
    visitor.page.unroute("**/answer")


@pytest.mark.parametrize(("motion", "seconds"), [("no-preference", "0.1s"), ("reduce", "0s")])
def test_the_bars_move_softly_but_for_those_who_want_no_motion(visit, motion, seconds):
    visitor = visit(reduced_motion=motion)
    assert visitor.page.locator(".bar i").first.evaluate("i => getComputedStyle(i).transitionDuration") == seconds


# --- undo ------------------------------------------------------------------------------------------------------------


def by_mouse(visitor):
    visitor.at("undo").get_by_role("button").click()


def by_touch(visitor):
    visitor.at("undo").get_by_role("button").tap()


def by_key(visitor):
    visitor.page.keyboard.press("Control+z")


@pytest.mark.parametrize("undo", [by_mouse, by_touch, by_key])
def test_undo_takes_the_last_stroke_away_again_and_again(visit, db, undo):
    visitor = visit(**PHONE if undo is by_touch else {})
    (stem,), slip = placed(DIGITS[1]), SCRIBBLE[0]
    visitor.draw([stem])
    assert visitor.answer() == 1
    saved(visitor)
    kept = bytes(db.fetch_predictions().drawing[0])
    visitor.draw([slip])
    expect(visitor.at("answer_confidence")).to_contain_text("Not")
    until(lambda: bytes(db.fetch_predictions().drawing[0]) != kept)
    visitor.strokes = visitor.strokes_sent = 0
    undo(visitor)
    visitor.wait_sent([stem])
    assert visitor.answer() == 1
    until(lambda: rows(db) == [(1, None)] and bytes(db.fetch_predictions().drawing[0]) == kept)
    undo(visitor)
    expect(visitor.at("undo").get_by_role("button")).to_be_disabled()
    expect(visitor.at("answer_digit")).to_have_text("")
    assert rows(db) == [(1, None)] and bytes(db.fetch_predictions().drawing[0]) == kept
    visitor.strokes = 0
    visitor.draw(placed(DIGITS[7]))  # on the same canvas, of the same drawing
    assert visitor.answer() == 7
    visitor.label(7)
    saved(visitor, 7)
    assert rows(db) == [(7, 7)]


def test_the_undo_key_does_nothing_while_the_pen_is_down_or_in_the_history(visit, db):
    visitor = visit(viewport={"width": 1280, "height": 1400})
    first, second = placed(DIGITS[4])
    visitor.draw([first])
    visitor.press(second, wait=0)
    by_key(visitor)
    lift(visitor, second)
    assert visitor.answer() == 4 and visitor.strokes_sent == 2
    saved(visitor)
    expect(visitor.at("history")).to_contain_text("1 drawing")
    visitor.at("history").locator("[data-testid=stDataFrame]").click(position={"x": 300, "y": 60})
    by_key(visitor)
    visitor.page.wait_for_timeout(500)
    assert visitor.strokes_sent == 2
    visitor.label(4)
    saved(visitor, 4)
    assert rows(db) == [(4, 4)]


def test_an_undo_right_after_a_stroke_leaves_canvas_answer_and_row_one(visit, db):
    visitor = visit()
    first, second = placed(DIGITS[4])
    visitor.draw([first])
    saved(visitor)
    read = rows(db)
    visitor.mouse(second)
    by_key(visitor)
    visitor.page.wait_for_timeout(1000)
    saved(visitor)
    assert visitor.strokes_sent == 1
    expect(visitor.at("answer_digit")).to_have_text(re.compile(f"^{read[0][0]}?$"))
    assert rows(db) == read


# --- the canvas's script, in a browser without the rest of the page --------------------------------------------------

ALONE = """async (script) => {
  document.body.innerHTML = '<div class="st-key-canvas-1"></div><div class="st-key-clear"><button>Clear</button></div>';
  const { default: start } = await import("data:text/javascript," + encodeURIComponent(script));
  const parentElement = document.createElement("div");
  Object.assign(window, { canvas: document.querySelector("div"), clear: document.querySelector("button"), pens: [] });
  window.show = () => void start({ data: { session: "one" }, parentElement });
  show();
  window.addEventListener("pen", ({ detail }) => pens.push(detail.down));
}"""


@pytest.fixture
def alone(chromium):
    """That page, with a clock that stands still; `show()` is Streamlit sending the script again."""
    page = chromium.new_page()
    page.clock.install(time=0)
    page.goto("about:blank")
    page.clock.pause_at(3600)  # the clock runs until then
    page.evaluate(ALONE, (STATIC / "canvas.js").read_text())
    yield page
    page.close()


def test_a_canvas_that_was_ended_twice_opens_again_by_the_second_press_alone(alone):
    ended = "canvas.classList.contains('ended')"
    for again in ("", "show()"):
        alone.evaluate("clear.click()")
        alone.clock.run_for(4_000)
        alone.evaluate(f"{again}; clear.click()")
        alone.clock.run_for(4_000)
        assert alone.evaluate(ended)
        alone.evaluate(again)
        alone.clock.run_for(2_000)
        assert not alone.evaluate(ended)


def test_a_script_that_is_sent_again_while_a_stroke_is_drawn_hears_of_its_end(alone):
    alone.evaluate("canvas.dispatchEvent(new MouseEvent('mousedown', { bubbles: true }))")
    alone.evaluate("show()")
    assert alone.evaluate("pens") == [True]
    alone.evaluate("document.body.dispatchEvent(new MouseEvent('mouseup', { bubbles: true }))")
    assert alone.evaluate("pens") == [True, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_edge_of_the_canvas_stands_out_from_the_page_and_from_black_and_white(visit, scheme):
    visitor = visit(color_scheme=scheme)
    edge, page, black, white = visitor.page.evaluate(
        """() => {
          const light = (color) => {
            const [r, g, b] = color.match(/[\\d.]+/g).map((c) => c / 255);
            const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
          };
          const canvas = getComputedStyle(document.querySelector(".st-key-canvas"));
          const page = getComputedStyle(document.querySelector(".stApp"));
          return [canvas.outlineColor, page.backgroundColor, "rgb(0, 0, 0)", "rgb(255, 255, 255)"].map(light);
        }"""
    )
    for other in (page, black, white):
        assert (max(edge, other) + 0.05) / (min(edge, other) + 0.05) >= 3
