"""The page: draw a digit, read the answer, give the true label, scroll the history. `make run` starts it.

Only what changes reruns: the drawing, the history and the insights are one fragment each.
"""

import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st

from model import DigitNet, ModelError, Prediction, freeze, load_model, predict
from page import answer
from page.canvas import canvas_url, decode, send_at_once, show_canvas
from page.history import show_history
from page.insights import show_insights
from page.live import answer_also
from store.outbox import SAVE_WAIT, Allowance, shared
from utils import DrawingError, encode_png, preprocess

st.set_page_config(page_title="Draw a digit", page_icon="✏️", layout="centered")

HERE = Path(__file__).parent
POLL = 2  # seconds between looks at what still waits to be saved
TOO_FAST = "That was faster than drawings can be kept. Wait a moment, then draw again."


@st.cache_resource(show_spinner=False)
def get_model() -> DigitNet:
    return load_model(HERE / "model.pth")


# --- the drawing -----------------------------------------------------------------------------------------------------


@dataclass
class Drawn:
    """What the canvas holds, and what the network says of it."""

    url: str
    rgba: np.ndarray
    pixels: np.ndarray  # (28, 28) uint8, what the network saw
    prediction: Prediction
    kept: bool = False


def start_drawing(refusal: str = "") -> None:
    """An empty canvas under a new UUID. Its key carries it, so a late stroke of the last drawing lands nowhere.

    The UUID comes last: Streamlit may end a run between any two of these, and whoever has it has all of them.
    """
    st.session_state.update(started_at=None, drawn=None, refusal=refusal, drawing_id=str(uuid.uuid4()))


def canvas_key() -> str:
    return f"canvas-{st.session_state.drawing_id}"


def read_canvas() -> None:
    """Bring the answer up to date with the canvas. What was decoded before is not decoded again."""
    state = st.session_state
    try:
        url = canvas_url(canvas_key())
        if url is None or state.drawn and url == state.drawn.url:
            return
        rgba = decode(url)
        picture = preprocess(rgba)
    except DrawingError as error:
        start_drawing(refusal=str(error))
        return
    if picture is None:  # no ink
        if state.drawn:
            start_drawing()
        return
    pixels = (picture[0, 0].numpy() * 255).astype(np.uint8)
    drawn = Drawn(url, rgba, pixels, predict(MODEL, picture))
    if state.started_at is None:
        state.told |= state.shown_lost  # what was said once is not said of this drawing, too
        state.started_at = datetime.now(UTC)
    state.refusal = state.saved_label = ""
    state.drawn = drawn  # last, as in start_drawing: a run that finds it goes on from here


def keep_drawing() -> None:
    """Hand the drawing to the outbox, once for each stroke."""
    state = st.session_state
    if state.drawn is None or state.drawn.kept or not state.allowance.take():
        return
    said = state.drawn.prediction
    OUTBOX.put_prediction(
        state.drawing_id,
        created_at=state.started_at,
        digit=said.digit,
        confidence=said.confidence,
        probabilities=said.probabilities,
        not_a_digit=said.not_a_digit,
        drawing=encode_png(state.drawn.rgba),
        model_version=MODEL.version,
    )
    state.own_ids.add(state.drawing_id)
    state.drawn.kept = True


def finish_drawing(digit: int | None = None, drawing_id: str | None = None) -> None:
    """Label the drawing that the pressed button was shown for, or only clear it, and start the next one."""
    state = st.session_state
    read_canvas()  # a stroke that arrived together with the press belongs to this drawing
    keep_drawing()
    drawn = state.drawn
    if digit is None or drawn and drawing_id in (None, state.drawing_id):
        if digit is not None and drawn.kept:
            OUTBOX.put_label(state.drawing_id, digit)
            state.saved_label = str(digit)
        start_drawing(refusal=TOO_FAST if drawn and not drawn.kept else "")
    st.rerun("drawing")


def accept_answer(drawing_id: str | None = None) -> None:
    drawn = st.session_state.drawn
    if drawn and answer.is_digit(drawn.prediction):
        finish_drawing(drawn.prediction.digit, drawing_id)


# --- its parts on the page -------------------------------------------------------------------------------------------


