"""Measures a model on MNIST's test images and on drawings, and prints a table.

    python evaluate.py [--model model.pth] [--data DIR] [FILE.jsonl ...] [--json] [--errors FILE.png]

A line of a drawings file is {"set", "label", "strokes": [[[x, y], ...], ...]}, y downward, the longer side being 1.
A label of 0 to 9 is a digit; anything else is a drawing that should be turned away, unless it looks like a digit.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from model import NOT_A_DIGIT, DigitNet, load_model, predict
from utils import BRUSH_WIDTH, CANVAS_SIZE, decode_drawing, encode_png, preprocess, preprocess_gray

PLACEMENTS = 5  # times that every drawing is put on the canvas, each at another size and place
BINS = 15  # of the calibration error, as Guo et al. (2017) count it
SUPERSAMPLING = 4  # a pixel of the canvas is drawn as 4×4 and averaged: the browser's anti-aliasing
LOOKALIKES = set("BbDGgIiJjlOoQqSsYyZz" + "|/\\!()',}1")  # letters and symbols that some people's digits look like


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", nargs="*", type=Path, metavar="FILE.jsonl", help="drawings to measure on")
    parser.add_argument("--model", type=Path, default=Path("model.pth"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DATA_DIR", "data")), help="where MNIST is")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--errors", type=Path, metavar="FILE.png", help="write a contact sheet of the mistakes")
    args = parser.parse_args()
    model = load_model(args.model)
    figures, mistakes = evaluate(model, args.data, args.drawings)
    print(json.dumps(figures, indent=1) if args.json else table(figures))
    if args.errors:
        contact_sheet(mistakes).save(args.errors, optimize=True)


def evaluate(model: DigitNet, data: Path, drawings: list[Path]) -> tuple[dict, list]:
    """The figures of a model, and its mistakes as (drawing or None, what the model saw, what it is, what was said)."""
    from torchvision.datasets import MNIST  # here: whoever only renders strokes needs no torchvision

    test = MNIST(str(data), train=False, download=True)
    sets = {"MNIST test": (test.data[:, None].float() / 255, test.targets.tolist(), [None] * len(test.data))}
    for path in drawings:
        for name, rows in group(read_drawings(path)).items():
            sets[name] = place_all(rows, np.random.default_rng(0))
    sets |= {
        name: place_all(rows, np.random.default_rng(0), 1) for name, rows in doodles(np.random.default_rng(0)).items()
    }
    figures, digits_nad, mistakes = {"digits": {}, "not digits": {}}, [], []
    for name, (x, labels, grays) in sets.items():
        p = probabilities(model, x)
        if isinstance(labels[0], int):
            times = 1 if name == "MNIST test" else PLACEMENTS
            figures["digits"][name] = of_digits(p, np.array(labels), times)
            digits_nad += [p[:, NOT_A_DIGIT]] if times > 1 or not drawings else []
            wrong = np.flatnonzero(p[:, :NOT_A_DIGIT].argmax(1) != np.array(labels))
            mistakes += [(grays[i], x[i, 0], labels[i], p[i]) for i in wrong if i < len(labels) // times]
    for name, (x, labels, _) in sets.items():
        if not isinstance(labels[0], int):
            figures["not digits"][name] = of_others(probabilities(model, x)[:, NOT_A_DIGIT], np.concatenate(digits_nad))
    figures["milliseconds"] = milliseconds(model)
    figures["parameters"] = sum(p.numel() for p in model.parameters())
    return figures, mistakes


def group(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows by their set; letters and symbols that look like a digit are left out."""
    groups = defaultdict(list)
    for row in rows:
        if isinstance(row["label"], int) or row["label"] not in LOOKALIKES:
            groups[row["set"]].append(row)
    return groups


def place_all(rows: list[dict], rng: np.random.Generator, times: int = PLACEMENTS) -> tuple[torch.Tensor, list, list]:
    """Rows → what the network sees of each, (times · n, 1, 28, 28), their labels, and their canvases."""
    grays = [render_strokes(place(row["strokes"], rng)) for _ in range(times) for row in rows]
    return torch.cat([preprocess_gray(g) for g in grays]), [row["label"] for row in rows] * times, grays


