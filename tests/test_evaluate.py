"""Evaluation: the numbers are those of the textbooks, and its drawings are what a browser draws."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Visitor, open_browser, serve
from PIL import Image
from test_train import write_mnist

import evaluate
from model import load_model, predict
from training import glyphs, nothing
from training.strokes import dense, doodles, numbers, place
from utils import CANVAS_SIZE, decode_drawing, preprocess, preprocess_gray, render_strokes, to_gray

ROOT = Path(__file__).parent.parent


def test_wilson_gives_the_interval_of_the_literature():
    low, high = evaluate.wilson(2, 20)  # Newcombe (1998), table I: 2 of 20
    assert (low, high) == pytest.approx((0.0279, 0.3010), abs=2e-4)
    assert evaluate.wilson(1000, 1000)[0] == pytest.approx(0.9962, abs=1e-4)


def test_calibration_error_is_the_mean_distance_of_confidence_from_accuracy():
    always = np.full(100, 0.9)
    assert evaluate.calibration_error(always, np.arange(100) < 90) == pytest.approx(0, abs=1e-9)
    assert evaluate.calibration_error(always, np.arange(100) < 50) == pytest.approx(0.4)
    # Two bins whose errors have opposite signs do not cancel.
    confidence, right = np.repeat([0.55, 0.95], 50), np.repeat([True, False], 50)
    assert evaluate.calibration_error(confidence, right) == pytest.approx((0.45 + 0.95) / 2)


def test_area_under_the_roc_curve_counts_pairs_in_order_and_ties_half():
    assert evaluate.area_under_roc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert evaluate.area_under_roc(np.array([1.0, 4.0]), np.array([2.0, 3.0])) == 0.5
    assert evaluate.area_under_roc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5


def test_a_placed_drawing_lies_on_the_canvas_at_35_to_85_percent_of_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = np.vstack(place([[[0, 0], [0.3, 1]], [[0.1, 0.5], [0.4, 0.2]]], rng))
        assert points.min() >= 0 and points.max() <= CANVAS_SIZE
        assert 0.35 <= np.ptp(points, axis=0).max() / CANVAS_SIZE <= 0.85


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small MNIST, and drawings of digits and letters."""
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder, 80)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        strokes = glyphs.DIGITS[i % 10][0]
        rows.append(
            {
                "set": "hand",
                "label": i % 10,
                "strokes": [(s / 9 + rng.normal(0, 0.02, s.shape)).tolist() for s in strokes],
            }
        )
    for i in range(20):
        strokes = [(s / 9).tolist() for s in nothing.LETTERS[i]]
        rows.append({"set": "letters", "label": "K" if i else "O", "strokes": strokes})
    (folder / "drawings.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture
def few(monkeypatch):
    """Of what no file holds, a few are enough."""
    monkeypatch.setattr(evaluate, "doodles", lambda rng: doodles(rng, 20))
    monkeypatch.setattr(evaluate, "PAIRS", 20)


@pytest.fixture
def command(few, files, monkeypatch, capsys):
    """Runs evaluate.py with these arguments and returns what it prints."""

    def run(*more):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, ["--data", files, files / "drawings.jsonl", *more])])
        evaluate.main()
        return capsys.readouterr().out

    return run


def test_the_command_prints_a_table_and_a_contact_sheet(command, tmp_path):
    table = command("--errors", tmp_path / "errors.png")
    for word in (
        "MNIST test",
        "hand",
        "letters",
        "scribbles",
        "shapes",
        "doodles",
        "area under ROC",
        "pairs",
        "milliseconds",
    ):
        assert word in table
    with Image.open(tmp_path / "errors.png") as sheet:
        assert sheet.width > 100


def test_the_command_prints_json_for_programs(command):
    figures = json.loads(command("--json"))
    hand = figures["digits"]["hand"]
    assert hand["n"] == 40 and hand["accuracy"] > 90 and len(hand["errors by class"]) == 10
    assert hand["interval"][0] < hand["accuracy"] < hand["interval"][1] or hand["accuracy"] == 100
    assert figures["not digits"]["letters"]["n"] == 19  # the O looks like a zero, and is left out
    assert 0.9 < figures["not digits"]["letters"]["auc"] <= 1


def evaluate_rows(files, tmp_path, *of_each_file: list[dict]) -> dict:
    paths = [tmp_path / f"{i}.jsonl" for i in range(len(of_each_file))]
    for path, rows in zip(paths, of_each_file, strict=True):
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return evaluate.evaluate(load_model(ROOT / "model.pth"), files, paths)[0]


SEVEN, ZIGZAG = [[[0, 0], [5, 0], [2, 9]]], [[[0, 0], [9, 2], [0, 4], [9, 6], [0, 8]]]


