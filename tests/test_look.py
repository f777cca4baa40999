"""The closer look at how a drawing was drawn, and at what each part of it is worth."""

import json
import os
import uuid
from pathlib import Path

import numpy as np
import pytest
from browser import placed
from helpers import NOON, until
from playwright.sync_api import expect
from test_browser import DIGITS, rows, saved
from test_history import Person, look

from model import SERVED, load_model, predict, predict_all
from page.explanation import MOMENTS, MOST_PARTS, cut, explain, growing, length, log_odds
from training.strokes import place
from utils import encode_png, preprocess_gray, render_strokes, side_by_side_gray, smooth

DEV = Path(os.environ.get("DATA_DIR") or "data") / "drawings_dev.jsonl"


@pytest.fixture(scope="module")
def model():
    return load_model(SERVED)


def canvas_strokes(digit):
    return [[(round(x, 1), round(y, 1)) for x, y in stroke] for stroke in placed(DIGITS[digit])]


def drawn(pieces):
    return list(growing(pieces))[-1]


@pytest.fixture
def keep(db, model):
    """Saves a drawing of these strokes as a visitor's page does. Returns its id."""

    def save(lines, label=None, **others):
        gray, drawing_id = render_strokes(lines), str(uuid.uuid4())
        said = predict(model, preprocess_gray(gray), side_by_side_gray(gray))
        row = {
            "created_at": NOON,
            "digit": said.digit,
            "confidence": said.confidence,
            "probabilities": said.probabilities,
            "not_a_digit": said.not_a_digit,
            "drawing": encode_png(gray),
            "model_version": said.model_version,
        }
        db.save_prediction(drawing_id, **row | {"strokes": lines} | others)
        if label is not None:
            db.save_label(drawing_id, label)
        return drawing_id

    return save


# --- what is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digit", range(10))
def test_the_last_moment_is_what_is_read_of_the_drawing_that_is_kept(model, digit):
    strokes = canvas_strokes(digit)
    gray = render_strokes(strokes)
    why, said = explain(model, strokes, gray), predict(model, preprocess_gray(gray), side_by_side_gray(gray))
    assert len(why.moments) == MOMENTS
    assert why.moments[-1] == said
    before_it = why.moments[-2]  # from the strokes, but for a thirtieth
    assert before_it.digit == digit and before_it.probabilities != said.probabilities
    assert why.moments[0].digit != digit or digit == 0  # nobody knows it by its first thirtieth; a dot looks like a 0


def test_moments_show_the_strokes_in_their_order(model):
    strokes = canvas_strokes(4)
    first, both = (explain(model, some, render_strokes(some)) for some in (strokes[:1], strokes))
    share = sum(map(length, first.lines)) / sum(map(length, both.lines))
    then = both.moments[round(share * MOMENTS) - 1]
    assert then.digit == first.moments[-1].digit != 4
    assert both.moments[-1].digit == 4


def test_a_part_is_worth_what_the_answer_loses_without_it(model):
    strokes = canvas_strokes(9)
    why = explain(model, strokes, render_strokes(strokes))
    pieces = [part.points for part in why.parts]
    assert 4 <= len(pieces) <= 12
    assert sum(map(length, pieces)) == pytest.approx(sum(map(length, why.lines)))
    lengths = list(map(length, pieces))
    assert max(lengths) < 2 * min(lengths)
    whole = predict(model, preprocess_gray(drawn(pieces)))
    for i, part in enumerate(why.parts):
        rest = predict(model, preprocess_gray(drawn(pieces[:i] + pieces[i + 1 :])))
        assert part.without.probabilities == pytest.approx(rest.probabilities, abs=1e-6)
        assert part.worth == pytest.approx(log_odds(whole, 9) - log_odds(rest, 9), abs=1e-2)
    assert max(part.worth for part in why.parts) > 2


def test_pieces_drawn_apart_are_the_drawing():
    for digit in range(10):
        strokes = canvas_strokes(digit)
        pieces = cut([smooth(np.array(stroke)) for stroke in strokes], 40)
        assert np.abs(drawn(pieces).astype(int) - render_strokes(strokes)).mean() < 0.1  # gray levels of 255