def show_answer(drawn: Drawn | None, refusal: str) -> None:
    said = drawn and drawn.prediction
    with st.container(key="answer"):
        with st.container(key="answer_digit"):
            st.html(answer.digit(said))
        with st.container(key="answer_confidence"):
            st.html(answer.confidence(said) if said else escape(refusal) or "Draw a digit to begin")
        st.html(answer.picture(drawn and drawn.pixels) + answer.bars(said))


def show_labels(drawn: Drawn | None, drawing_id: str) -> None:
    st.html("<p>Which digit did you draw?</p>")
    with st.container(key="true_label"):
        for digit in range(10):
            key = f"label-{digit}"
            st.button(str(digit), key=key, on_click=finish_drawing, args=(digit, drawing_id), disabled=not drawn)
    wrong = not (drawn and answer.is_digit(drawn.prediction))
    st.button("Correct", key="correct", type="primary", on_click=accept_answer, args=(drawing_id,), disabled=wrong)


def show_notice() -> None:
    """What is and is not in the table. While something waits to be saved, this looks again by itself."""
    saved = OUTBOX.wait(st.session_state.own_ids - st.session_state.told, SAVE_WAIT)
    with st.container(key="notice"):
        if saved and not OUTBOX.problem:
            notice()
        else:
            st.fragment(notice, run_every=POLL)()


def notice() -> None:
    state, problem, text = st.session_state, True, ""
    waiting = OUTBOX.pending(state.own_ids)  # asked first: what is refused meanwhile is found among the lost
    if OUTBOX.problem:
        text = OUTBOX.problem
    elif lost := OUTBOX.lost(state.own_ids - state.told):
        text = f"{len(lost)} of your drawings could not be saved."
        state.shown_lost = lost
    elif state.drawn and not state.drawn.kept:
        text = f"Not saved. {TOO_FAST}"
    else:
        problem = False
        if waiting:
            text = "Saving …"
        elif state.saved_label:
            text = f"Saved as {state.saved_label}."
        elif state.drawn:
            text = "Saved."
    st.html(f'<div class="quiet {"problem" if problem else ""}">{escape(text)}&nbsp;</div>')


@st.fragment(key="drawing")
def show_drawing() -> None:
    with answer.TURN:
        read_canvas()
        state = st.session_state
        with st.container(key="drawing"):
            with st.container(key="canvas"):
                show_canvas(canvas_key(), on_change=partial(answer_also, "drawing"))
            with st.container(key="clear"):
                st.button("Clear", on_click=finish_drawing, disabled=not state.drawn)
            right = st.container(key="right")
        with right:
            show_answer(state.drawn, state.refusal)
            keep_drawing()  # the answer is on its way
            show_labels(state.drawn, state.drawing_id)
    with right:
        show_notice()  # which may wait


def show_unseen() -> None:
    """What takes no room: the canvas's sender, and buttons for their keys, as a seen one would show its key as text."""
    with st.container(key="shortcuts"):
        send_at_once()
        for digit in range(10):
            st.button(f"Label {digit}", shortcut=str(digit), on_click=finish_drawing, args=(digit,))
        st.button("Accept the answer", shortcut="Y", on_click=accept_answer)
        st.button("Start a new drawing", shortcut="Backspace", on_click=finish_drawing)


# --- the page --------------------------------------------------------------------------------------------------------

st.html(HERE / "page" / "static" / "page.css")

try:
    MODEL = get_model()
except ModelError as error:
    logging.getLogger(__name__).exception("there is no model to serve")
    st.error(str(error).replace(f"{HERE}/", ""))
    st.stop()
OUTBOX = shared()

if "drawing_id" not in st.session_state:
    st.session_state.update(own_ids=set(), told=set(), shown_lost=set(), saved_label="", allowance=Allowance())
    start_drawing()

st.html(
    '<h1>Draw a digit</h1><p class="quiet">Write it in the black square. All drawings are kept.'
    '<span class="keys"> Keys: 0–9 label, Y correct, ⌫ clear.</span></p>'
)
show_drawing()
show_unseen()
with st.container(key="history"):
    show_history(st.session_state.own_ids, OUTBOX)
with st.container(key="insights"):
    show_insights()
freeze()
