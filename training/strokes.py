"""Drawings as strokes, lists of (x, y) points with y downward: on the canvas as the browser draws them, and made up."""

import itertools
import math
from typing import Any

import numpy as np
from PIL import Image

from utils import BOX, BRUSH_WIDTH, CANVAS_SIZE, Strokes


def place(strokes: Strokes, rng: np.random.Generator, size: int = CANVAS_SIZE) -> list[np.ndarray]:
    """Strokes of any size → canvas pixels: the longer side 35 to 85 % of the canvas, anywhere on it, as people draw."""
    points = np.vstack([np.asarray(s, dtype=np.float64) for s in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = rng.uniform(0.35, 0.85) * size / max(float((high - low).max()), 1e-6)
    extent = (high - low) * scale
    margin = np.minimum(BRUSH_WIDTH / 2, (size - extent) / 2)
    corner = margin + rng.uniform(size=2) * (size - extent - 2 * margin)
    return [(np.asarray(s, dtype=np.float64) - low) * scale + corner for s in strokes]


def numbers(images: np.ndarray, rng: np.random.Generator, size: int = CANVAS_SIZE) -> np.ndarray:
    """(n, 28, 28) uint8 of MNIST → (size, size) uint8: these digits side by side, as people write numbers.

    A full digit is 60 to 120 pixels of 280 high, less where they would not fit; its neighbours are up to 15 % larger or
    smaller and up to 12 % higher or lower; and between two lies 6 to 50 % of a digit's height.
    """
    height = size * rng.uniform(60, 120) / 280
    scales, gaps = rng.uniform(0.85, 1.15, len(images)), rng.uniform(0.06, 0.5, len(images) - 1)
    inks = [Image.fromarray(image).crop(Image.fromarray(image).getbbox()) for image in images]
    width = sum(ink.width * scale / BOX for ink, scale in zip(inks, scales, strict=True)) + gaps.sum()
    height = min(height, 0.95 * size / width)
    left = rng.uniform(0.01 * size, 0.99 * size - width * height)
    middle = rng.uniform(0.75 * height, size - 0.75 * height)
    canvas = Image.new("L", (size, size))
    for ink, scale, gap in zip(inks, scales * height / BOX, [*gaps, 0], strict=True):
        enlarged = ink.resize((round(ink.width * scale) or 1, round(ink.height * scale) or 1), Image.Resampling.BICUBIC)
        top = middle - enlarged.height / 2 + rng.uniform(-0.12, 0.12) * height
        canvas.paste(enlarged, (round(left), round(top)), enlarged)
        left += enlarged.width + gap * height
    return np.asarray(canvas)


def doodles(rng: np.random.Generator, n: int = 500) -> dict[str, list[dict[str, Any]]]:
    """Scribbles, shapes and doodles of our own making.

    Training has scribbles by other formulas, nearly the same shapes, and some of the doodles' motifs (`glyphs.py`).
    """
    t = np.linspace(0, 2 * np.pi, 120)
    makers = {"scribbles": _scribble, "shapes": _shape, "doodles": _doodle}
    return {
        name: [{"label": name, "strokes": [dense(s.tolist(), 0.05) for s in maker(rng, t)]} for _ in range(n)]
        for name, maker in makers.items()
    }


def dense(stroke: list[Any], step: float = 0.06) -> list[Any]:
    """The same stroke with no two neighbouring points further apart than `step`: the canvas rounds off far corners."""
    points = []
    for (x, y), (u, v) in itertools.pairwise(stroke):
        n = math.ceil(math.dist((x, y), (u, v)) / step)
        points += [(x + (u - x) * i / n, y + (v - y) * i / n) for i in range(n)]
    return points + stroke[-1:]


def _scribble(rng: np.random.Generator, t: np.ndarray) -> list[np.ndarray]:
    """A random sum of sines each way, of many frequencies: a tangle."""
    waves = np.arange(1, 10)
    x, y = ((rng.normal(size=(9, 1)) * np.sin(np.outer(waves, t) + rng.uniform(0, 7, (9, 1)))).sum(0) for _ in "xy")
    line = np.stack([x, y], 1)
    return [line / np.ptp(line, axis=0).max()]


def _shape(rng: np.random.Generator, t: np.ndarray) -> list[np.ndarray]:
    """A triangle, square, rectangle, star, plus or cross, turned a little and drawn by hand."""
    kind, a = rng.integers(6), rng.uniform(-0.3, 0.3)

    def at(angles: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(angles), -np.cos(angles)], 1)

    strokes = [
        [at(np.arange(4) * 2 * np.pi / 3)],
        [at((np.arange(5) + 0.5) * np.pi / 2)],
        [at((np.arange(5) + 0.5) * np.pi / 2) * [1, 0.45]],
        [at(np.arange(6) * 4 * np.pi / 5)],
        [np.array([[-1, 0], [1, 0]]), np.array([[0, -1], [0, 1]])],
        [np.array([[-1, -1], [1, 1]]), np.array([[1, -1], [-1, 1]])],
    ][kind]
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return [(s + rng.normal(0, 0.06, s.shape)) @ turn for s in strokes]


def _doodle(rng: np.random.Generator, t: np.ndarray) -> list[np.ndarray]:
    """A heart, a flower, a spring, a wave, a stick figure, a fish, a sun, a face."""

    def line(*points: tuple[float, float]) -> np.ndarray:
        return np.array(points, dtype=float)

    def ring(x: float, y: float, r: float) -> np.ndarray:
        return np.stack([x + r * np.cos(t), y + r * np.sin(t)], 1)

    petals = rng.integers(3, 7)
    kinds = [
        [np.stack([16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t)], 1) / 16],
        [np.stack([np.cos(petals * t) * np.cos(t), np.cos(petals * t) * np.sin(t)], 1)],
        [np.stack([t * 3 + 1.5 * np.cos(7 * t), 2 * np.sin(7 * t)], 1) / 9],
        [np.stack([t, np.sin(3 * t)], 1) / 3],
        [
            ring(0, -1, 0.35),
            line((0, -0.65), (0, 0.4), (-0.5, 1.2)),
            line((0, 0.4), (0.5, 1.2)),
            line((-0.6, 0), (0.6, 0)),
        ],
        [
            np.stack([np.cos(t) - np.sin(t) ** 2 / np.sqrt(2), np.cos(t) * np.sin(t)], 1),
            line((0.5, -0.1), (0.52, -0.1)),
        ],
        [
            ring(0, 0, 0.5),
            *(line((0.7 * np.cos(a), 0.7 * np.sin(a)), (1.1 * np.cos(a), 1.1 * np.sin(a))) for a in t[::15]),
        ],
        [ring(0, 0, 1), ring(-0.4, -0.3, 0.08), ring(0.4, -0.3, 0.08), ring(0, 0, 0.55)[12:48]],
    ]
    stretch = rng.uniform(0.8, 1.25, 2)
    return [s * stretch + rng.normal(0, 0.015, s.shape) for s in kinds[rng.integers(len(kinds))]]
