"""Preprocessing: a drawing on the canvas becomes the 28×28 picture that MNIST would have made of it.

MNIST's digits are not small pictures of a page. Each was cut to its ink, scaled into 20×20 with its aspect ratio kept,
and pasted into 28×28 so that its centre of mass falls on the middle (LeCun, Cortes and Burges, "The MNIST database of
handwritten digits"). A drawing that goes through the same steps is read wherever and however large it was drawn.
"""

import io
import math
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

CANVAS_SIZE = 280  # pixels a side, as the page shows it
BRUSH_WIDTH = 20  # pixels: about MNIST's own stroke width once the drawing is scaled into 20×20
MAX_SIDE = 4 * CANVAS_SIZE  # the canvas sends CANVAS_SIZE on every screen; others may send their device's pixels
SUPERSAMPLING = 4  # a pixel of the canvas is drawn as 4×4 and averaged: the browser's anti-aliasing
MAX_PNG_BYTES = 1_000_000  # a drawing is 5 to 20 kB

BOX = 20  # MNIST: the longer side of the ink, in pixels
FIELD = 28  # MNIST: the whole picture
CENTRE = 14  # MNIST: the pixel nearest the centre of mass, in both directions (so in all training images but two)
INK = 32  # gray levels of 255 below which a pixel is background: the faint rim of an anti-aliased stroke

# Parts side by side are looked for in every other pixel of a canvas. Between two of them is an empty strip, which moves
# by so many columns to the left a row; its width and the height of a part are shares of the height of all ink.
SEARCHED = 140
LEANS = (0.0, 0.125, -0.125, 0.25, -0.25, 0.375, 0.5)
GAP, LOWEST = 0.03, 0.4

Z = 1.959964  # of the normal distribution: 95 of 100 lie within


Strokes = Sequence[npt.ArrayLike]  # each (n, 2): its points, x before y, y downward


class DrawingError(ValueError):
    """A canvas value that is not a drawing. Its text can be shown to the visitor."""


