"""What several test files need: waiting, and drawings to send or to save."""

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from PIL import Image, ImageDraw

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
SEVEN = [(90, 60), (190, 60), (130, 220)]
ONE = [(140, 50), (135, 230)]


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what must come true, long enough for the slowest machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.05)


def png(*strokes, size=280, mode="RGBA"):
    """What the canvas sends after these strokes, lists of (x, y): white lines, 20 pixels wide, on black."""
    image = Image.new("RGBA", (size, size), "black")
    for stroke in strokes:
        ImageDraw.Draw(image).line(stroke, fill="white", width=20, joint="curve")
    image.convert(mode).save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def scribble(chance):
    """A PNG of a random stroke, as the canvas would send it. No two are the same."""
    return png([(chance.randrange(40, 240), chance.randrange(40, 240)) for _ in range(6)])


def same_ink(one, other):
    """Whether two PNGs hold the same picture in gray."""
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in (one, other))
    return np.array_equal(one, other)
