"""Preprocessing: the same picture wherever, however large and with whichever pen a digit is drawn."""

import io
import math
import zlib

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import utils
from utils import DrawingError, decode_drawing, encode_png, preprocess, render_strokes, side_by_side, wilson

# A seven with a crossbar, in a box of side 1: corners, a slope and two strokes.
SEVEN = [np.array([[0.1, 0.0], [0.8, 0.02], [0.6, 0.4], [0.35, 1.0]]), np.array([[0.2, 0.5], [0.7, 0.48]])]


def canvas(gray: np.ndarray) -> np.ndarray:
    """(h, w) uint8 → the (h, w, 4) canvas on which it is drawn in white on opaque black."""
    return np.dstack([gray, gray, gray, np.full_like(gray, 255)])


def seven(size: float, x: float, y: float, brush: float) -> torch.Tensor:
    return preprocess(canvas(render_strokes([s * size + (x, y) for s in SEVEN], brush=brush)))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean absolute difference relative to the mean ink: 0 is the same picture, 2 is no ink in common."""
    return float((a - b).abs().sum() / ((a.sum() + b.sum()) / 2))


def nearest_shift(a: torch.Tensor, b: torch.Tensor) -> float:
    """`difference` after the best move by one pixel: the centre of mass is rounded to whole pixels."""
    return min(difference(a, b.roll((dy, dx), (2, 3))) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


def test_a_picture_is_twenty_pixels_long_centred_and_of_full_contrast():
    x = seven(200, 30, 40, 20)
    assert x.shape == (1, 1, 28, 28) and x.dtype == torch.float32
    assert x.min() == 0 and x.max() == 1
    rows, columns = x[0, 0].sum(1).nonzero(), x[0, 0].sum(0).nonzero()
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == 20
    place = torch.arange(28.0)
    for profile in (x.sum((0, 1, 3)), x.sum((0, 1, 2))):
        assert abs(float(profile @ place / profile.sum()) - 14) <= 0.5


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1))
def test_moving_a_drawing_changes_what_the_network_sees_by_at_most_a_tenth(u, v):
    still, moved = seven(120, 20, 20, 20), seven(120, 10 + 140 * u, 10 + 140 * v, 20)
    assert nearest_shift(still, moved) < 0.1


@settings(deadline=None, max_examples=50)
@given(st.floats(0.2, 1))
def test_scaling_a_drawing_from_20_to_100_percent_changes_what_the_network_sees_by_at_most_a_third(scale):
    large = seven(240, 10, 20, 20)
    scaled = seven(240 * scale, 10, 20, 20 * scale)
    assert nearest_shift(large, scaled) < 1 / 3


@settings(deadline=None, max_examples=50)
@given(st.floats(12, 30))
def test_a_thicker_pen_thickens_the_picture_and_does_not_move_it(brush):
    usual, other = seven(200, 30, 30, 20), seven(200, 30, 30, brush)
    # All that changes is a rim along the strokes, so the ink of the thinner one lies within that of the thicker one.
    thin, thick = (usual, other) if brush > 20 else (other, usual)
    shifts = [thick.roll((dy, dx), (2, 3)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert min(float((thin - t).clamp(min=0).sum() / thin.sum()) for t in shifts) < 0.12
    assert nearest_shift(usual, other) < 0.45


def test_a_blank_canvas_is_no_drawing():
    assert preprocess(canvas(np.zeros((280, 280), np.uint8))) is None
    assert preprocess(np.zeros((280, 280, 4), np.uint8)) is None  # transparent, as before the first stroke
    assert preprocess(np.full((280, 280, 4), (255, 255, 255, 0), np.uint8)) is None  # white, but not there


def test_a_dot_and_a_stroke_that_leaves_the_canvas_are_drawings():
    assert preprocess(canvas(render_strokes([[(140, 140)]]))).sum() > 0
    assert preprocess(canvas(render_strokes([[(270, 100), (400, 150), (270, 200)]]))).sum() > 0


@settings(deadline=None, max_examples=150)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(4))))
def test_any_uint8_canvas_gives_a_picture_or_none(rgba):
    x = preprocess(rgba)
    assume(x is not None)
    assert x.shape == (1, 1, 28, 28)
    assert torch.isfinite(x).all() and x.min() >= 0 and x.max() == 1


def test_a_canvas_of_another_size_gives_the_same_picture():
    gray = render_strokes([s * 200 + 30 for s in SEVEN])
    twice = np.asarray(Image.fromarray(gray).resize((560, 560), Image.Resampling.BICUBIC))
    assert difference(preprocess(canvas(gray)), preprocess(canvas(twice))) < 0.05


NO_CANVAS = [
    np.zeros((280, 280), np.uint8),
    np.zeros((280, 280, 3), np.uint8),
    np.zeros((280, 280, 4)),
    np.zeros((0, 5, 4), np.uint8),
    np.zeros((1, utils.MAX_SIDE + 1, 4), np.uint8),
    None,
    "drawing",
]


@pytest.mark.parametrize("array", NO_CANVAS)
def test_an_array_that_is_no_canvas_is_refused_in_words(array):
    with pytest.raises(DrawingError, match="A canvas image"):
        preprocess(array)


def test_a_drawing_comes_back_from_its_png_as_it_was():
    gray = render_strokes([s * 200 + 30 for s in SEVEN])
    stored = encode_png(canvas(gray))
    assert Image.open(io.BytesIO(stored)).mode == "L"
    assert np.array_equal(decode_drawing(stored)[..., 0], gray)
    assert torch.equal(preprocess(decode_drawing(stored)), preprocess(canvas(gray)))


def png(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_png_that_claims_huge_dimensions_is_refused_before_it_is_decoded(monkeypatch):
    def decoded(*_):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    for size in ((13_000, 13_000), (60_000, 60_000), (60_000, 28), (28, 60_000)):
        with pytest.raises(DrawingError, match="pixels"):
            decode_drawing(png(*size))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png(28, 28), b"\0" * (utils.MAX_PNG_BYTES + 1), "text", None]
)
def test_bytes_that_are_no_png_are_refused_in_words(data):
    with pytest.raises(DrawingError, match="PNG"):
        decode_drawing(data)


def test_more_bytes_than_a_drawing_has_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(utils, "MAX_PNG_BYTES", 100)
    with pytest.raises(DrawingError, match="at most 100 bytes"):
        decode_drawing(encode_png(np.zeros((280, 280), np.uint8)))


def test_another_image_format_is_refused():
    buffer = io.BytesIO()
    Image.new("RGB", (280, 280)).save(buffer, format="JPEG")
    with pytest.raises(DrawingError, match="PNG"):
        decode_drawing(buffer.getvalue())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_of_any_mode_is_read(mode):
    image = Image.fromarray(render_strokes([s * 200 + 30 for s in SEVEN]))
    if mode == "I;16":
        gray = np.asarray(image, np.uint16) * 257
        image = Image.fromarray(np.maximum(gray, 300))  # nearly black
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    expected = seven(200, 30, 30, 20)
    assert nearest_shift(preprocess(decode_drawing(buffer.getvalue())), expected) < 0.12


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (90, 100), (1, 2), (58_278, 59_903)])
def test_the_bounds_are_the_shares_from_which_the_one_seen_is_just_possible(right, n):
    for bound in wilson(right, n):  # the score test's own equation, which Wilson's interval solves
        assert abs(right / n - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / n), abs=1e-7)


def test_a_wilson_interval_ends_at_0_and_1_and_not_beside_them():
    for n in range(1, 500):
        assert wilson(n, n)[1] <= 1
        assert wilson(0, n)[0] >= 0


def test_the_wilson_interval_holds_the_truth_95_times_in_100():
    n, p = 40, 0.9
    weight = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    covered = sum(w for k, w in enumerate(weight) if wilson(k, n)[0] <= p <= wilson(k, n)[1])
    assert 0.92 < covered < 0.98


def strokes_at(*columns: tuple[int, int], lean: int = 0) -> np.ndarray:
    """A canvas with bars from one column to another, leaning to the right by so many pixels from foot to top."""
    canvas = np.zeros((280, 280, 4), np.uint8)
    for y in range(60, 220):
        for left, right in columns:
            shift = round(lean * (220 - y) / 160)
            canvas[y, left + shift : right + shift] = 255
    return canvas


def test_parts_lie_side_by_side_where_an_empty_strip_is_between_them_upright_or_leaning():
    for lean in (0, 40):
        parts = side_by_side(strokes_at((60, 80), (100, 130), (150, 170), lean=lean))
        assert len(parts) == 3
        assert all(part.shape == (1, 1, 28, 28) and part.max() == 1 for part in parts)
    alone = strokes_at((100, 130))
    assert torch.equal(side_by_side(strokes_at((60, 80), (100, 130)))[1], preprocess(alone))
    assert side_by_side(alone) == [] and side_by_side(np.zeros((280, 280, 4), np.uint8)) == []


def test_a_dot_or_a_cap_beside_a_digit_is_no_part_of_its_own():
    canvas = strokes_at((60, 80))
    canvas[60:100, 100:140] = 255
    assert side_by_side(canvas) == []


def test_parts_are_the_same_on_a_canvas_of_device_pixels():
    canvas = strokes_at((60, 80), (100, 130))
    enlarged = canvas.repeat(3, 0).repeat(3, 1)
    for part, small in zip(side_by_side(enlarged), side_by_side(canvas), strict=True):
        assert torch.allclose(part, small, atol=0.02)