@pytest.mark.parametrize(
    ("strokes", "parts"),
    [
        ([[(140, 140)]], 0),  # a dot is one part, and without it nothing is left
        ([[(140, 140)], [(180, 140)]], 2),
        ([[(140, 100), (140, 110)]], 0),
        ([[(x, y)] for x in range(20, 270, 50) for y in range(20, 270, 50)], 0),  # too many to press
        ([[(-400, 140), (600, 140)]], 8),  # it left the canvas, and some parts with it
    ],
)
def test_dots_short_strokes_and_those_beyond_the_canvas_are_explained_too(model, strokes, parts):
    why = explain(model, strokes, render_strokes(strokes))
    assert len(why.moments) == MOMENTS
    assert len(why.parts) == parts <= MOST_PARTS
    assert all(np.isfinite(part.worth) for part in why.parts)


def test_a_way_that_no_pen_has_gone_is_not_explained(model):
    assert explain(model, [[(0, 0), (60_000, 0)]], render_strokes(canvas_strokes(7))) is None


def test_without_ink_there_is_nothing_to_explain(model):
    assert explain(model, [[(1, 1)]], np.zeros((280, 280), dtype=np.uint8)) is None
    assert explain(model, [], render_strokes([[(140, 140)]])) is None


def test_many_are_read_as_one_is(model):
    pictures = [preprocess_gray(render_strokes(canvas_strokes(digit))) for digit in range(10)]
    for together, picture in zip(predict_all(model, pictures), pictures, strict=True):
        alone = predict(model, picture)
        assert together.digit == alone.digit
        assert together.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
        assert together.not_a_digit == pytest.approx(alone.not_a_digit, abs=1e-6)
    assert predict_all(model, []) == []


# --- what is shown ---------------------------------------------------------------------------------------------------


def real_strokes():
    if not DEV.exists():
        pytest.skip(f"needs {DEV}")
    row = json.loads(DEV.read_text().splitlines()[0])
    strokes = place(row["strokes"], np.random.default_rng(0))
    return [np.round(stroke, 1).tolist() for stroke in strokes]


@pytest.mark.parametrize("strokes", [lambda: canvas_strokes(9), real_strokes], ids=["made up", "real"])
def test_a_drawing_is_drawn_again_and_the_bars_move_with_it(chromium, url, keep, strokes):
    keep(strokes := strokes(), label=4)
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        dialog = look(visitor)
        slider, said = dialog.get_by_role("slider"), dialog.locator(".said")
        expect(said).to_contain_text("In the end: ")
        end, lines = said.inner_text(), dialog.locator(".why polyline")
        bars = dialog.get_by_role("img", name="Probability of each digit")
        in_the_end = bars.get_attribute("aria-label")
        expect(slider).to_have_value(str(MOMENTS))
        slider.press("Home")
        expect(said).to_contain_text("When 3 % was drawn: ")
        assert bars.get_attribute("aria-label") != in_the_end
        assert lines.count() == 1
        slider.press("ArrowRight")
        expect(said).to_contain_text("When 7 % was drawn: ")
        assert slider.evaluate("slider => slider.ariaValueText").startswith("7 % drawn: ")
        dialog.get_by_role("button", name="Play").press("Enter")
        expect(dialog.get_by_role("button", name="Stop")).to_be_visible()
        expect(said).to_have_text(end)
        expect(dialog.get_by_role("button", name="Play")).to_be_visible()
        assert lines.count() == len(strokes)
        assert bars.get_attribute("aria-label") == in_the_end
        assert not visitor.complaints


def test_playing_can_be_stopped_and_goes_step_by_step_where_less_motion_is_asked_for(chromium, url, keep):
    keep(canvas_strokes(7), label=7)
    tall = {"viewport": {"width": 390, "height": 1600}, "has_touch": True, "reduced_motion": "reduce"}
    with Person(chromium, url, **tall) as visitor:
        dialog = look(visitor)
        dialog.get_by_role("button", name="Play").tap()
        slider = dialog.get_by_role("slider")
        until(lambda: 3 < int(slider.input_value()) < MOMENTS or visitor.page.wait_for_timeout(20))
        dialog.get_by_role("button", name="Stop").tap()
        value = slider.input_value()
        visitor.page.wait_for_timeout(500)
        assert slider.input_value() == value


