"""Line drawings that are no digit: letters, symbols, pictures, scribbles, several digits, digits turned over.

All are (56, 56) bool pictures of lines one pixel wide, as those in `glyphs.py`. Letters and signs that some people's
digits look like (O, l, Z, S, q, a circle, a stroke) are left out: to turn them away would turn digits away.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from HersheyFonts import HersheyFonts  # type: ignore[import-untyped]
from PIL import Image, ImageDraw, ImageFont

from training.augment import FINE, skeleton
from training.glyphs import TEMPLATES, Template, by_hand, chaikin, rasterise

LETTERS, SYMBOLS, SHAPES, PICTURES = (TEMPLATES[name] for name in ("letters", "symbols", "shapes", "pictures"))

# Of each of Hershey's fonts the keys whose signs look like no digit: Latin, Cyrillic, Greek, Japanese, and pictograms.
ALPHABETS = {
    "futural": 'ACEFHKLMNPRTUVWXYacdefhkmnprtuvwx"#$&*+:<=>?@[]^_~',
    "scripts": "ADFGHKLMNRUVWXadhkmnprtuvwx",
    "cyrilc_1": "ADEFGIJKLMNPQSVWYZdefgijklmnpqsvwyz",
    "greek": "ACDEGHKLMNPRSTUWXYacgjklmnpqrtuvwxy",
    "japanese": '"#$%&()*+-./0123456789:ABDEFGHIJKMNOPSUVWXZ\\]^_abcdefghlnoqrsz{|}~',
    "symbolic": "3689:<=>?@ACDEFGIJKLMNOVWXYZ[]^_`abcdefghjklmnpwx",
}


# Code points of icons that are a ring, a line, two rings on top of each other, or else like a digit.
LOOKALIKES = {
    int(code, 16)
    for code in """
    e000 e022 e038 e03b e061 e0bc e110 e11f e131 e13e e150 e15b e160 e174 e190 e19f e1a4 e1b4 e1d8 e1df e1e0 e1e8
    e204 e206 e227 e22a e238 e28c e2ca e313 e314 e315 e316 e384 e39e e3a5 e3a6 e3ae e3b8 e3cc e3cf e3e1 e3ea e3f2
    e424 e425 e4ca e4d9 e4eb e538 e56e e579 e57b e57c e593 e5c3 e5c5 e5c6 e5c7 e5ca e5ce e5d3 e5d4 e5d6 e5d7 e5de
    e5df e5f3 e602 e645 e664 e698 e69b e69c e6ce e6d1 e6d2 e6d3 e726 e7fd e80f e82c e837 e846 e86f e881 e88b e891
    e8a4 e8be e8d9 e8e9 e91c e91d e91e e930 e931 e932 e945 e950 e982 e98a e999 e9b4 e9c1 e9cd e9d5 e9e6 e9f5 e9f6
    ea29 ea2e ea35 ea76 eabd eac3 eac9 eae6 eb01 eb30 eb35 eb37 eb52 eb5f eb64 eb65 eb67 eb68 eba6 eba7 ebc7 ebdf
    ebe3 ec16 eefa ef40 ef66 ef71 efa1 efa4 efdc efe3 f0c1 f102 f108 f126 f12a f137 f13b f163 f164 f165 f17d f212
    f22f f25d f261 f290 f2ae f2af f2c0 f304 f38a f3d3 f3ee f3f8 f3f9 f3fa f3fb f3fc f40b f41b f432 f471 f4b2 f4e2
    f50d f510 f560 f567 f568 f56a f56b f59b f5a3 f5d0 f604 f61c f67b f6ab f6d8 f70c f71d f721 f722 f723 f724 f725
    f726 f72f f73e f747 f74d f751 f752 f753 f754 f755 f767 f768 f769 f76a f76b f771 f784 f7ec f808 f830 f85c f867
    f88a f88b f8be f8c5 f8ce f8dd f8e1 f8e2 f8e3 f8e4 f8e5 f8e6 f8e7 f8e8""".split()
}


def non_digits(n: int, rng: np.random.Generator) -> torch.Tensor:
    """n drawings of every kind below but icons and digits: (n, 56, 56) bool."""
    makers, shares = zip(
        (lambda: by_hand(LETTERS, rng, (0, 4)), 0.22),
        (lambda: by_hand(alphabets(), rng, (0, 3), jitter=0.3), 0.22),
        (lambda: rasterise(character(rng)), 0.14),
        (lambda: by_hand(SYMBOLS, rng, (0, 4)), 0.08),
        (lambda: by_hand(SHAPES, rng, (0, 1)), 0.04),
        (lambda: by_hand(PICTURES, rng, (0, 4), jitter=0.3), 0.06),
        (lambda: rasterise(figure(rng)), 0.06),
        (lambda: rasterise([polygon(rng)]), 0.07),
        (lambda: rasterise(scribble(rng)), 0.11),
        strict=True,
    )
    kinds = np.searchsorted(np.cumsum(shares)[:-1], rng.random(n), side="right")
    return torch.from_numpy(np.stack([makers[kind]() for kind in kinds]))


@functools.cache
def alphabets() -> list[Template]:
    """Signs of several alphabets as templates on the grid of 0..9 (Hershey, 1967: fonts that are lines)."""
    fonts, templates = HersheyFonts(), []
    for name, keys in ALPHABETS.items():
        fonts.load_default_font(name)
        for key in keys:
            strokes = [np.array(list(stroke), dtype=float) for stroke in fonts.strokes_for_text(key)]
            low, high = np.vstack(strokes).min(axis=0), np.vstack(strokes).max(axis=0)
            templates.append([(stroke - low) * 9 / (high - low).max() for stroke in strokes if len(stroke)])
    return templates


@functools.cache
def icons() -> torch.Tensor:
    """(n, 56, 56) bool: the icons that Streamlit ships (Material Symbols), thinned, but those in LOOKALIKES."""
    package = importlib.util.find_spec("streamlit")  # found, not imported: its page has nothing to do with this
    (path,) = Path(package.origin).parent.glob("static/**/MaterialSymbols-Rounded.*.woff2")  # type: ignore[union-attr, arg-type]
    font = ImageFont.truetype(path, 44, layout_engine=ImageFont.Layout.BASIC)
    pictures = {}
    for code in range(0xE000, 0xF900):
        image = Image.new("L", (FINE, FINE))
        ImageDraw.Draw(image).text((FINE / 2, FINE / 2), chr(code), font=font, fill=255, anchor="mm")
        if code not in LOOKALIKES and image.getbbox():
            pictures[image.tobytes()] = np.asarray(image) > 110
    ink = torch.from_numpy(np.stack(list(pictures.values())))
    return torch.cat([skeleton(part) for part in ink.split(64)])


def character(rng: np.random.Generator) -> list[np.ndarray]:
    """A sign of no alphabet: three to five strokes, most of them upright, level or bent, and joined."""
    strokes: list[np.ndarray] = []
    for _ in range(rng.choice([3, 3, 4, 5])):
        start = rng.integers(0, 4, 2).astype(float)
        if strokes and rng.random() < 0.7:  # where an earlier stroke is
            stroke = strokes[rng.integers(len(strokes))]
            start = stroke[rng.integers(len(stroke))]
        kind = rng.random()
        if kind < 0.45:
            way = [(0, 1), (1, 0), (1, 1), (1, -1)][rng.choice(4, p=(0.35, 0.35, 0.15, 0.15))]
            line = np.stack([start, start + np.array(way) * rng.choice([-1, 1]) * rng.uniform(1, 3.5)])
        elif kind < 0.75:
            line = chaikin(np.stack([start, *rng.uniform(-0.3, 3.3, (rng.integers(2, 4), 2))]), int(rng.integers(0, 4)))
        else:
            angles = np.linspace(0, rng.choice([1, 1.5, 2]) * np.pi, 12) + rng.integers(4) * np.pi / 2
            ring = np.stack([np.cos(angles), np.sin(angles)], 1)
            line = start + (ring - ring[0]) * rng.uniform(0.4, 1.2, 2)
        strokes.append(line + rng.normal(0, 0.07, line.shape))
    return strokes


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
        return [chaikin(rng.uniform(0, 9, (rng.integers(5, 14), 2)), int(rng.integers(0, 4)))]
    if kind == 2:  # to and fro
        n = rng.integers(5, 16)
        points = np.stack([np.arange(n) * rng.uniform(0.3, 1.5), np.where(np.arange(n) % 2, 0, rng.uniform(4, 9))], 1)
        points = chaikin(points + rng.normal(0, 0.5, points.shape), int(rng.integers(0, 3)))
        return [turn(points, rng.uniform(0, np.pi))]
    if kind == 3:  # a spiral of about two turns and more: of fewer it may be a six
        start, turns = rng.uniform(0, 6), rng.uniform(1.8, 4.5)
        t = np.linspace(start, start + turns * 2 * np.pi, 80)[:, None]
        return [np.hstack([np.cos(t), np.sin(t) * rng.choice([-1, 1])]) * (0.2 + t)]
    return [chaikin(rng.uniform(0, 9, (rng.integers(2, 4), 2)), 2) for _ in range(rng.integers(3, 7))]


def turned_over(lines: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Skeletons of digits → those that a turn or a mirror makes none of: lying down, upside down, seen from behind."""
    lying, behind, below, half = (
        lines[torch.isin(labels, torch.tensor(digits))]
        for digits in ((2, 3, 4, 5, 7), (3, 4, 6, 7, 9), (4, 7), (3, 4, 7))
    )
    return torch.cat([lying.rot90(1, (1, 2)), behind.flip(2), below.flip(1), half.rot90(2, (1, 2))])


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
