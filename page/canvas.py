"""The drawing canvas: the component as the page needs it, and what a browser says is on it."""

import base64
from collections.abc import Callable

import numpy as np
import streamlit as st
import streamlit_drawable_canvas
from streamlit_drawable_canvas import st_canvas

from utils import BRUSH_WIDTH, CANVAS_SIZE, DrawingError, decode_drawing

DATA_URL = "data:image/png;base64,"
NOT_A_DRAWING = "The browser sent something that is not a drawing. Please draw again."

# The component's own toolbar lies unseen over the upper right of the canvas, and on a touch screen it swallows every
# stroke that begins there. In the shadow root that the package asks for, no style sheet of the page could hide it.
streamlit_drawable_canvas.out = st.components.v2.component(
    "streamlit-drawable-canvas.streamlit_drawable_canvas",
    html='<div class="canvas-root"></div>',
    css="index-*.css",
    js="index-*.js",
    isolate_styles=False,
)

# The component waits 200 ms after a stroke before it sends it, which is most of the time that an answer takes, and a
# label pressed within them missed the stroke. Its toolbar's first button sends at once: this presses it when the pen
# is lifted. Should that ever come too early, or the button be gone, the component still sends by itself.
#
# The component ends a stroke only when no finger is left on the whole screen, knows nothing of a touch that the system
# takes away, and lets go of the pen when another button of the mouse is released: what was drawn then stayed on the
# canvas unread, and the next stroke wiped it out. It is told of the end of each stroke, and of no other button.
#
# Once a button or a key has ended the drawing, nothing more can be drawn on it; if the next canvas is late, it fades.
#
# The answer and the notice are made anew for every stroke, and a screen reader tells what changes inside of a region
# that was there before: their containers stay, so these are made such regions before the first stroke ends.
#
# Streamlit's shortcuts hear every key on the page. Those of a dialog, which asks about another drawing, and those of
# the history must not label what is on the canvas, nor a key that is held down what is drawn meanwhile. A dialog that
# opens while a pen is down is not given the focus, without which it does not hear Escape.
SEND = """
export default function ({ parentElement }) {
  parentElement.stop?.();  // Streamlit calls this again when it sends the component again
  const listeners = new AbortController();
  const on = (names, what) => names.forEach((name) =>
    window.addEventListener(name, what, { capture: true, signal: listeners.signal }));
  let drawing = null;
  on(["mousedown", "mouseup"], (event) => { if (drawing && event.button) event.stopImmediatePropagation(); });
  on(["touchend", "touchcancel"], (event) => {
    const lifted = event.type === "touchend" && (!event.touches.length || event.targetTouches.length);
    if (lifted || !event.target.closest?.("[class*=st-key-canvas-]")) return;
    event.stopImmediatePropagation();
    const changedTouches = [...event.changedTouches];
    event.target.dispatchEvent(new TouchEvent("touchend", { bubbles: true, cancelable: true, changedTouches }));
  });
  on(["mousedown", "touchstart"], (event) => {
    if (event.button) return;
    drawing = event.target.closest?.("[class*=st-key-canvas-]") ?? drawing;
    for (const region of document.querySelectorAll(".st-key-answer_confidence, .st-key-notice")) region.role = "status";
  });
  on(["mouseup", "touchend"], (event) => {
    if (!drawing || event.touches?.length) return;
    // Once the component has taken the stroke in.
    setTimeout((canvas) => canvas.querySelector('[aria-label^="Update the app"]')?.click(), 0, drawing);
    drawing = null;
  });
  const end = () => {
    for (const canvas of document.querySelectorAll("[class*=st-key-canvas-]")) {
      canvas.classList.add("ended");
      setTimeout(() => canvas.classList.remove("ended"), 5000);  // the press was in vain
    }
  };
  on(["click"], (event) => {
    if (event.target.closest?.(".st-key-true_label button, .st-key-correct button, .st-key-clear button")) end();
  });
  on(["keydown"], (event) => {
    const dialog = document.querySelector("[role=dialog]");
    if (event.key === "Escape" && !dialog?.contains(event.target)) dialog?.querySelector("[aria-label=Close]")?.click();
    const elsewhere = dialog || event.target.closest?.(".st-key-history");
    const typing = event.target.closest?.("input, textarea");
    if (typing || !/^([0-9y]|Backspace)$/i.test(event.key)) return;
    if (elsewhere || event.repeat) return event.stopImmediatePropagation();
    const button = document.querySelector(`.st-key-${/y/i.test(event.key) ? "correct" : "clear"} button:enabled`);
    if (button && !event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey) end();
  });
  parentElement.stop = () => listeners.abort();
  return parentElement.stop;
}
"""


def show_canvas(key: str, on_change: Callable[[], None]) -> None:
    """White ink on black. The browser sends what is drawn at the end of every stroke."""
    st.html('<p class="unseen">Canvas: draw a digit here with mouse, pen or finger</p>')
    st_canvas(
        stroke_width=BRUSH_WIDTH,
        stroke_color="#ffffff",
        background_color="#000000",
        width=CANVAS_SIZE,
        height=CANVAS_SIZE,
        return_image_data=True,
        key=key,
        on_change=on_change,
    )


@st.cache_resource(show_spinner=False)
def get_sender():
    return st.components.v2.component("send", js=SEND)


def send_at_once() -> None:
    """Have strokes sent when the pen is lifted, answers announced, and keys kept apart; once on a page."""
    get_sender()(key="send", height=1)


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


def decode(url: str) -> np.ndarray:
    """A data URL from `canvas_url` → (h, w, 4) uint8. Raises DrawingError."""
    try:
        png = base64.b64decode(url[len(DATA_URL) :], validate=True)
    except ValueError as error:
        raise DrawingError(NOT_A_DRAWING) from error
    return decode_drawing(png)