@pytest.mark.usefixtures("few")
def test_a_set_may_hold_digits_and_others_and_be_spread_over_files(files, tmp_path):
    seven, zigzag = ({"set": "mine", "label": label, "strokes": s} for label, s in ((7, SEVEN), ("zigzag", ZIGZAG)))
    figures = evaluate_rows(files, tmp_path, [seven, zigzag], [seven])
    assert figures["digits"]["mine"]["n"] == 2 and figures["not digits"]["mine"]["n"] == 1
    assert figures["digits"]["mine"]["errors by class"] == [None] * 7 + [0] + [None] * 2
    json.dumps(figures, allow_nan=False)
    assert evaluate.table(figures).count("mine") == 3


@pytest.mark.usefixtures("few")
def test_what_is_no_digit_is_held_against_mnist_where_no_digit_was_drawn(files, tmp_path):
    figures = evaluate_rows(files, tmp_path, [{"set": "mine", "label": "zigzag", "strokes": ZIGZAG}])
    assert list(figures["digits"]) == ["MNIST test"]
    assert 0 <= figures["not digits"]["mine"]["auc"] <= 1


@pytest.mark.parametrize(
    "line", ["{", "7", '{"set": "a", "label": 1}', '{"set": "a", "label": 1, "strokes": []}',
             '{"set": "a", "label": 1, "strokes": [[1, 2, 3]]}', '{"label": 1, "strokes": [[[1, 2]]]}',
             '{"set": "a", "label": "7", "strokes": [[[1, 2]]]}', '{"set": "a", "label": true, "strokes": [[[1, 2]]]}',
             '{"set": "a", "label": [1], "strokes": [[[1, 2]]]}', '{"set": {}, "label": 1, "strokes": [[[1, 2]]]}'],
)  # fmt: skip
def test_a_line_that_is_no_drawing_is_named(tmp_path, line):
    path = tmp_path / "drawings.jsonl"
    path.write_text(json.dumps({"set": "a", "label": 7, "strokes": SEVEN}) + "\n\n" + line + "\n")
    with pytest.raises(ValueError, match=r"drawings\.jsonl, line 3 is no drawing"):
        evaluate.read_drawings(path)


def test_doodles_are_drawings_and_no_two_are_the_same():
    for rows in doodles(np.random.default_rng(0), 20).values():
        pictures = [preprocess_gray(render_strokes(place(row["strokes"], np.random.default_rng(1)))) for row in rows]
        assert all(p is not None for p in pictures)
        assert len({p.numpy().tobytes() for p in pictures}) == 20


def test_numbers_are_whole_digits_side_by_side_on_the_canvas():
    rng = np.random.default_rng(0)
    bar = np.zeros((28, 28), np.uint8)
    bar[4:24, 12:16] = 255
    for n in (2, 3, 5):
        canvas = numbers(np.stack([bar] * n), rng)
        assert canvas.shape == (CANVAS_SIZE, CANVAS_SIZE) and canvas.dtype == np.uint8
        filled = (canvas > 100).any(0)
        assert not filled[0] and not filled[-1]
        assert np.diff(filled.astype(int)).clip(min=0).sum() == n


def test_shapes_keep_their_corners():
    corner = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]])  # the canvas rounds it off if it is drawn with three points
    far, near = (render_strokes([stroke * CANVAS_SIZE]) for stroke in (corner, np.array(dense(corner.tolist()))))
    assert far[28, 252] == 0 and near[28, 252] == 255
    for row in doodles(np.random.default_rng(0), 20)["shapes"]:
        assert all(np.linalg.norm(np.diff(stroke, axis=0), axis=1).max() < 0.06 for stroke in row["strokes"])


@pytest.fixture(scope="module")
def visitor(server):
    with open_browser() as browser, serve(**server) as url, Visitor(browser, url) as visitor:
        yield visitor


@pytest.mark.parametrize("digit", range(10))
def test_strokes_drawn_in_chromium_and_rendered_here_are_the_same_picture(visitor, digit):
    template = [s / 9 for s in glyphs.DIGITS[digit][1]]
    visitor.draw([glyphs.chaikin(s, 4).tolist() for s in place(template, np.random.default_rng(digit))])
    drawn = decode_drawing(visitor.sent[-1])
    # A browser merges what a mouse does within a frame: these are the points that it made of the movement.
    points = [[command[1:3] for command in stroke["path"][1:]] for stroke in visitor.raw["objects"]]
    visitor.clear()
    rendered = render_strokes(points)

    assert drawn.shape == (CANVAS_SIZE, CANVAS_SIZE, 4)
    difference = np.abs(to_gray(drawn).astype(float) - rendered)
    assert difference.mean() < 1  # gray levels of 255: only the rims of the strokes differ
    a, b = preprocess(drawn), preprocess_gray(rendered)
    shifts = [b.roll((dy, dx), (2, 3)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert min(float((a - s).abs().sum() / a.sum()) for s in shifts) < 0.05
    model = load_model(ROOT / "model.pth")
    in_browser, here = predict(model, a), predict(model, b)
    assert in_browser.digit == here.digit == digit
    assert torch.allclose(torch.tensor(in_browser.probabilities), torch.tensor(here.probabilities), atol=0.1)