def test_a_part_is_taken_off_by_its_button_or_in_the_drawing(chromium, url, keep, model):
    strokes = canvas_strokes(9)
    keep(strokes, label=9)
    why = explain(model, strokes, render_strokes(strokes))
    with Person(chromium, url, viewport={"width": 360, "height": 1800}) as visitor:
        dialog = look(visitor)
        dialog.get_by_text("What each part is worth").click()
        buttons = dialog.locator(".why li button")
        expect(buttons).to_have_count(len(why.parts))
        best = max(range(len(why.parts)), key=lambda i: why.parts[i].worth)
        expect(buttons.nth(best)).to_contain_text("speaks strongly for the 9 (+")
        buttons.nth(best).press("Enter")
        expect(buttons.nth(best)).to_have_attribute("aria-pressed", "true")
        expect(dialog.locator(".said")).to_contain_text(f"Without part {best + 1}: ")
        expect(dialog.locator(".why [aria-live]")).to_contain_text(f"Without part {best + 1}: ")  # to a screen reader
        expect(dialog.locator(".why .off")).to_have_count(1)
        buttons.nth(best).click()
        expect(dialog.locator(".why .off")).to_have_count(0)
        expect(dialog.locator(".said")).to_contain_text("In the end: 9")
        dialog.locator(".why polyline").nth(best).click()
        expect(buttons.nth(best)).to_have_attribute("aria-pressed", "true")
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == 360
        box = dialog.locator(".why").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360


def test_of_an_own_drawing_without_a_label_the_label_is_asked_first(chromium, url, db):
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        visitor.draw(placed(DIGITS[7]))
        visitor.answer()
        visitor.clear()
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        dialog = look(visitor)
        expect(dialog).to_contain_text("Say which digit it is")
        expect(dialog.get_by_role("slider")).to_have_count(0)
        dialog.get_by_role("button", name="Show it without a label").click()
        expect(dialog.get_by_role("slider")).to_be_visible()
        expect(dialog).to_contain_text("not labelled")
        visitor.page.keyboard.press("Escape")
        visitor.draw(placed(DIGITS[1]))
        visitor.answer()
        visitor.clear()
        expect(visitor.at("history")).to_contain_text("2 drawings", timeout=15_000)
        dialog = look(visitor)
        expect(dialog.get_by_role("slider")).to_have_count(0)
        dialog.get_by_role("radio", name="1", exact=True).click()
        expect(dialog.get_by_role("slider")).to_be_visible()


def test_a_label_given_in_the_look_ends_the_drawing_that_is_on_the_canvas(chromium, url, db):
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        visitor.draw(placed(DIGITS[1]))
        assert visitor.answer() == 1
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        dialog = look(visitor)
        dialog.get_by_role("radio", name="1", exact=True).click()
        expect(dialog).to_contain_text("labelled 1: right")
        visitor.begin()  # before it is closed: what is drawn at once on the old canvas would be lost
        visitor.page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        saved(visitor, 1)
        visitor.draw(placed(DIGITS[7]))
        assert visitor.answer() == 7
        saved(visitor)
        assert rows(db) == [(7, None), (1, 1)]


def test_a_look_shows_nothing_of_the_look_before(chromium, url, db, keep):
    keep(canvas_strokes(3))
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        visitor.draw(placed(DIGITS[7]))
        visitor.answer()
        visitor.label(7)
        expect(visitor.at("history")).to_contain_text("2 drawings · 1 labelled", timeout=15_000)
        for row, words in ((0, "labelled 7: right"), (1, "not labelled")):
            dialog = look(visitor, row)
            expect(dialog).to_contain_text(words)
            visitor.page.keyboard.press("Escape")
            expect(dialog).to_have_count(0)


def test_a_row_of_another_model_says_which_one_reads_it_now(chromium, url, keep, model):
    keep(canvas_strokes(3), label=3, model_version="an older one")
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        dialog = look(visitor)
        expect(dialog).to_contain_text(f"Read again, by another model, {model.version}.")
        expect(dialog).to_contain_text("model an older one")


def test_a_row_without_strokes_looks_as_it_did(chromium, url, keep):
    keep(canvas_strokes(3), label=3, strokes=None)
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        dialog = look(visitor)
        expect(dialog).to_contain_text("labelled 3: right")
        expect(dialog.get_by_role("img", name="Probability of each digit")).to_be_visible()
        expect(dialog.get_by_role("slider")).to_have_count(0)
