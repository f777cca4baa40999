"""Measures a model on MNIST's test images and on drawings, and prints a table.

    python evaluate.py [--model model.pth] [--data DIR] [FILE.jsonl ...] [--as-drawn] [--json] [--errors FILE.png]

A line of a drawings file is {"set", "label", "strokes": [[[x, y], ...], ...]}, y downward, in any unit.
A label of 0 to 9, a number, is a digit; any other is of what should be turned away, unless it looks like a digit.
"""

import argparse
import io
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from model import NO_DIGIT_ABOVE, DigitNet, load_model, predict
from training.strokes import doodles, numbers, place
from utils import (
    decode_drawing,
    preprocess,
    preprocess_gray,
    render_strokes,
    side_by_side,
    side_by_side_gray,
    to_pixels,
    wilson,
)

PLACEMENTS = 5  # times that every drawing is put on the canvas, each at another size and place
BINS = 15  # of the calibration error, as Guo et al. (2017) count it
PAIRS = 1000  # of MNIST's test images side by side
LOOKALIKES = set("BbDGgIiJjlOoQqSsYyZz" + "|/\\!()',}")  # letters and symbols that some people's digits look like


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", nargs="*", type=Path, metavar="FILE.jsonl", help="drawings to measure on")
    parser.add_argument("--model", type=Path, default=Path("model.pth"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DATA_DIR") or "data"), help="where MNIST is")
    parser.add_argument("--as-drawn", action="store_true", help="each where it was drawn on the canvas, once")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--errors", type=Path, metavar="FILE.png", help="write a contact sheet of the mistakes")
    args = parser.parse_args()
    model = load_model(args.model)
    figures, mistakes = evaluate(model, args.data, args.drawings, args.as_drawn)
    print(json.dumps(figures, indent=1) if args.json else table(figures))
    if args.errors:
        contact_sheet(mistakes).save(args.errors, optimize=True)


class Mistake(NamedTuple):
    canvas: np.ndarray | None  # (h, w) uint8; None for MNIST's own pictures
    picture: torch.Tensor  # (28, 28), what the network saw
    label: int | str
    digit: int
    confidence: float
    not_a_digit: float

    @property
    def turned_away(self) -> bool:
        return self.not_a_digit > NO_DIGIT_ABOVE


def evaluate(
    model: DigitNet, data: Path, drawings: list[Path], as_drawn: bool = False
) -> tuple[dict[str, Any], list[Mistake]]:
    """The figures of a model, and its mistakes: misread digits, digits turned away, and what passes for one.

    Of drawings, which are placed several times, the mistakes are those of the first time. as_drawn: their strokes are
    in pixels of the canvas, and stay where they are. Raises ValueError on a line that is no drawing.
    """
    from torchvision.datasets import MNIST  # here: whoever only renders strokes needs no torchvision

    times = None if as_drawn else PLACEMENTS
    test = MNIST(str(data), train=False, download=True)
    digits, others = group([row for path in drawings for row in read_drawings(path)])
    sets: dict[str, Placed] = {
        "MNIST test": Placed(test.data[:, None].float() / 255, test.targets.tolist(), [None] * len(test.data), 1)
    }
    sets |= {name: place_all(rows, np.random.default_rng(0), times) for name, rows in digits.items()}
    of_digit_sets: dict[str, Any] = {}
    scores, mistakes = {}, []
    for name, placed in sets.items():
        p, not_a_digit = answers(model, placed.pictures)
        of_digit_sets[name] = of_digits(p, not_a_digit, np.array(placed.labels), placed.times)
        if name in digits:
            of_digit_sets[name]["parts"] = 100 * seen_as_several(model, placed.canvases).mean()
        scores[name] = not_a_digit
        wrong = (p.argmax(1) != np.array(placed.labels)) | (not_a_digit > NO_DIGIT_ABOVE)
        mistakes += placed.mistakes(p, not_a_digit, wrong)
    of_all_digits = np.concatenate([scores[name] for name in digits or sets])  # MNIST's only if none are drawn
    of_other_sets = {}
    for name, rows in (others | doodles(np.random.default_rng(0))).items():
        placed = place_all(rows, np.random.default_rng(0), times if name in others else 1)
        p, not_a_digit = answers(model, placed.pictures)
        of_other_sets[name] = of_others(not_a_digit, of_all_digits, placed.times)
        mistakes += placed.mistakes(p, not_a_digit, not_a_digit <= NO_DIGIT_ABOVE) if name in others else []
    figures = {
        "digits": of_digit_sets,
        "not digits": of_other_sets,
        "pairs": of_pairs(model, test.data.numpy(), test.targets.numpy()),
        "milliseconds": milliseconds(model),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return figures, mistakes


class Placed(NamedTuple):
    """Digits or others, on the canvas `times` over."""

    pictures: torch.Tensor  # (n, 1, 28, 28), what the network sees of each
    labels: list[Any]
    canvases: list[Any]
    times: int

    def mistakes(self, p: np.ndarray, not_a_digit: np.ndarray, which: np.ndarray) -> list[Mistake]:
        first = [i for i in np.flatnonzero(which) if i < len(self.labels) // self.times]
        digit = p.argmax(1)
        return [
            Mistake(
                self.canvases[i],
                self.pictures[i, 0],
                self.labels[i],
                int(digit[i]),
                float(p[i, digit[i]]),
                float(not_a_digit[i]),
            )
            for i in first
        ]


def group(rows: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Digits by their set, and what is no digit by its set; letters and symbols that look like a digit are left out."""
    digits, others = defaultdict(list), defaultdict(list)
    for row in rows:
        if row["label"] in range(10):
            digits[row["set"]].append(row)
        elif row["label"] not in LOOKALIKES:
            others[row["set"]].append(row)
    return digits, others


def place_all(rows: list[dict[str, Any]], rng: np.random.Generator, times: int | None = PLACEMENTS) -> Placed:
    """Rows, each put on the canvas so many times. Raises ValueError if one leaves no ink there.

    times: None leaves each where it was drawn.
    """
    if times is None:
        times, placed = 1, [row["strokes"] for row in rows]
    else:
        placed = [place(row["strokes"], rng) for _ in range(times) for row in rows]
    canvases = [render_strokes(strokes) for strokes in placed]
    pictures = [picture for canvas in canvases if (picture := preprocess_gray(canvas)) is not None]
    if len(pictures) < len(canvases):
        raise ValueError(f"{len(canvases) - len(pictures)} of {len(canvases)} drawings leave no ink on the canvas")
    return Placed(torch.cat(pictures), [row["label"] for row in rows] * times, canvases, times)


def answers(model: DigitNet, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, 28, 28) → (n, 10) probabilities of the digits, (n,) not_a_digit."""
    with torch.inference_mode():
        parts = [model.answers(x[i : i + 500]) for i in range(0, len(x), 500)]
    probabilities, not_a_digit = zip(*parts, strict=True)
    return torch.cat(probabilities).numpy(), torch.cat(not_a_digit).numpy()


def of_digits(p: np.ndarray, not_a_digit: np.ndarray, labels: np.ndarray, times: int) -> dict[str, Any]:
    """Accuracy (%, with its 95 % interval), calibration error (%), share turned away (%), errors of each class (%)."""
    right = p.argmax(1) == labels
    n = len(labels) // times  # the interval counts drawings, not placements of them
    return {
        "n": n,
        "accuracy": 100 * right.mean(),
        "interval": [100 * edge for edge in wilson(right.mean() * n, n)],
        "calibration error": 100 * calibration_error(p.max(1), right),
        "turned away": 100 * (not_a_digit > NO_DIGIT_ABOVE).mean(),
        "errors by class": [100 * (~right[labels == d]).mean() if d in labels else None for d in range(10)],
    }


def of_others(not_a_digit: np.ndarray, of_digits: np.ndarray, times: int) -> dict[str, Any]:
    """Area under the ROC curve of not_a_digit against that of digits, and the share turned away (%)."""
    return {
        "n": len(not_a_digit) // times,
        "auc": area_under_roc(not_a_digit, of_digits),
        "turned away": 100 * (not_a_digit > NO_DIGIT_ABOVE).mean(),
    }


def of_pairs(model: DigitNet, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Of two images side by side: how often several digits are seen (%), and how often the right ones (%)."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(images), size=(PAIRS, 2))
    seen = [parts_of(model, numbers(images[pair], rng)) for pair in chosen]
    right = [tuple(labels[pair].tolist()) == parts for pair, parts in zip(chosen, seen, strict=True)]
    return {
        "n": PAIRS,
        "seen as several": 100 * np.mean([len(p) > 1 for p in seen]),
        "read right": 100 * np.mean(right),
    }


def seen_as_several(model: DigitNet, canvases: list[np.ndarray]) -> np.ndarray:
    """(n,) bool: whether a drawing is taken for several digits side by side."""
    return np.array([len(parts_of(model, canvas)) > 1 for canvas in canvases])


def parts_of(model: DigitNet, canvas: np.ndarray) -> tuple[int, ...]:
    """The digits seen in (h, w) uint8, where there are several side by side."""
    parts = side_by_side_gray(canvas)
    whole = preprocess_gray(canvas) if parts else None  # as a rule there is one part
    return () if whole is None else predict(model, whole, parts).parts


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
    """Medians on one thread, each step over and over by itself."""
    gray = render_strokes([[(60, 50), (220, 50), (130, 240)]])
    Image.fromarray(gray).convert("RGBA").save(file := io.BytesIO(), format="PNG")
    png = file.getvalue()
    rgba = decode_drawing(png)
    x = torch.zeros(1, 1, 28, 28)
    steps: dict[str, Callable[[], Any]] = {
        "decode": lambda: decode_drawing(png),
        "preprocess": lambda: preprocess(rgba),
        "parts": lambda: side_by_side(rgba),
        "predict": lambda: predict(model, x),
    }
    medians = {}
    for name, step in steps.items():
        spans = []
        for _ in range(n):
            start = time.perf_counter()
            step()
            spans.append(time.perf_counter() - start)
        medians[name] = 1000 * float(np.median(spans))
    return medians


def table(figures: dict[str, Any]) -> str:
    lines = [f"{'digits':<14}{'n':>7}{'accuracy %':>13}{'95 % interval':>17}{'calibration':>14}{'turned away %':>16}"]
    lines[0] += f"{'as several %':>15}"
    for name, f in figures["digits"].items():
        low, high = f["interval"]
        lines.append(
            f"{name:<14}{f['n']:>7}{f['accuracy']:>13.2f}{f'{low:.2f} to {high:.2f}':>17}"
            f"{f['calibration error']:>14.2f}{f['turned away']:>16.2f}"
            + (f"{f['parts']:>15.2f}" if "parts" in f else "")
        )
    lines += ["", f"{'errors %':<14}" + "".join(f"{d:>7}" for d in range(10))]
    for name, f in figures["digits"].items():
        errors = ["" if e is None else f"{e:.2f}" for e in f["errors by class"]]
        lines.append(f"{name:<14}" + "".join(f"{e:>7}" for e in errors))
    lines += ["", f"{'not digits':<14}{'n':>7}{'area under ROC':>17}{'turned away %':>16}"]
    for name, f in figures["not digits"].items():
        lines.append(f"{name:<14}{f['n']:>7}{f['auc']:>17.4f}{f['turned away']:>16.1f}")
    pairs = figures["pairs"]
    lines += ["", f"{pairs['n']} pairs of test images: {pairs['seen as several']:.1f} % seen as several digits, "]
    lines[-1] += f"{pairs['read right']:.1f} % as the right ones"
    spans = ", ".join(f"{name} {ms:.2f}" for name, ms in figures["milliseconds"].items())
    return "\n".join([*lines, "", f"milliseconds a drawing, one thread: {spans}; {figures['parameters']:,} parameters"])


def contact_sheet(mistakes: list[Mistake], columns: int = 10, most: int = 60) -> Image.Image:
    """Up to so many of each kind of mistake: the drawing, what the network saw, and what was said of it.

    First what was misread, then digits turned away, then what is none and passes.
    """
    width, height = 150, 92
    kinds = defaultdict(list)
    for mistake in mistakes:
        kind = "passes" if mistake.label not in range(10) else "away" if mistake.turned_away else "misread"
        kinds[kind].append(mistake)
    shown = [mistake for kind in ("misread", "away", "passes") for mistake in spread(kinds[kind], most)]
    sheet = Image.new("L", (columns * width, max(1, -(-len(shown) // columns)) * height), 24)
    draw = ImageDraw.Draw(sheet)
    for i, mistake in enumerate(shown):
        left, top = i % columns * width + 4, i // columns * height + 4
        if mistake.canvas is not None:
            sheet.paste(Image.fromarray(mistake.canvas).resize((70, 70), Image.Resampling.BOX), (left, top))
        seen = Image.fromarray(to_pixels(mistake.picture[None, None]))
        sheet.paste(seen.resize((70, 70), Image.Resampling.NEAREST), (left + 72, top))
        said = "turned away" if mistake.turned_away else f"as {mistake.digit}, {100 * mistake.confidence:.0f} %"
        draw.text((left, top + 72), f"{mistake.label} {said}", fill=230)
    return sheet


def spread(mistakes: list[Mistake], most: int) -> list[Mistake]:
    """At most so many, evenly from the first to the last."""
    if len(mistakes) <= most:
        return mistakes
    return [mistakes[i] for i in np.linspace(0, len(mistakes) - 1, most).astype(int)]


def read_drawings(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file of drawings, blank ones left out; raises ValueError on one that is no drawing."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            label = row["label"]
            known = type(label) is int or isinstance(label, str) and not label.isdecimal()  # "7" is no digit, nor none
            complete = known and isinstance(row["set"], str) and np.vstack(row["strokes"]).shape[1] == 2
        except (ValueError, TypeError, KeyError):
            complete = False
        if not complete:
            raise ValueError(f"{path}, line {number} is no drawing; `python evaluate.py --help` shows what one is.")
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