def decode_drawing(png: bytes) -> np.ndarray:
    """PNG bytes from a browser, not to be trusted → (h, w, 4) uint8.

    Type and size are read from the header before any pixel is decoded. Raises DrawingError.
    """
    if not isinstance(png, bytes) or len(png) > MAX_PNG_BYTES:
        raise DrawingError(
            f"The drawing is not a PNG of at most {MAX_PNG_BYTES:,} bytes. Clear the canvas and draw again."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here, more strictly
            image = Image.open(io.BytesIO(png), formats=["PNG"])
            if max(image.size) > MAX_SIDE:
                raise DrawingError(
                    f"The drawing is {image.width}×{image.height} pixels; at most {MAX_SIDE}×{MAX_SIDE} can be read."
                )
            if image.mode.startswith("I"):  # 16 bits: Pillow would make white of all but the darkest
                return np.asarray(Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGBA"))
            return np.asarray(image.convert("RGBA"))
    except DrawingError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, above 13,000×13,000
        raise DrawingError(f"The drawing has too many pixels; at most {MAX_SIDE}×{MAX_SIDE} can be read.") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error and more on damaged files
        raise DrawingError("The drawing is not a readable PNG. Clear the canvas and draw again.") from error


def to_gray(rgba: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 canvas → (h, w) uint8: its luminance on black. Raises DrawingError on any other array."""
    if not isinstance(rgba, np.ndarray) or rgba.dtype != np.uint8 or rgba.ndim != 3 or rgba.shape[2] != 4:
        got = f"{rgba.dtype} {rgba.shape}" if isinstance(rgba, np.ndarray) else type(rgba).__name__
        raise DrawingError(f"A canvas image is an array of (height, width, 4) uint8, not {got}.")
    if not 0 < min(rgba.shape[:2]) <= max(rgba.shape[:2]) <= MAX_SIDE:
        raise DrawingError(f"A canvas image has 1 to {MAX_SIDE} pixels a side, not {rgba.shape[1]}×{rgba.shape[0]}.")
    alpha = rgba[..., 3]
    if alpha.min() < 255:
        rgba = (rgba.astype(np.uint16) * alpha[..., None] // 255).astype(np.uint8)
    return np.asarray(Image.fromarray(rgba).convert("L"))  # of red, green and blue; alpha plays no part


def preprocess(rgba: np.ndarray) -> torch.Tensor | None:
    """(h, w, 4) uint8 canvas, light ink on dark → (1, 1, 28, 28) float32 in 0..1 as in MNIST, or None if it has no ink.

    Raises DrawingError on an array of another shape or type.
    """
    return preprocess_gray(to_gray(rgba))


def preprocess_gray(gray: np.ndarray) -> torch.Tensor | None:
    """(h, w) uint8, light ink on dark → (1, 1, 28, 28) float32 in 0..1 as in MNIST, or None if it has no ink."""
    if (box := ink_box(gray)) is None:
        return None
    left, top, right, bottom = box
    cut = gray[top:bottom, left:right]
    side = max(cut.shape)
    small = _area_average(_area_average(cut.astype(np.float32), side).T, side).T
    small = small / small.max()  # full contrast
    picture = np.zeros((1, 1, FIELD, FIELD), dtype=np.float32)
    y, x = (_offset(small.sum(axis=axis)) for axis in (1, 0))
    picture[0, 0, y : y + BOX, x : x + BOX] = small
    return torch.from_numpy(picture)


def ink_box(gray: np.ndarray) -> tuple[int, int, int, int] | None:
    """(h, w) uint8, light ink on dark → left, top, right and bottom edge of its ink, or None without any."""
    ink = gray >= INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


def to_pixels(picture: torch.Tensor) -> np.ndarray:
    """(1, 1, 28, 28) float in 0..1, as `preprocess` makes it → (28, 28) uint8, to be shown."""
    pixels: np.ndarray = (picture[0, 0].numpy() * 255).astype(np.uint8)
    return pixels


def side_by_side(rgba: np.ndarray) -> list[torch.Tensor]:
    """(h, w, 4) uint8 canvas → what `preprocess` makes of each of the parts that lie side by side, left to right.

    Nothing if there is one part. Between two parts there is an empty strip, upright or leaning, and none is much lower
    than the rest, as a loose cap or a dot is: whether they are digits, the network says. Raises DrawingError.
    """
    return side_by_side_gray(to_gray(rgba))


def side_by_side_gray(gray: np.ndarray) -> list[torch.Tensor]:
    """The same of (h, w) uint8, light ink on dark."""
    step = -(-max(gray.shape) // SEARCHED)
    y, x = np.nonzero(gray[::step, ::step] >= INK)
    if len(y) == 0:
        return []
    height, cuts, leaning = np.ptp(y) + 1, np.zeros(0), 0.0
    for lean in LEANS:
        column = (x + lean * y).round().astype(int)
        filled = np.flatnonzero(np.bincount(column - column.min())) + column.min()
        gap = np.diff(filled) - 1
        wide = np.flatnonzero(gap >= GAP * height)
        if len(wide) <= len(cuts):  # of as many parts, those of the first lean
            continue
        edges = filled[wide] + 1 + gap[wide] / 2
        part = np.searchsorted(edges, column)
        if min(np.ptp(y[part == i]) + 1 for i in range(len(edges) + 1)) >= LOWEST * height:
            cuts, leaning = edges * step, lean
    if len(cuts) == 0:
        return []
    place = np.searchsorted(cuts, np.arange(gray.shape[1]) + leaning * np.arange(gray.shape[0])[:, None])
    pictures = [preprocess_gray(np.where(place == i, gray, 0).astype(np.uint8)) for i in range(len(cuts) + 1)]
    return [picture for picture in pictures if picture is not None]


def _area_average(image: np.ndarray, side: int) -> np.ndarray:
    """(n, m) float32, in the middle of `side` rows → (20, m): the mean of each twentieth, fractions of rows included.

    Pillow's box filter takes whole rows by their centres, which drops or doubles some at scales close to one.
    """
    n, m = image.shape
    edges = np.clip(np.linspace(0, side, BOX + 1) - (side - n) / 2, 0, n).astype(np.float32)
    whole = edges.astype(int)
    nothing = np.zeros((1, m), dtype=np.float32)
    upto = np.vstack([nothing, image.cumsum(axis=0)])[whole]
    upto += (edges - whole)[:, None] * np.vstack([image, nothing])[whole]
    return np.diff(upto, axis=0) * np.float32(BOX / side)


def _offset(profile: np.ndarray) -> int:
    """Where ink with this profile along one side starts in the field, so that its centre of mass falls on CENTRE."""
    mean = float(profile @ np.arange(BOX)) / float(profile.sum())
    return min(max(round(CENTRE - mean), 0), FIELD - BOX)


def encode_png(image: np.ndarray) -> bytes:
    """(h, w, 4) or (h, w) uint8 → a grayscale PNG at the same resolution. Raises DrawingError on any other array."""
    gray = image if isinstance(image, np.ndarray) and image.ndim == 2 and image.dtype == np.uint8 else to_gray(image)
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, format="PNG", compress_level=1)  # three times as fast, a little larger
    return buffer.getvalue()


def render_strokes(strokes: Strokes, size: int = CANVAS_SIZE, brush: float = BRUSH_WIDTH) -> np.ndarray:
    """Strokes, each a list of (x, y) in canvas pixels, → (size, size) uint8: what the browser's canvas shows of them.

    White on black, round caps and joins, and a quadratic curve through the middles between the points, as the canvas's
    pencil (Fabric.js, `PencilBrush`) draws them.
    """
    return render_lines([smooth(np.asarray(stroke, dtype=np.float64)) for stroke in strokes], size, size, brush)


def render_lines(lines: Sequence[np.ndarray], width: int, height: int, brush: float = BRUSH_WIDTH) -> np.ndarray:
    """Lines, each (n, 2) as `smooth` makes them, → (height, width) uint8, white on black with round caps and joins."""
    image = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    radius = brush * SUPERSAMPLING / 2
    for line in lines:
        points = line * SUPERSAMPLING
        draw.line([tuple(p) for p in points], fill=255, width=round(2 * radius))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.reduce(SUPERSAMPLING))


def strokes_box(strokes: Strokes, brush: float = BRUSH_WIDTH) -> tuple[float, float, float, float]:
    """What `ink_box` says of them, within a pixel, without drawing them; beyond the canvas, too."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for stroke in strokes:
        p = np.asarray(stroke, dtype=np.float64)
        on_it = [p[:1], p[-1:]]
        if len(p) > 2:
            middles = (p[:-1] + p[1:]) / 2
            a, b, c = np.vstack([p[:1], middles[:-1]]), p[:-1], middles  # start, control and end of each curve
            bend = a - 2 * b + c
            turn = np.divide(a - b, bend, out=np.zeros_like(bend), where=bend != 0).clip(0, 1)  # where it turns back
            on_it += [middles, (1 - turn) ** 2 * a + 2 * turn * (1 - turn) * b + turn**2 * c]
        points = np.vstack(on_it)
        low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    (left, top), (right, bottom) = low - brush / 2, high + brush / 2
    return left, top, right, bottom


def smooth(points: np.ndarray) -> np.ndarray:
    """(n, 2) points → points along the quadratic curves whose control points they are."""
    if len(points) < 3:
        return points
    middles = (points[:-1] + points[1:]) / 2
    path = [points[:1]]
    for start, control, end in zip(np.vstack([points[:1], middles[:-1]]), points[:-1], middles, strict=True):
        t = np.linspace(0, 1, int(np.ceil(np.linalg.norm(end - start) / 3)) + 2)[1:, None]
        path.append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
    return np.vstack([*path, points[-1:]])


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share `right / n`, after Wilson (1927): it also holds near 0, near 1 and for small n."""
    p, z2 = right / n, Z * Z
    centre, half = p + z2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # Rounded, it may end beside 0 or 1 by the last bit: an axis would go on to 110 %.
    return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))