def probabilities(model: DigitNet, x: torch.Tensor) -> np.ndarray:
    """(n, 1, 28, 28) → (n, 11)."""
    with torch.inference_mode():
        return torch.cat([model(part).double().softmax(1) for part in x.split(500)]).numpy()


def of_digits(p: np.ndarray, labels: np.ndarray, times: int) -> dict:
    """Accuracy (%, with its 95 % interval), calibration error (%), share turned away (%), errors of each class (%)."""
    digits = p[:, :NOT_A_DIGIT]
    right = digits.argmax(1) == labels
    n = len(labels) // times  # the interval counts drawings, not placements of them
    return {
        "n": n,
        "accuracy": 100 * right.mean(),
        "interval": [100 * edge for edge in wilson(right.mean(), n)],
        "calibration error": 100 * calibration_error(digits.max(1), right),
        "turned away": 100 * (p[:, NOT_A_DIGIT] > 0.5).mean(),
        "errors by class": [100 * (~right[labels == d]).mean() for d in range(10)],
    }


def of_others(not_a_digit: np.ndarray, of_digits: np.ndarray) -> dict:
    """Area under the ROC curve of not_a_digit against that of digits, and the share turned away (%)."""
    return {
        "n": len(not_a_digit),
        "auc": area_under_roc(not_a_digit, of_digits),
        "turned away": 100 * (not_a_digit > 0.5).mean(),
    }


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of n (Wilson, 1927)."""
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float((middle - half) / (1 + z**2 / n)), float((middle + half) / (1 + z**2 / n))


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - confidence| in bins of equal width, weighted by their sizes."""
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(sum(abs((right - confidence)[bin_of == b].sum()) for b in range(bins)) / len(right))


