"""Synthetic line drawings: styles of digits that MNIST hardly has, and drawings that are no digit.

All are (56, 56) bool pictures of lines one pixel wide, which `augment.draw` draws with a pen. Templates are control
points on a 0..9 grid, x before y and y downward: "23 50 59" goes from (2, 3) by (5, 0) to (5, 9); "/" lifts the pen.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from training.augment import FINE

DIGITS = {
    0: """
        50 20 13 16 29 59 79 86 83 70 40 | 50 20 13 16 29 59 79 86 83 70 50 / 81 18
        50 20 13 16 29 59 79 86 83 70 50 / 90 09 | 50 20 13 16 29 59 79 86 83 70 50 / 53 56
        60 30 13 16 29 59 79 86 83 70 42 | 30 13 16 29 59 79 86 83 70 20 10 | 51 31 14 15 28 48 68 85 74 61 51 / 50 49
        52 33 25 47 67 75 63 52 / 80 29 | 32 13 05 17 47 55 43 32 / 70 09
        42 23 25 46 66 74 62 42 / 60 49 | 25 46 66 74 62 42 23 25 16 / 50 39
        51 31 14 15 28 48 68 85 74 61 51 / 60 39 | 72 50 21 15 28 58 86 83 61 30""",
    1: """
        50 59 | 23 50 59 | 14 50 59 | 05 50 59 | 16 50 59 | 24 50 59 / 29 79 | 50 59 / 29 79 | 05 50 59 / 19 89
        33 50 59 / 39 69 | 07 50 59 | 42 50 59 | 30 59 | 34 41 50 59 | 35 52 60 59 | 15 33 50 59 | 24 60 49 | 06 60 49
        25 50 58 / 28 79 / 50 59 | 13 40 50 59 | 50 59 78 | 25 24 52 60 48 39 | 45 44 60 49""",
    2: """
        11 50 82 74 09 99 | 10 80 19 89 | 22 40 71 74 37 18 07 38 99 | 12 40 72 65 19 37 89 | 10 70 84 46 09 59 97
        13 20 71 74 29 47 88 | 02 20 60 73 46 28 09 17 39 99
        20 50 61 53 27 18 38 68 87 | 12 31 61 72 54 27 09 28 48 98""",
    3: """
        10 80 44 86 59 18 | 11 50 82 44 86 59 18 | 10 80 44 74 87 59 18 | 00 80 55 77 59 09 | 11 60 73 34 73 77 59 08
        10 80 33 53 66 49 28 | 12 40 72 54 33 64 77 49 17 | 02 30 61 53 44 56 47 09 | 11 40 71 53 55 66 49 18
        10 70 44 66 49 18 | 20 80 43 55 67 39
        11 50 72 45 25 55 87 59 28""",
    4: """
        20 15 85 / 60 69 | 50 06 96 / 60 69 | 60 06 96 / 63 69 | 30 26 86 / 64 69 | 69 60 06 96 | 60 69 / 60 05 95
        10 15 85 / 80 89 | 20 26 76 / 80 69 | 40 08 98 / 55 59 | 50 16 86 / 50 49 | 50 06 96 / 50 59
        30 06 86 / 73 49 | 10 24 55 82 / 80 69 | 20 16 95 / 72 59 | 40 25 16 35 95 / 61 49 | 60 34 06 56 96 / 64 59
        30 16 36 75 / 71 59 | 50 15 75 70 69 | 21 15 45 84 / 81 79 | 31 13 16 36 65 83 74 57 49
        40 24 15 54 / 71 54 29 | 30 13 04 43 / 61 53 28 | 20 04 16 45 81 / 70 66 59 79 | 40 22 06 26 55 74 63 47 29
        10 06 27 46 / 55 59 | 20 06 27 37 / 45 39 | 20 06 17 46 / 44 49""",
    5: """
        80 20 14 55 87 59 18 | 20 14 55 87 59 18 / 20 80 | 90 20 14 44 85 78 29 08 | 20 24 64 67 59 19 / 20 90
        10 15 45 77 49 08 / 10 90 | 90 40 24 54 77 58 18 | 70 30 25 54 76 67 29 18 | 80 30 34 65 67 38 07
        72 31 33 24 54 66 58 38 17 | 80 30 24 43 64 76 68 48 26""",
    6: """
        60 24 17 39 78 66 35 17 | 80 17 49 87 65 17 | 50 14 18 59 88 75 26 | 20 16 39 79 86 55 16
        90 33 06 29 69 87 54 16 | 40 24 27 49 78 86 55 27 | 10 15 28 59 87 64 27 | 51 23 16 38 77 75 46 28
        80 40 14 08 39 79 86 65 35 07 | 50 22 06 28 59 77 65 35 17
        70 33 15 18 49 78 66 36 27 | 60 31 13 16 38 68 76 55 25 17 29""",
    7: """
        00 90 49 | 00 90 49 / 25 75 | 02 00 90 49 / 25 85 | 13 10 80 39 | 00 90 55 49 / 14 84 | 10 80 39 / 15 74
        04 00 90 49 | 01 90 29 / 35 85 | 13 11 40 70 64 49 | 12 21 41 80 54 39 / 25 84 | 02 10 31 80 55 49 / 16 35 74
        01 11 80 62 39 / 25 75 | 00 80 79 | 10 82 59
        11 20 50 80 64 48 / 15 55 85 | 22 10 30 71 53 39 / 26 86 | 22 11 81 64 58 49
        20 40 60 63 57 49 / 35 75""",
    8: """
        50 22 44 66 78 59 27 36 64 72 50 | 70 30 22 44 76 68 39 18 26 64 72 | 50 31 43 54 72 60 50 / 54 27 39 69 87 54
        80 21 34 76 59 27 81 | 82 50 12 34 66 78 49 27 35 82 | 72 40 12 34 66 68 39 28 46 70
        20 13 45 78 49 27 45 72 50 20 | 10 33 56 78 49 17 35 62 70 | 61 31 22 45 77 59 28 36 64 82
        30 42 54 62 40 22 / 54 36 28 59 77 54 | 50 20 22 66 68 39 17 36 71 50
        72 51 22 24 46 68 59 38 27 45 63 | 70 40 13 35 67 59 28 26 54 | 22 41 61 43 24 36 68 59 27 45 73
        80 31 13 45 77 58 28 36 62 81 | 21 40 60 53 34 25 37 49 68 66 44 22
        13 20 50 62 54 37 39 58 55 33 12 | 30 43 46 29 17 36 62 50 31 23 | 42 31 15 18 29 38 26 34 72 70 41""",
    9: """
        75 37 14 21 60 82 85 79 | 82 50 23 36 64 82 79 | 80 40 14 36 74 82 78 59 28 | 70 31 13 25 64 80 / 80 69
        80 30 14 35 83 80 59 | 72 40 21 24 45 72 76 58 19 | 82 50 21 25 55 82 77 49 18 | 71 40 12 25 54 71 75 79
        60 30 13 25 64 72 / 71 77 58 29 | 74 46 24 22 50 71 75 68 39 18 | 81 50 22 34 64 81 85 59
        62 41 22 34 63 62 75 58 28 17 | 51 31 33 55 64 51 67 49 28 | 73 40 11 14 44 72 59
        21 13 34 63 70 50 21 / 70 66 59 29 | 70 50 32 44 73 80 86 68 38
        60 30 12 25 54 62 53 66 68 49 18 | 70 40 22 34 63 72 64 67 59 28 | 82 60 31 23 35 64 81 74 68 49 18
        50 20 12 24 54 62 64 68 59 29 08 | 70 30 12 14 45 73 60 74 78 59 28
        72 40 21 23 45 63 71 65 78 59 28 | 63 43 22 25 45 63 72 76 58 38 18 | 62 31 13 26 55 62 54 66 59
        50 21 14 35 53 50 63 66 58 29 07 | 50 30 22 33 53 52 50 54 66 68 49 28
        14 44 62 50 20 12 34 56 58 39 | 24 54 72 60 30 12 25 57 59 | 34 63 61 40 20 03 25 55 67 59 38
        04 44 71 50 20 22 45 57 48 29 | 25 44 63 50 30 12 34 67 69 | 60 30 22 34 62 51 64 76 68 39 08
        62 40 21 34 62 75 77 59 09 | 70 40 23 43 71 80 77 49 18 06
        63 43 22 30 50 62 64 86 88 59 08 | 64 43 32 40 61 53 75 87 68 39 08 | 70 40 22 34 53 71 80 45 09
        81 60 31 13 24 53 81 72 54 27 09 | 80 50 22 24 54 71 70 55 19""",
}

LETTERS = """
    09 40 89 / 25 65 | 19 13 50 83 89 / 15 85 | 80 10 19 89 / 14 74 | 80 10 19 / 14 64 | 90 20 19 / 15 75
    10 19 / 80 89 / 14 84 | 10 19 / 80 14 89 | 10 19 89 | 09 20 55 80 99 | 19 10 59 90 99
    19 13 30 43 49 / 49 43 70 83 89 | 19 10 89 80 | 19 12 89 70 | 19 10 / 10 61 83 64 15 | 29 20 70 83 65 25
    10 19 / 10 71 82 64 15 / 45 89 | 00 90 / 50 59 | 10 90 / 49 50 | 10 17 49 77 80 | 10 16 39 69 86 80 | 00 49 90
    10 59 70 | 00 29 53 79 99 | 00 28 43 68 80 | 00 99 / 90 09 | 20 79 / 80 19 | 82 50 13 16 59 87 | 80 40 14 16 59 88
    15 85 72 40 13 27 59 88 | 83 40 14 17 48 84 / 82 88 99 | 86 55 17 49 87 / 80 89 | 82 50 24 36 58 79
    81 60 43 49 / 14 74 | 70 42 49 / 25 65 | 10 19 / 15 43 74 79 | 20 19 / 26 54 65 69 | 13 19 / 15 43 74 79
    13 19 / 15 43 73 | 40 48 69 88 / 13 73 | 13 16 38 66 73 / 73 79 | 12 19 / 13 52 84 56 16 | 10 19 / 64 16 69
    03 39 63 | 02 28 44 58 82 | 13 79 / 73 19 | 40 44 89 / 44 09 | 80 20 10 19 89 / 15 55 | 19 10 40 64 59 10
    20 29 / 70 79 / 24 74 | 59 50 80 / 50 20 | 90 09 / 00 45 | 29 25 45 85 79"""

SYMBOLS = """
    30 29 / 70 69 / 13 93 / 06 96 | 40 39 / 70 69 / 03 83 / 16 96 | 50 59 / 15 95 | 50 59 / 12 87 / 82 17
    50 59 / 05 95 / 11 88 / 81 18 | 13 83 / 16 86 | 13 30 71 64 46 47 / 49 49 | 02 40 81 74 46 57 / 59 59
    90 09 / 10 22 10 / 87 78 97 | 80 14 89 | 00 94 09 | 09 40 89 | 16 33 56 83 | 70 30 39 79 | 20 60 69 29
    70 42 34 15 36 48 79 | 40 40 / 49 49 | 20 24 / 70 74 | 82 40 13 76 58 17 / 50 59 | 05 95 | 25 75 | 45 45
    65 63 35 46 66 63 84 66 87 59 19 03 30 70 93 | 89 22 41 53 25 17 49 87 | 04 94 / 61 94 67 | 40 49 / 13 40 73
    05 39 90 | 14 48 91 | 05 22 45 67 85 98 | 50 10 15 38 79 96 93 61 33 36 57 75 54
    45 56 64 53 34 26 58 87 93 60 10 02 | 20 29 / 70 79 | 10 19 / 50 59 / 90 99 | 20 40 / 60 80 / 16 48 69 87
    12 42 / 52 82 / 17 57 77 | 40 49 / 02 30 60 82 85 04 | 20 20 / 60 60 / 06 39 69 86"""

SHAPES = """
    40 09 89 40 | 00 90 40 00 | 00 90 99 09 00 | 00 80 79 19 00 | 40 69 03 83 19 40 | 50 79 03 93 19 50
    43 20 03 49 83 60 43 | 40 04 40 84 / 14 19 79 74 | 00 90 99 09 00 / 50 59 / 05 95 | 00 30 39 69 60 90
    04 20 24 60 64 99 | 09 00 99 90 | 00 99 90 09 00 | 90 59 05 94 50 | 40 15 49 75 40 / 49 99
    30 60 69 39 30 / 03 33 / 63 93 | 00 09 55 00 | 90 04 99 90 | 00 90 97 07 00 / 00 55 90"""

PICTURES = """
    44 31 11 03 15 49 85 93 81 61 44 | 49 15 03 11 31 43 61 81 93 85 49 | 43 30 02 25 49 75 92 60 43
    40 12 05 18 49 78 95 82 60 40 / 33 34 / 63 64 / 26 37 57 66 | 50 20 03 07 39 69 87 92 70 50 / 23 34 / 63 63 / 27 67
    41 13 06 28 59 78 95 83 61 41 / 32 34 / 62 64 / 27 46 67 / 45 46 | 40 11 06 39 79 95 81 50 / 43 33 / 63 73 / 36 57
    10 23 63 80 84 68 28 04 10 / 34 35 / 64 65 | 00 22 62 80 86 59 39 06 00 / 33 43 / 63 73 / 36 56
    44 20 60 44 81 86 44 68 28 44 07 02 44 | 45 21 61 45 83 88 45 28 07 45 | 45 20 02 45 06 29 45 69 97 45 92 60 45
    43 34 35 46 55 54 43 / 41 40 / 48 49 / 14 04 / 74 94 / 22 11 / 67 78 / 62 71 / 27 18
    40 31 42 51 40 / 42 46 29 / 46 69 / 14 74 | 50 41 52 61 50 / 52 57 39 / 57 79 / 22 54 82
    04 40 84 / 14 19 79 74 / 39 36 56 59 | 03 40 83 89 09 03 83 / 35 55 57 37 35 | 05 25 50 75 95 / 25 29 79 75
    39 36 / 59 56 / 36 14 22 30 60 72 84 56 36 | 40 14 74 40 / 42 07 87 42 / 47 49 | 49 45 / 45 13 31 61 83 55 45
    92 65 37 15 04 13 31 63 96 | 92 75 57 25 04 23 51 73 96 92 / 23 24 | 03 25 47 67 86 94 82 62 44 25 06 03
    07 04 24 31 61 74 94 97 07 / 28 18 29 38 28 / 68 58 69 78 68 | 06 03 73 76 06 / 27 16 28 37 / 67 56 68 77
    07 05 24 22 41 52 61 72 75 94 97 07 | 07 14 33 22 50 63 71 83 85 97 07 | 05 22 50 82 95 05 / 45 48 37
    60 20 03 06 39 69 47 35 43 60 | 10 50 82 86 59 19 47 54 42 10
    10 18 68 60 10 / 62 83 85 66 | 12 17 39 59 77 72 12 / 73 94 76 | 20 28 88 80 20 / 22 03 06 27
    03 09 69 63 03 / 64 85 67 | 04 13 33 44 35 15 04 / 54 63 83 94 85 65 54 / 44 54 | 10 60 69 19 10 / 12 62 / 48 38
    40 12 05 18 49 78 95 82 60 40 / 40 49 / 05 95 | 40 12 05 18 49 78 95 82 60 40 / 45 41 / 45 66
    46 44 25 15 03 13 21 42 50 63 72 84 75 65 46 49 | 29 09 05 33 44 85 89 / 42 45 / 62 65"""


def parse(templates: str) -> list[list[np.ndarray]]:
    """Templates, apart by "|" or a new line → for each its strokes, (n, 2) float points each."""
    lines = templates.strip().replace("\n", "|").split("|")
    return [[np.array([list(map(int, p)) for p in s.split()], dtype=float) for s in line.split("/")] for line in lines]


DIGITS = {digit: parse(templates) for digit, templates in DIGITS.items()}
LETTERS, SYMBOLS, SHAPES, PICTURES = (parse(templates) for templates in (LETTERS, SYMBOLS, SHAPES, PICTURES))


def by_hand(
    templates: list, rng: np.random.Generator, rounding: tuple[int, int], jitter: float = 0.45, hooks: float = 0
) -> np.ndarray:
    """One of the templates by an unsteady hand: (56, 56) bool.

    Its points are moved by `jitter` (a standard deviation, on the templates' grid), its corners cut `rounding` (from,
    below) times, and each stroke begins with a short hook with the chance `hooks`, and ends with one.
    """
    times = rng.integers(*rounding)
    strokes = []
    for stroke in templates[rng.integers(len(templates))]:
        stroke = stroke + rng.normal(0, jitter, stroke.shape)
        start = stroke[:1] + rng.normal(0, 1, (int(rng.random() < hooks), 2))
        end = stroke[-1:] + rng.normal(0, 1, (int(rng.random() < hooks), 2))
        strokes.append(chaikin(np.vstack([start, stroke, end]), times))
    return rasterise(strokes)


def chaikin(points: np.ndarray, times: int) -> np.ndarray:
    """(n, 2) control points → a rounder line with the same ends (Chaikin's corner cutting, 1974)."""
    for _ in range(times):
        if len(points) < 3:
            break
        a, b = points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.vstack([points[:1], cut[1:-1], points[-1:]])
    return points


def rasterise(strokes: list[np.ndarray]) -> np.ndarray:
    """Strokes of any size → (56, 56) bool, their longer side 40 pixels, in the middle."""
    points = np.vstack(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 40 / max(float((high - low).max()), 2.0)
    shift = FINE / 2 - (low + high) / 2 * scale
    image = Image.new("1", (FINE, FINE))
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        line = [tuple(p) for p in stroke * scale + shift]
        draw.line(line if len(line) > 1 else line * 2, fill=1)
    return np.asarray(image)


def digit_styles(n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """n digits from templates: (n, 56, 56) bool, (n,) labels."""
    labels = rng.integers(0, 10, n)
    pictures = [by_hand(DIGITS[d], rng, (1, 4), hooks=0.12) for d in labels]
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(labels)


def add_strokes(lines: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(n, 56, 56) bool skeletons of zeros, ones and sevens → with a slash or dot, a flag and a foot, a crossbar."""
    add = {0: slash, 1: flag_and_foot, 7: crossbar}
    pictures = []
    for picture, label in zip(lines.numpy(), labels.tolist(), strict=True):
        image = Image.fromarray(picture)
        if image.getbbox():
            add[label](ImageDraw.Draw(image), picture, image.getbbox(), rng)
        pictures.append(np.asarray(image))
    return torch.from_numpy(np.stack(pictures))


def slash(draw: ImageDraw.ImageDraw, picture: np.ndarray, box: tuple, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    if rng.random() < 0.15:  # a dot
        draw.line((x, y - 1, x + rng.uniform(-2, 2), y + rng.uniform(-1, 3)), fill=1)
        return
    size = rng.uniform(0.3, 0.7)
    dx, dy = rng.uniform() ** 1.5 * max(width, height / 2) * size, height * size * rng.uniform(0.5, 1.2)
    dx = -dx if rng.random() < 0.15 else dx
    draw.line((x + dx, y - dy, x - dx, y + dy), fill=1)


def flag_and_foot(draw: ImageDraw.ImageDraw, picture: np.ndarray, box: tuple, rng: np.random.Generator) -> None:
    _, top, _, bottom = box
    height, kind = bottom - top, rng.random()
    if kind < 0.8:
        x, length, angle = middle_of(picture[top]), height * rng.uniform(0.2, 0.6), np.radians(rng.uniform(27, 68))
        draw.line((x, top, x - length * np.cos(angle), top + length * np.sin(angle)), fill=1)
    if kind > 0.5:
        x, y, tilt = middle_of(picture[bottom - 1]), bottom - 1 - rng.uniform(0, 2), rng.uniform(-2, 2)
        before, after = height * rng.uniform(0.1, 0.35, 2)
        draw.line((x - before, y + tilt, x + after, y - tilt), fill=1)


def crossbar(draw: ImageDraw.ImageDraw, picture: np.ndarray, box: tuple, rng: np.random.Generator) -> None:
    _, top, _, bottom = box
    height = bottom - top
    y = int(top + height * rng.uniform(0.38, 0.65))
    x, tilt = middle_of(picture[y]), rng.uniform(-3, 2)
    before, after = height * rng.uniform(0.15, 0.4, 2)
    draw.line((x - before, y - tilt, x + after, y + tilt), fill=1)


def middle_of(row: np.ndarray) -> float:
    """Where the line crosses a row: the mean column of its pixels, or the middle of a row without any."""
    return float(row.nonzero()[0].mean()) if row.any() else FINE / 2


def non_digits(n: int, rng: np.random.Generator) -> torch.Tensor:
    """n letters, symbols, shapes, pictures, figures, polygons, scribbles and polylines: (n, 56, 56) bool."""
    makers, shares = zip(
        (lambda: by_hand(LETTERS, rng, (0, 4)), 0.34),
        (lambda: by_hand(SYMBOLS, rng, (0, 4)), 0.12),
        (lambda: by_hand(SHAPES, rng, (0, 1)), 0.08),
        (lambda: by_hand(PICTURES, rng, (0, 4), jitter=0.3), 0.08),
        (lambda: rasterise(figure(rng)), 0.06),
        (lambda: rasterise([polygon(rng)]), 0.14),
        (lambda: rasterise(scribble(rng)), 0.18),
        strict=True,
    )
    kinds = np.searchsorted(np.cumsum(shares)[:-1], rng.random(n), side="right")
    return torch.from_numpy(np.stack([makers[kind]() for kind in kinds]))


def polygon(rng: np.random.Generator) -> np.ndarray:
    """A triangle, rectangle or other polygon with sharp corners, of any aspect ratio; its ends may miss each other."""
    n = rng.choice([3, 4, 4, 4, 5, 6])
    angles = (np.arange(n + 1) + 0.5) * 2 * np.pi / n
    points = np.stack([np.sin(angles), np.cos(angles)], 1) * [rng.uniform(0.3, 1), 1]
    points = turn(points, rng.normal(0, 0.3) + rng.integers(2) * np.pi / 2)
    return points + rng.normal(0, 0.07, points.shape)


def figure(rng: np.random.Generator) -> list[np.ndarray]:
    """A ring or polygon with two or more things in it or on it, as faces, flowers, wheels, suns and cups have."""
    circle = np.linspace(0, 2 * np.pi, 24)
    circle = np.stack([np.cos(circle), np.sin(circle)], 1)
    outline = polygon(rng) if rng.random() < 0.3 else circle * [rng.uniform(0.7, 1.2), 1]
    strokes, inside, round_ones = [outline], rng.random() < 0.6, rng.random() < 0.5
    for angle in (rng.permutation(8)[: rng.integers(2, 7)] + rng.normal(0, 0.2)) * np.pi / 4:
        way = np.array([np.cos(angle), np.sin(angle)])
        at, size = way * (rng.uniform(0.3, 0.6) if inside else 1.3), rng.uniform(0.1, 0.3)
        if round_ones:
            mark = circle[:20]
        elif inside:
            mark = np.array([[0, 0], rng.normal(0, 1, 2)])
        else:
            mark = np.outer([-1, 1.5], way)
        strokes.append(at + size * mark)
    return [stroke + rng.normal(0, 0.02, stroke.shape) for stroke in strokes]


def turn(points: np.ndarray, angle: float) -> np.ndarray:
    """(n, 2) points, turned about the origin by an angle in radians."""
    return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def scribble(rng: np.random.Generator) -> list[np.ndarray]:
    """Strokes at random: a walk, a polyline, a zigzag, a spiral, or a few lines."""
    kind = rng.integers(5)
    if kind == 0:  # a wandering line, short or dense
        steps = rng.normal(size=(rng.integers(8, 40), 2))
        return [chaikin(np.cumsum(steps, axis=0), 3)]
    if kind == 1:  # corners anywhere
        return [chaikin(rng.uniform(0, 9, (rng.integers(5, 14), 2)), rng.integers(0, 4))]
    if kind == 2:  # to and fro
        n = rng.integers(5, 16)
        points = np.stack([np.arange(n) * rng.uniform(0.3, 1.5), np.where(np.arange(n) % 2, 0, rng.uniform(4, 9))], 1)
        points = chaikin(points + rng.normal(0, 0.5, points.shape), rng.integers(0, 3))
        return [turn(points, rng.uniform(0, np.pi))]
    if kind == 3:  # a spiral of about two turns and more: of fewer it may be a six
        start, turns = rng.uniform(0, 6), rng.uniform(1.8, 4.5)
        t = np.linspace(start, start + turns * 2 * np.pi, 80)[:, None]
        return [np.hstack([np.cos(t), np.sin(t) * rng.choice([-1, 1])]) * (0.2 + t)]
    return [chaikin(rng.uniform(0, 9, (rng.integers(2, 4), 2)), 2) for _ in range(rng.integers(3, 7))]


def pairs(lines: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(n, 56, 56) bool skeletons of digits → (n // 2, 56, 56) bool: two digits side by side."""
    half = F.max_pool2d(lines[:, None].float(), 2)[:, 0] > 0
    first, second = half[: len(half) // 2], half[len(half) // 2 : len(half) // 2 * 2]
    both = torch.zeros(len(first), FINE, FINE, dtype=torch.bool)
    for i in range(len(both)):
        closer, drop = int(rng.integers(0, 6)), int(rng.integers(-3, 4))
        both[i, 14:42, closer : 28 + closer] |= first[i]
        both[i, 14 + drop : 42 + drop, 28 - closer : 56 - closer] |= second[i]
    return both
