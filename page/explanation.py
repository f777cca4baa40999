"""Why a drawing was read so: what the network said while it was drawn, and what each part of it is worth.

Both are read from pictures that are drawn from the strokes and preprocessed as every drawing is, a real intervention on
what the network is given: a map of its gradients is speckle at 28 pixels. All of them go through it as one batch.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from model import DigitNet, Prediction, predict, predict_all
from page.canvas import LONGEST
from utils import BRUSH_WIDTH, CANVAS_SIZE, Strokes, preprocess_gray, render_lines, side_by_side_gray, smooth

MOMENTS = 30
PARTS = 8  # of similar length that a drawing is cut into, about; no part is of two strokes
MOST_PARTS = 24
SHORTEST = 2 * BRUSH_WIDTH  # pixels of a stroke that are a part of their own


@dataclass(frozen=True)
class Part:
    """A stroke, or a piece of one."""

    points: np.ndarray  # (n, 2), on the canvas
    worth: float  # how much lower the log-odds of the answer are without it; below 0: it speaks against the answer
    without: Prediction  # what is read of the rest


@dataclass(frozen=True)
class Explanation:
    lines: list[np.ndarray]  # each stroke, (n, 2), as the canvas draws it
    moments: list[Prediction | None]  # after equal lengths of the pen's way; the last is of the drawing that is kept
    parts: list[Part]  # nothing where there is one alone


def explain(model: DigitNet, strokes: Strokes, gray: np.ndarray) -> Explanation | None:
    """strokes: in pixels of the canvas; gray: (h, w) uint8, the drawing as it is kept.

    None without ink, and of a way that no pen has gone.
    """
    if not strokes or sum(length(np.asarray(stroke)) for stroke in strokes) > LONGEST:
        return None
    if (picture := preprocess_gray(gray)) is None:
        return None
    last = predict(model, picture, side_by_side_gray(gray))
    lines = [smooth(np.asarray(stroke, dtype=np.float64)) for stroke in strokes]
    total = sum(map(length, lines))
    _, *grown = growing(cut(lines, total / MOMENTS))
    moments = [grown[min(len(grown) - 1, round(i * len(grown) / MOMENTS))] for i in range(MOMENTS - 1)]
    pieces = cut(lines, max(total / PARTS, SHORTEST))
    pieces = pieces if 1 < len(pieces) <= MOST_PARTS else []
    before, after = list(growing(pieces)), list(growing(pieces[::-1]))[::-1]
    rests = [np.maximum(before[i], after[i + 1]) for i in range(len(pieces))]
    of_whole, *read = read_all(model, [grown[-1], *moments, *rests])
    parts = [
        Part(piece, log_odds(of_whole or last, last.digit) - log_odds(without, last.digit), without)
        for piece, without in zip(pieces, read[len(moments) :], strict=True)
        if without
    ]
    return Explanation(lines, [*read[: len(moments)], last], parts)


def read_all(model: DigitNet, canvases: list[np.ndarray]) -> list[Prediction | None]:
    """What is read of each (280, 280) uint8; None where the pen was beyond the canvas and there is no ink."""
    pictures = [preprocess_gray(canvas) for canvas in canvases]
    read = iter(predict_all(model, [picture for picture in pictures if picture is not None]))
    return [None if picture is None else next(read) for picture in pictures]


def log_odds(prediction: Prediction, digit: int) -> float:
    """Of this digit against the nine others."""
    others = math.fsum(p for d, p in enumerate(prediction.probabilities) if d != digit)
    return math.log(max(prediction.probabilities[digit], 1e-300)) - math.log(max(others, 1e-300))


def length(line: np.ndarray) -> float:
    """Of the pen's way, in pixels; a dot's is 1."""
    return max(1.0, float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()))


def cut(lines: Iterable[np.ndarray], most: float) -> list[np.ndarray]:
    """Lines → in their order, pieces about as long as `most`; a shorter line stays whole."""
    pieces = []
    for line in lines:
        n = max(1, round(length(line) / most))
        way = np.r_[0, np.linalg.norm(np.diff(line, axis=0), axis=1).cumsum()]
        for start, end in zip(np.arange(n) / n * way[-1], np.arange(1, n + 1) / n * way[-1], strict=True):
            at = np.r_[start, way[(way > start) & (way < end)], end]
            pieces.append(np.stack([np.interp(at, way, line[:, 0]), np.interp(at, way, line[:, 1])], axis=1))
    return pieces


def growing(pieces: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """(280, 280) uint8 as `render_strokes` draws it: empty, and then after each piece.

    A piece is drawn on a sheet as large as it needs: that is most of the time.
    """
    canvas, radius = np.zeros((CANVAS_SIZE, CANVAS_SIZE), dtype=np.uint8), BRUSH_WIDTH / 2
    yield canvas
    for piece in pieces:
        low = np.clip(np.floor(piece.min(axis=0) - radius - 1), 0, CANVAS_SIZE - 1).astype(int)
        high = np.clip(np.ceil(piece.max(axis=0) + radius + 1), low + 1, CANVAS_SIZE).astype(int)
        width, height = (high - low).tolist()
        canvas = canvas.copy()
        part = canvas[low[1] : high[1], low[0] : high[0]]
        np.maximum(part, render_lines([piece - low], width, height), out=part)
        yield canvas
