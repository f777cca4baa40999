"""The drawing canvas: the component as the page needs it, and what a browser says is on it."""

import base64
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from utils import BRUSH_WIDTH, CANVAS_SIZE, DrawingError, decode_drawing, ink_box, strokes_box

DATA_URL = "data:image/png;base64,"
MAX_POINTS = 4_000  # of a drawing: half a minute of drawing without pause
FURTHEST = 10 * CANVAS_SIZE  # from the canvas's corner: with the button held, the pen may leave it
LONGEST = 200 * CANVAS_SIZE  # pixels of the pen's way: each costs whoever looks at the drawing
SLACK = 4  # pixels between the edges of the strokes and those of the ink

NOT_A_DRAWING = "The browser sent something that is not a drawing. Please draw again."


@functools.cache
def _component() -> Callable[..., Any]:
    """The canvas, imported at its first use: outside of a run of the page that raises."""
    import streamlit_drawable_canvas

    # Its own toolbar lies unseen over the upper right of the canvas, and on a touch screen it swallows every stroke
    # that begins there. In the shadow root that the package asks for, no style sheet of the page could hide it.
    streamlit_drawable_canvas.out = st.components.v2.component(
        "streamlit-drawable-canvas.streamlit_drawable_canvas",
        html='<div class="canvas-root"></div>',
        css="index-*.css",
        js="index-*.js",
        isolate_styles=False,
    )
    return streamlit_drawable_canvas.st_canvas


def show_canvas(key: str) -> None:
    """White ink on black. The browser sends what is drawn at the end of every stroke."""
    st.html('<p class="unseen">Canvas: draw a digit here with mouse, pen or finger</p>')
    _component()(
        stroke_width=BRUSH_WIDTH,
        stroke_color="#ffffff",
        background_color="#000000",
        width=CANVAS_SIZE,
        height=CANVAS_SIZE,
        return_image_data=True,
        key=key,
    )


def canvas_url(key: str) -> str | None:
    """The PNG on the canvas as a data URL, or None before the first stroke.

    Asks the widget's state, which can be anything that a browser cares to send, before `st_canvas` may stumble over it.
    Raises DrawingError.
    """
    value = st.session_state.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("backgroundFit") is not None:
        raise DrawingError(NOT_A_DRAWING)
    drawing = value.get("drawing") or {}
    if not isinstance(drawing, dict):
        raise DrawingError(NOT_A_DRAWING)
    url = drawing.get("data")
    if url is not None and not (isinstance(url, str) and url.startswith(DATA_URL)):
        raise DrawingError(NOT_A_DRAWING)
    return url


def strokes_of(key: str, gray: np.ndarray) -> list[list[tuple[float, float]]] | None:
    """The points of each path that the browser says is on the canvas, as `render_strokes` takes them, to a tenth pixel.

    gray: (h, w) uint8, what is on it. None where the browser says nothing of the kind, too many points, or others than
    those of this ink: what was drawn is kept all the same.
    """
    try:
        paths = [shape["path"] for shape in st.session_state[key]["drawing"]["raw"]["objects"]]
        if sum(map(len, paths)) > MAX_POINTS or gray.shape != (CANVAS_SIZE, CANVAS_SIZE):
            return None
        # "M", "L": x, y; "Q": the point of the pen, by which the curve to the middle of the next two points is drawn.
        strokes = [[(round(float(part[1]), 1), round(float(part[2]), 1)) for part in path] for path in paths]
        strokes = [[point for point, _ in itertools.groupby(stroke)] for stroke in strokes]
        if not all(abs(x) < FURTHEST and abs(y) < FURTHEST for stroke in strokes for x, y in stroke):
            return None
        if sum(math.dist(*step) for stroke in strokes for step in itertools.pairwise(stroke)) > LONGEST:
            return None
        ink, drawn = ink_box(gray), np.array(strokes_box(strokes)).clip(0, CANVAS_SIZE)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):  # a browser can send anything
        return None
    return strokes if ink is not None and np.abs(drawn - ink).max() <= SLACK else None


def decode(url: str) -> np.ndarray:
    """A data URL from `canvas_url` → (h, w, 4) uint8. Raises DrawingError."""
    try:
        png = base64.b64decode(url[len(DATA_URL) :], validate=True)
    except ValueError as error:
        raise DrawingError(NOT_A_DRAWING) from error
    return decode_drawing(png)