def area_under_roc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann and Whitney, 1947)."""
    negative = np.sort(negative)
    below, upto = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(negative)))


def milliseconds(model: DigitNet, n: int = 300) -> dict[str, float]:
    """Medians on one thread: a PNG decoded, preprocessing, the network."""
    gray = render_strokes([[(60, 50), (220, 50), (130, 240)]])
    png = encode_png(gray)
    rgba = decode_drawing(png)
    x = preprocess(rgba)
    steps = {"decode": (decode_drawing, png), "preprocess": (preprocess, rgba), "predict": (predict, model, x)}
    medians = {}
    for name, (function, *arguments) in steps.items():
        spans = []
        for _ in range(n):
            start = time.perf_counter()
            function(*arguments)
            spans.append(time.perf_counter() - start)
        medians[name] = 1000 * float(np.median(spans))
    return medians


def table(figures: dict) -> str:
    lines = [f"{'digits':<14}{'n':>7}{'accuracy %':>13}{'95 % interval':>17}{'calibration':>14}{'turned away %':>16}"]
    for name, f in figures["digits"].items():
        low, high = f["interval"]
        lines.append(
            f"{name:<14}{f['n']:>7}{f['accuracy']:>13.2f}{f'{low:.2f} to {high:.2f}':>17}"
            f"{f['calibration error']:>14.2f}{f['turned away']:>16.2f}"
        )
    lines += ["", f"{'errors %':<14}" + "".join(f"{d:>7}" for d in range(10))]
    for name, f in figures["digits"].items():
        lines.append(f"{name:<14}" + "".join(f"{e:>7.2f}" for e in f["errors by class"]))
    lines += ["", f"{'not digits':<14}{'n':>7}{'area under ROC':>17}{'turned away %':>16}"]
    for name, f in figures["not digits"].items():
        lines.append(f"{name:<14}{f['n']:>7}{f['auc']:>17.4f}{f['turned away']:>16.1f}")
    spans = ", ".join(f"{name} {ms:.2f}" for name, ms in figures["milliseconds"].items())
    return "\n".join([*lines, "", f"milliseconds a drawing, one thread: {spans}; {figures['parameters']:,} parameters"])


def contact_sheet(mistakes: list, columns: int = 10, most: int = 120) -> Image.Image:
    """Each mistake: the drawing, what the model saw, and "true label → answer, confidence"."""
    width, height = 150, 92
    shown = mistakes[:most]
    sheet = Image.new("L", (columns * width, max(1, -(-len(shown) // columns)) * height), 24)
    draw = ImageDraw.Draw(sheet)
    for i, (gray, x, label, p) in enumerate(shown):
        left, top = i % columns * width + 4, i // columns * height + 4
        if gray is not None:
            sheet.paste(Image.fromarray(gray).resize((70, 70), Image.Resampling.BOX), (left, top))
        seen = Image.fromarray((x.numpy() * 255).astype(np.uint8))
        sheet.paste(seen.resize((70, 70), Image.Resampling.NEAREST), (left + 72, top))
        answer = p[:NOT_A_DIGIT].argmax()
        doubt = " no digit" if p[NOT_A_DIGIT] > 0.5 else ""
        draw.text((left, top + 72), f"{label} read as {answer}, {100 * p[answer]:.0f} %{doubt}", fill=230)
    return sheet


def read_drawings(path: str | Path) -> list[dict]:
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def place(strokes: list, rng: np.random.Generator, size: int = CANVAS_SIZE) -> list[np.ndarray]:
    """Strokes whose longer side is 1 → canvas pixels: 35 to 85 % of the canvas, anywhere on it, as people draw."""
    points = np.vstack([np.asarray(s, dtype=np.float64) for s in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = rng.uniform(0.35, 0.85) * size / max(float((high - low).max()), 1e-6)
    extent = (high - low) * scale
    margin = np.minimum(BRUSH_WIDTH / 2, (size - extent) / 2)
    corner = margin + rng.uniform(size=2) * (size - extent - 2 * margin)
    return [(np.asarray(s, dtype=np.float64) - low) * scale + corner for s in strokes]


def render_strokes(strokes: list, size: int = CANVAS_SIZE, brush: float = BRUSH_WIDTH) -> np.ndarray:
    """Strokes, each a list of (x, y) in canvas pixels, → (size, size) uint8: what the browser's canvas shows of them.

    White on black, round caps and joins, and a quadratic curve through the middles between the points, as the canvas's
    pencil (Fabric.js, `PencilBrush`) draws them.
    """
    image = Image.new("L", (size * SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(image)
    radius = brush * SUPERSAMPLING / 2
    for stroke in strokes:
        points = _smooth(np.asarray(stroke, dtype=np.float64)) * SUPERSAMPLING
        draw.line([tuple(p) for p in points], fill=255, width=round(2 * radius))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.reduce(SUPERSAMPLING))


def _smooth(points: np.ndarray) -> np.ndarray:
    """(n, 2) points → points along the quadratic curves whose control points they are."""
    if len(points) < 3:
        return points
    middles = (points[:-1] + points[1:]) / 2
    path = [points[:1]]
    for start, control, end in zip(np.vstack([points[:1], middles[:-1]]), points[:-1], middles, strict=True):
        t = np.linspace(0, 1, int(np.ceil(np.linalg.norm(end - start) / 3)) + 2)[1:, None]
        path.append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
    return np.vstack([*path, points[-1:]])


def doodles(rng: np.random.Generator, n: int = 500) -> dict[str, list[dict]]:
    """Scribbles, shapes and doodles of our own making, by other formulas than those that the network is trained with."""
    t = np.linspace(0, 2 * np.pi, 120)
    makers = {"scribbles": _scribble, "shapes": _shape, "doodles": _doodle}
    return {name: [{"label": name, "strokes": maker(rng, t)} for _ in range(n)] for name, maker in makers.items()}


def _scribble(rng: np.random.Generator, t: np.ndarray) -> list[np.ndarray]:
    """A random sum of sines each way, of many frequencies: a tangle."""
    waves = np.arange(1, 10)
    x, y = ((rng.normal(size=(9, 1)) * np.sin(np.outer(waves, t) + rng.uniform(0, 7, (9, 1)))).sum(0) for _ in "xy")
    return [np.stack([x, y], 1)]


def _shape(rng: np.random.Generator, t: np.ndarray) -> list[np.ndarray]:
    """A triangle, square, rectangle, star, plus or cross, turned a little and drawn by hand."""
    kind, a, at = (
        rng.integers(6),
        rng.uniform(-0.3, 0.3),
        lambda angles, r=1: np.stack([np.sin(angles), -np.cos(angles)], 1) * r,
    )
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
    line = lambda *points: np.array(points, dtype=float)  # noqa: E731
    ring = lambda x, y, r: np.stack([x + r * np.cos(t), y + r * np.sin(t)], 1)  # noqa: E731
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
            line((-0.6, -0.2), (0.6, -0.2)),
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


if __name__ == "__main__":
    main()
