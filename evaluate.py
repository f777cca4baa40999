"""Measures a model on MNIST's test images and on drawings, and prints a table.

    python evaluate.py [--model model.pth] [--data DIR] [FILE.jsonl ...] [--json] [--errors FILE.png]

A line of a drawings file is {"set", "label", "strokes": [[[x, y], ...], ...]}, y downward, in any unit.
A label of 0 to 9 is a digit; anything else is a drawing that should be turned away, unless it looks like a digit.
"""

import argparse
import io
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from model import NOT_A_DIGIT, DigitNet, load_model, predict
from training.strokes import doodles, place, render_strokes
from utils import decode_drawing, preprocess, preprocess_gray

PLACEMENTS = 5  # times that every drawing is put on the canvas, each at another size and place
BINS = 15  # of the calibration error, as Guo et al. (2017) count it
LOOKALIKES = set("BbDGgIiJjlOoQqSsYyZz" + "|/\\!()',}")  # letters and symbols that some people's digits look like


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", nargs="*", type=Path, metavar="FILE.jsonl", help="drawings to measure on")
    parser.add_argument("--model", type=Path, default=Path("model.pth"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DATA_DIR") or "data"), help="where MNIST is")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--errors", type=Path, metavar="FILE.png", help="write a contact sheet of the mistakes")
    args = parser.parse_args()
    model = load_model(args.model)
    figures, mistakes = evaluate(model, args.data, args.drawings)
    print(json.dumps(figures, indent=1) if args.json else table(figures))
    if args.errors:
        contact_sheet(mistakes).save(args.errors, optimize=True)


def evaluate(model: DigitNet, data: Path, drawings: list[Path]) -> tuple[dict, list]:
    """The figures of a model, and its mistakes as (drawing or None, what the model saw, what it is, what was said).

    Of drawings, which are placed several times, the mistakes are those of the first time. Raises ValueError on a line
    that is no drawing.
    """
    from torchvision.datasets import MNIST  # here: whoever only renders strokes needs no torchvision

    test = MNIST(str(data), train=False, download=True)
    digits, others = group([row for path in drawings for row in read_drawings(path)])
    sets = {"MNIST test": (test.data[:, None].float() / 255, test.targets.tolist(), [None] * len(test.data))}
    sets |= {name: place_all(rows, np.random.default_rng(0)) for name, rows in digits.items()}
    figures, not_a_digit, mistakes = {"digits": {}, "not digits": {}}, {}, []
    for name, (x, labels, grays) in sets.items():
        p, times = probabilities(model, x), PLACEMENTS if name in digits else 1
        figures["digits"][name] = of_digits(p, np.array(labels), times)
        not_a_digit[name] = p[:, NOT_A_DIGIT]
        wrong = np.flatnonzero(p[:, :NOT_A_DIGIT].argmax(1) != np.array(labels))
        mistakes += [(grays[i], x[i, 0], labels[i], p[i]) for i in wrong if i < len(labels) // times]
    of_all_digits = np.concatenate([not_a_digit[name] for name in digits or sets])  # MNIST's only if none are drawn
    for name, rows in (others | doodles(np.random.default_rng(0))).items():
        times = PLACEMENTS if name in others else 1
        x, _, _ = place_all(rows, np.random.default_rng(0), times)
        figures["not digits"][name] = of_others(probabilities(model, x)[:, NOT_A_DIGIT], of_all_digits, times)
    figures["milliseconds"] = milliseconds(model)
    figures["parameters"] = sum(p.numel() for p in model.parameters())
    return figures, mistakes


def group(rows: list[dict]) -> tuple[dict[str, list[dict]], dict[str, list[dict]]]:
    """Digits by their set, and what is no digit by its set; letters and symbols that look like a digit are left out."""
    digits, others = defaultdict(list), defaultdict(list)
    for row in rows:
        if row["label"] in range(10):
            digits[row["set"]].append(row)
        elif row["label"] not in LOOKALIKES:
            others[row["set"]].append(row)
    return digits, others


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
        "errors by class": [100 * (~right[labels == d]).mean() if d in labels else None for d in range(10)],
    }


def of_others(not_a_digit: np.ndarray, of_digits: np.ndarray, times: int) -> dict:
    """Area under the ROC curve of not_a_digit against that of digits, and the share turned away (%)."""
    return {
        "n": len(not_a_digit) // times,
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
    """Medians on one thread, each step over and over by itself: a browser's PNG decoded, preprocessing, the network."""
    gray = render_strokes([[(60, 50), (220, 50), (130, 240)]])
    Image.fromarray(gray).convert("RGBA").save(png := io.BytesIO(), format="PNG")
    png = png.getvalue()
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
        errors = ["" if e is None else f"{e:.2f}" for e in f["errors by class"]]
        lines.append(f"{name:<14}" + "".join(f"{e:>7}" for e in errors))
    lines += ["", f"{'not digits':<14}{'n':>7}{'area under ROC':>17}{'turned away %':>16}"]
    for name, f in figures["not digits"].items():
        lines.append(f"{name:<14}{f['n']:>7}{f['auc']:>17.4f}{f['turned away']:>16.1f}")
    spans = ", ".join(f"{name} {ms:.2f}" for name, ms in figures["milliseconds"].items())
    return "\n".join([*lines, "", f"milliseconds a drawing, one thread: {spans}; {figures['parameters']:,} parameters"])


def contact_sheet(mistakes: list, columns: int = 10, most: int = 120) -> Image.Image:
    """The first of the mistakes: the drawing, what the model saw, and "LABEL read as ANSWER, CONFIDENCE"."""
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
    """The lines of a file of drawings, blank ones left out; raises ValueError on one that is no drawing."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            named = isinstance(row["set"], str) and isinstance(row["label"], int | str)
            complete = named and np.vstack(row["strokes"]).shape[1] == 2
        except (ValueError, TypeError, KeyError):
            complete = False
        if not complete:
            raise ValueError(f"{path}, line {number} is no drawing; `python evaluate.py --help` shows what one is.")
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
