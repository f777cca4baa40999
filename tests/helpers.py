"""What several test files need: waiting, and drawings to send or to save."""

import io
import json
import threading
import time
from datetime import UTC, datetime

import numpy as np
from PIL import Image, ImageDraw

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
SEVEN = [(90, 60), (190, 60), (130, 220)]
ONE = [(140, 50), (135, 230)]


def until(condition, seconds=60, otherwise=lambda: "it never came true"):
    """Wait for what must come true, long enough for the slowest machine, and return it. otherwise: what is wrong."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {otherwise()}"
        time.sleep(0.05)
    return found


def all_at_once(function, arguments):
    """Call the function with each of these arguments (tuples), each in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=function, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def given(elements, name="answer"):
    """What the page gives to the component of this name: its data, or {}. elements: Streamlit's, on the page."""
    return next((json.loads(e.bidi_component.json) for e in elements if e.bidi_component.component_name == name), {})


def digit_in(data):
    """The digit that is shown for this data, or None."""
    answer = data.get("answer")
    return answer["digit"] if answer and answer["not_a_digit"] <= 0.5 else None


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
