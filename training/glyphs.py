"""Digits as synthetic line drawings, in styles that MNIST hardly has; `nothing.py` draws what is no digit.

All are (56, 56) bool pictures of lines one pixel wide, which `augment.draw` draws with a pen. Many start from the
templates in `templates.txt`, whose first lines say how one is written.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from training.augment import FINE

Box = tuple[int, int, int, int]  # left, top, right, bottom
Template = list[np.ndarray]  # its strokes, (n, 2) float control points each, on a grid of 0..9


def read_templates(path: Path) -> dict[str, list[Template]]:
    """The templates of every section of a file; raises ValueError on a line that is none."""
    sections: dict[str, list[Template]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("["):
            templates = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            try:
                strokes = [[[int(digit) for digit in point] for point in stroke.split()] for stroke in line.split("/")]
                templates.append([np.array(stroke, dtype=float).reshape(len(stroke), 2) for stroke in strokes])
            except ValueError as error:
                raise ValueError(f'{path}, line {number}: {line!r} is not like "23 50 59 / 29 79"') from error
    return sections


TEMPLATES = read_templates(Path(__file__).with_name("templates.txt"))
DIGITS = {digit: TEMPLATES[str(digit)] for digit in range(10)}


def by_hand(
    templates: list[Template],
    rng: np.random.Generator,
    rounding: tuple[int, int],
    jitter: float = 0.45,
    hooks: float = 0,
) -> np.ndarray:
    """One of the templates by an unsteady hand: (56, 56) bool.

    Its points are moved by `jitter` (a standard deviation, on the templates' grid), its corners cut `rounding` (from,
    below) times, and each stroke begins with a short hook with the chance `hooks`, and ends with one.
    """
    times = int(rng.integers(*rounding))
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
        if box := image.getbbox():
            add[label](ImageDraw.Draw(image), picture, box, rng)
        pictures.append(np.asarray(image))
    return torch.from_numpy(np.stack(pictures))


def slash(draw: ImageDraw.ImageDraw, picture: np.ndarray, box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    if rng.random() < 0.15:  # a dot
        draw.line((x, y - 1, x + rng.uniform(-2, 2), y + rng.uniform(-1, 3)), fill=1)
        return
    size = rng.uniform(0.3, 0.7)
    dx, dy = rng.uniform() ** 1.5 * max(width, height / 2) * size, height * size * rng.uniform(0.5, 1.2)
    dx = -dx if rng.random() < 0.15 else dx
    draw.line((x + dx, y - dy, x - dx, y + dy), fill=1)


def flag_and_foot(draw: ImageDraw.ImageDraw, picture: np.ndarray, box: Box, rng: np.random.Generator) -> None:
    _, top, _, bottom = box
    height, kind = bottom - top, rng.random()
    if kind < 0.8:
        x, length, angle = middle_of(picture[top]), height * rng.uniform(0.2, 0.6), np.radians(rng.uniform(27, 68))
        draw.line((x, top, x - length * np.cos(angle), top + length * np.sin(angle)), fill=1)
    if kind > 0.5:
        x, y, tilt = middle_of(picture[bottom - 1]), bottom - 1 - rng.uniform(0, 2), rng.uniform(-2, 2)
        before, after = height * rng.uniform(0.1, 0.35, 2)
        draw.line((x - before, y + tilt, x + after, y - tilt), fill=1)


def crossbar(draw: ImageDraw.ImageDraw, picture: np.ndarray, box: Box, rng: np.random.Generator) -> None:
    _, top, _, bottom = box
    height = bottom - top
    y = int(top + height * rng.uniform(0.38, 0.65))
    x, tilt = middle_of(picture[y]), rng.uniform(-3, 2)
    before, after = height * rng.uniform(0.15, 0.4, 2)
    draw.line((x - before, y - tilt, x + after, y + tilt), fill=1)


def middle_of(row: np.ndarray) -> float:
    """Where the line crosses a row: the mean column of its pixels, or the middle of a row without any."""
    return float(row.nonzero()[0].mean()) if row.any() else FINE / 2
