"""What is shown of an answer: the page's own script in a Chromium without the app."""

import json
from pathlib import Path

import pytest
from browser import open_browser

STATIC = Path(__file__).parent.parent / "page" / "static"
RUN = """async ([script, data]) => {
  const { default: run } = await import("data:text/javascript," + encodeURIComponent(script));
  window.sent ??= [];
  run({ data, parentElement: document.body, setStateValue: (name, value) => window.sent.push([name, value]) });
}"""


def said(digit=7, confidence=0.97, not_a_digit=0.01, parts=(), **others):
    """An answer as `POST /answer` gives it. others: p3=0.2 for the probability of a digit."""
    probabilities = [0.0] * 10
    probabilities[digit] = confidence
    for name, p in others.items():
        probabilities[int(name[1])] = p
    answer = {"digit": digit, "confidence": confidence, "probabilities": probabilities, "not_a_digit": not_a_digit}
    return answer | {"parts": list(parts), "picture": f"picture{digit}{confidence}"}


@pytest.fixture(scope="module")
def chromium():
    with open_browser() as browser:
        yield browser


class View:
    """The answer on a page of its own, given data as Streamlit gives it, and events as the other scripts make them."""

    def __init__(self, page):
        self.page = page
        page.set_content((STATIC / "answer.html").read_text())

    def run(self, answer=None, drawing="one", stroke=None, refusal=""):
        data = {"drawing": drawing, "stroke": stroke, "answer": answer, "refusal": refusal}
        self.page.evaluate(RUN, [(STATIC / "answer.js").read_text(), data])
        return self

    def event(self, name, **detail):
        self.page.evaluate(f"window.dispatchEvent(new CustomEvent('{name}', {{ detail: {json.dumps(detail)} }}))")

    def live(self, answer, stroke, drawing="one"):
        self.event("answer", answer=answer, stroke=stroke, drawing=drawing)

    def text(self, selector):
        return " ".join(self.page.locator(selector).text_content().split())

    @property
    def digit(self):
        return self.text(".st-key-answer_digit")

    @property
    def words(self):
        return self.text(".st-key-answer_confidence")

    @property
    def told(self):
        """What a screen reader hears."""
        return self.text("[role=status]")

    @property
    def bars(self):
        return self.page.locator(".bars").get_attribute("aria-label")

    def classes(self, selector):
        return self.page.locator(selector).get_attribute("class").split()


@pytest.fixture
def view(chromium):
    page = chromium.new_page()
    yield View(page)
    page.close()


def test_an_empty_canvas_asks_for_a_digit_and_a_refusal_says_why(view):
    assert view.words == "Draw a digit to begin"  # before the script, too
    view.run()
    assert (view.digit, view.words, view.told) == ("", "Draw a digit to begin", "Draw a digit to begin")
    assert view.bars == "Probability of each digit. nothing drawn yet"
    view.run(drawing="two", refusal="That was <b>no</b> drawing.")
    assert view.words == view.told == "That was <b>no</b> drawing."


@pytest.mark.parametrize(
    ("p", "percent", "short"),
    [
        (1.0, "> 99.9 %", ">99%"),
        (0.9991, "> 99.9 %", ">99%"),
        (0.9899, "99.0 %", "99%"),
        (0.5, "50.0 %", "50%"),
        (0.004, "0.4 %", ""),
        (0.0, "< 0.1 %", ""),
    ],
)
def test_no_probability_is_rounded_to_a_certainty(view, p, percent, short):
    view.run(said(7, 0.5, p3=p))
    assert f"3: {percent}" in view.bars
    assert view.text(".bar:nth-child(4) b") == short
    assert view.page.locator(".bar:nth-child(4) i").evaluate("bar => bar.style.getPropertyValue('--p')") == f"{p:.3f}"


def test_a_sure_answer_is_shown_with_its_digit_bars_and_picture(view):
    view.run(said(7, 0.97))
    assert (view.digit, view.words, view.told) == ("7", "97.0 % sure", "Read as 7: 97.0 % sure")
    assert "sure" in view.classes(".digit") and "best" in view.classes(".bar:nth-child(8)")
    assert view.page.locator("img").get_attribute("src") == "data:image/png;base64,picture70.97"


def test_a_doubtful_answer_names_the_runner_up(view):
    view.run(said(7, 0.35, p1=0.3, p2=0.2))
    assert view.words == "35.0 % Not sure. It could also be a 1 (30.0 %)."
    assert "doubt" in view.classes(".digit")


def test_what_is_turned_away_has_no_digit_and_its_bars_say_that_they_hold_only_if_it_is_one(view):
    view.run(said(0, 0.9, not_a_digit=0.7))
    assert view.digit == "" and view.words.startswith("Not a digit?") and view.told == view.words
    assert view.bars.startswith("Probability of each digit, if it is one after all. 0: 90.0 %")
    assert "doubt" in view.classes(".bars") and "best" not in view.classes(".bar:nth-child(1)")
    view.run(said(0, 0.9, not_a_digit=0.5))  # a half is not above a half
    assert view.digit == "0" and "doubt" not in view.classes(".bars")


def test_several_digits_are_named(view):
    view.run(said(7, 0.9, parts=(1, 2, 7)))
    assert view.words == "One at a time This looks like 1, 2 and 7 side by side."


def test_an_answer_while_the_pen_is_down_is_shown_and_only_what_stays_is_told(view):
    view.run()
    view.event("pen", stroke=1, down=True)
    view.live(said(0), 1)
    assert (view.digit, view.told) == ("0", "Draw a digit to begin")
    assert view.page.locator(".answer").get_attribute("aria-busy") == "true"
    view.live(said(9), 1)
    assert view.digit == "9"
    view.event("sent")
    assert view.page.evaluate("window.sent") == [["stroke", 1]]
    view.run(said(9, 0.98), stroke=1)
    assert (view.digit, view.told) == ("9", "Read as 9: 98.0 % sure")
    assert view.page.locator(".answer").get_attribute("aria-busy") == "false"


def test_no_answer_takes_the_place_of_a_newer_one(view):
    view.run()
    view.event("pen", stroke=1, down=True)
    view.live(said(0), 1)
    view.run(said(9), stroke=1)
    view.live(said(1), 1)  # asked before the stroke ended
    assert view.digit == "9"
    view.event("pen", stroke=2, down=True)
    view.live(said(8), 2)
    view.run(said(9), stroke=1)  # what was answered at the end of the first stroke comes once more
    assert view.digit == "8"
    view.run(said(8, 0.9), stroke=2)
    assert view.words == "90.0 % sure"


def test_no_answer_to_the_drawing_before_is_shown(view):
    view.run(said(7), stroke=1)
    view.event("pen", stroke=2, down=True)
    view.live(said(2), 2)
    view.run(drawing="two", stroke=2)
    view.live(said(3), 2, drawing="one")
    assert (view.digit, view.words) == ("", "Draw a digit to begin")


def test_without_live_answers_every_answer_of_the_server_is_shown(view):
    view.run()
    for stroke in (1, 2):
        view.event("pen", stroke=stroke, down=True)
    view.run(said(4), stroke=1)
    assert view.digit == "4"
