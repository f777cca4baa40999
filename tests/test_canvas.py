"""What the browser says is on the canvas: its strokes, and anything that is none."""

import io

import numpy as np
import pytest
import streamlit as st
from browser import placed
from helpers import until
from PIL import Image
from playwright.sync_api import expect
from test_browser import DIGITS

from page import canvas
from utils import render_strokes, strokes_box

# As Fabric.js says it of a pen that went through these points: the first twice, in between the middles of each two.
L = [["M", 60, 40], ["Q", 60, 40, 60, 100], ["Q", 60, 160, 100, 180.04], ["Q", 140, 200.08, 170, 200], ["L", 200, 200]]
POINTS = [(60, 40), (60, 160), (140, 200.1), (200, 200)]
INK = render_strokes([POINTS])


@pytest.fixture
def say(monkeypatch):
    """What is made of these objects, over this ink."""

    def strokes(*objects, gray=INK):
        value = {"drawing": {"raw": {"objects": list(objects)}}}
        monkeypatch.setattr(st, "session_state", {"canvas-1": value})
        return canvas.strokes_of("canvas-1", gray)

    return strokes


def test_the_strokes_are_the_points_that_the_pen_went_through(say):
    assert say({"type": "path", "path": L}) == [POINTS]
    dot = [["M", 99.99, 50], ["L", 100.01, 50]]
    assert say({"path": L}, {"path": dot}, gray=render_strokes([POINTS, [(100, 50)]])) == [POINTS, [(100, 50)]]


def test_a_pen_that_left_the_canvas_is_followed(say):
    far = [(20, 140), (400, 140)]
    assert say({"path": [["M", 20, 140], ["L", 400, 140]]}, gray=render_strokes([far])) == [far]


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [None],
        [{"type": "path"}],
        [{"path": "M 60 40"}],
        [{"path": [["M", 60]]}],
        [{"path": [["M", "sixty", 40], *L[1:]]}],
        [{"path": [["M", float("nan"), 40], *L[1:]]}],
        [{"path": [["M", 60, float("inf")], *L[1:]]}],
        [{"path": [["M", 10**400, 40], *L[1:]]}],
        [{"path": [["M", 1e9, 40], *L[1:]]}],
        [{"path": []}],
        [{"path": L}, {"path": []}],
        [{"path": L * 1000}],
        [{"path": [[part[0], *(10 + x for x in part[1:])] for part in L]}],  # elsewhere than the ink
        [{"path": L[:-1]}],
    ],
)
def test_what_is_not_the_strokes_of_this_ink_is_none_and_no_error(say, objects):
    assert say(*objects) is None


def test_a_way_that_no_pen_has_gone_is_not_kept(say):
    corners = [(1000 * (-1) ** i, 1000 * (-1) ** i) for i in range(200)]
    white = np.full((280, 280), 255, dtype=np.uint8)
    assert say({"path": [["L", *corner] for corner in corners[:10]]}, gray=white) == [corners[:10]]
    assert say({"path": [["L", *corner] for corner in corners]}, gray=white) is None


def test_without_ink_or_on_another_canvas_there_are_no_strokes(say):
    assert say({"path": L}, gray=np.zeros((280, 280), dtype=np.uint8)) is None
    assert say({"path": L}, gray=np.kron(INK, np.ones((2, 2), dtype=np.uint8))) is None


def test_a_box_of_strokes_is_that_of_their_ink(say):
    rng = np.random.default_rng(0)
    for _ in range(50):
        strokes = [rng.uniform(20, 260, (rng.integers(1, 6), 2)) for _ in range(3)]
        drawn = np.flatnonzero(render_strokes(strokes).max(axis=0) >= 32)
        left, _, right, _ = strokes_box(strokes)
        assert (left, right) == pytest.approx((drawn[0], drawn[-1] + 1), abs=1.5)


def test_a_row_holds_the_strokes_that_are_left_the_session_and_how_it_was_labelled(visit, db):
    visitor = visit()
    seven, slip = placed(DIGITS[7]), [[(20, 20), (60, 30), (30, 60)]]
    visitor.draw(seven + slip)
    visitor.answer()
    until(lambda: len(db.fetch_predictions()["strokes"][0]) == len(seven) + 1)
    visitor.at("undo").get_by_role("button").click()
    until(lambda: len(db.fetch_predictions()["strokes"][0]) == len(seven))
    expect(visitor.at("answer_digit")).to_have_text("7")
    visitor.page.get_by_role("button", name="Correct").click()
    visitor.begin()
    visitor.draw(placed(DIGITS[1]))
    visitor.answer()
    visitor.label(1)
    until(lambda: db.fetch_predictions()["true_label"].notna().sum() == 2)
    rows = db.fetch_predictions()
    assert rows["label_source"].tolist() == ["chosen", "confirmed"]
    assert rows["session"].nunique() == 1
    for strokes, drawing in zip(rows["strokes"], rows["drawing"], strict=True):
        difference = np.abs(render_strokes(strokes).astype(int) - np.asarray(Image.open(io.BytesIO(drawing))))
        assert difference.mean() < 1  # gray levels of 255
