"""The page: draw a digit, read the answer, give the true label, scroll the history. `make run` starts it.

Only the part that changes reruns: the drawing, the history and the insights are one fragment each.
"""

import base64
import binascii
import gc
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import streamlit as st
import streamlit_drawable_canvas

from history import show_history
from insights import show_insights
from model import DigitNet, ModelError, Prediction, load_model, predict
from outbox import Outbox
from utils import BRUSH_WIDTH, CANVAS_SIZE, DrawingError, decode_drawing, encode_png, preprocess

st.set_page_config(page_title="Draw a digit", page_icon="✏️", layout="centered")
st.html(Path(__file__).parent / ".streamlit" / "page.css")

DATA_URL = "data:image/png;base64,"
SAVE_WAIT = 0.3  # seconds to wait, after the answer is on its way, for the row to be in the table and to say so
POLL = 2  # seconds between looks at what still waits to be saved


@st.cache_resource(show_spinner=False)
def get_model() -> DigitNet:
    return load_model(Path(__file__).parent / "model.pth")


@st.cache_resource(show_spinner=False)
def get_outbox() -> Outbox:
    return Outbox()


@st.cache_resource(show_spinner=False)
def get_canvas() -> Callable:
    """`st_canvas`, mounted where page.css can reach it.

    The component's own toolbar lies unseen over the upper right of the canvas. On a touch screen it would swallow every
    stroke that starts there, and in its shadow root no style sheet of the page can hide it.
    """
    streamlit_drawable_canvas.out = st.components.v2.component(
        "streamlit-drawable-canvas.streamlit_drawable_canvas",
        html='<div class="canvas-root"></div>',
        css="index-*.css",
        js="index-*.js",
        isolate_styles=False,
    )
    return streamlit_drawable_canvas.st_canvas


@st.cache_resource(show_spinner=False)
def freeze() -> None:
    """Take all that is loaded out of garbage collection: walking PyTorch's objects holds every session for some 90 ms."""
    gc.collect()
    gc.freeze()


# --- the drawing -------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What the canvas held, and what the network says of it."""

    data_url: str
    rgba: np.ndarray
    seen: np.ndarray  # (28, 28) uint8
    prediction: Prediction
    kept: bool = False

    @property
    def is_digit(self) -> bool:
        return self.prediction.not_a_digit <= 0.5


def start_drawing(refusal: str = "") -> None:
    """An empty canvas under a new UUID. The canvas's key carries it, so a late stroke of the last drawing finds no widget."""
    st.session_state.update(drawing_id=str(uuid.uuid4()), started_at=None, answer=None, refusal=refusal)


def canvas_key() -> str:
    return f"canvas-{st.session_state.drawing_id}"


def canvas_data_url(value: object) -> str | None:
    """The PNG in the canvas's widget state, which a browser sent and which can be anything. Raises DrawingError."""
    drawing = value.get("drawing", {}) if isinstance(value, dict) else {}
    data_url = drawing.get("data") if isinstance(drawing, dict) else drawing
    well_formed = data_url is None or isinstance(data_url, str) and data_url.startswith(DATA_URL)
    if not well_formed or isinstance(value, dict) and value.get("backgroundFit") is not None:
        raise DrawingError("The browser sent something that is not a drawing. Please draw again.")
    return data_url


def read_canvas() -> None:
    """Bring the answer up to date with the canvas. Decodes nothing that was decoded before."""
    state = st.session_state
    try:
        data_url = canvas_data_url(state.get(canvas_key()))
        if data_url is None or state.answer and data_url == state.answer.data_url:
            return
        rgba = decode_drawing(base64.b64decode(data_url[len(DATA_URL) :], validate=True))
        picture = preprocess(rgba)
    except (DrawingError, binascii.Error) as error:
        start_drawing(refusal=str(error))
        return
    if picture is None:  # no ink
        if state.answer:
            start_drawing()
        return
    seen = (picture[0, 0].numpy() * 255).astype(np.uint8)
    state.started_at = state.started_at or datetime.now(UTC)
    state.answer = Answer(data_url, rgba, seen, predict(MODEL, picture))
    state.refusal = state.saved_label = ""


def keep_drawing() -> None:
    """Hand the drawing to the outbox, once for each state of it."""
    state = st.session_state
    if state.answer is None or state.answer.kept:
        return
    said = state.answer.prediction
    OUTBOX.put_prediction(
        state.drawing_id,
        created_at=state.started_at,
        digit=said.digit,
        confidence=said.confidence,
        probabilities=said.probabilities,
        not_a_digit=said.not_a_digit,
        drawing=encode_png(state.answer.rgba),
        model_version=MODEL.version,
    )
    state.own_ids.add(state.drawing_id)
    state.answer.kept = True


def finish_drawing(digit: int | None = None, drawing_id: str | None = None) -> None:
    """Label the drawing that the pressed button was shown for, or only clear it, and start the next one."""
    state = st.session_state
    read_canvas()  # a stroke that arrived together with the press belongs to this drawing
    keep_drawing()
    if digit is not None:
        if state.answer is None or drawing_id not in (None, state.drawing_id):
            return
        OUTBOX.put_label(state.drawing_id, digit)
        state.saved_label = str(digit)
    start_drawing()


def accept_answer(drawing_id: str | None = None) -> None:
    read_canvas()
    answer = st.session_state.answer
    if answer and answer.is_digit:
        finish_drawing(answer.prediction.digit, drawing_id)


def press(button: Callable, *args: object) -> None:
    """What a key does: the same as its button, and then only the drawing reruns."""
    button(*args)
    st.rerun("drawing")


# --- what the page says of it ------------------------------------------------------------------------------------


def percent(p: float) -> str:
    """0..1 → text that never rounds to a certainty that nobody has."""
    return "> 99.9 %" if p > 0.999 else "< 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"


def verdict(answer: Answer) -> tuple[str, str]:
    """(how sure, a sentence on it)."""
    said = answer.prediction
    if not answer.is_digit:
        return "Not a digit?", "This does not look like a digit. If it is one, say which below."
    if said.confidence >= 0.5:
        return percent(said.confidence), "sure"
    second = max(set(range(10)) - {said.digit}, key=said.probabilities.__getitem__)
    return percent(said.confidence), f"Not sure. It could also be a {second} ({percent(said.probabilities[second])})."


def bars(answer: Answer | None) -> str:
    """Ten bars as HTML: far cheaper to make, to send and to show than a chart."""
    p = answer.prediction.probabilities if answer else (0.0,) * 10
    best = answer.prediction.digit if answer and answer.is_digit else None
    columns = "".join(
        f'<span class="{"bar best" if d == best else "bar"}"><b>{f"{100 * p[d]:.0f}%" if p[d] >= 0.005 else ""}</b>'
        f'<i style="--p:{p[d]:.3f}"></i><em>{d}</em></span>'
        for d in range(10)
    )
    words = ", ".join(f"{d}: {percent(p[d])}" for d in range(10)) if answer else "nothing drawn yet"
    return f'<div class="bars" role="img" aria-label="Probability of each digit. {words}">{columns}</div>'


def seen(answer: Answer | None) -> str:
    """The 28×28 picture, one pixel shown as three."""
    picture = answer.seen if answer else np.zeros((28, 28), dtype=np.uint8)
    url = DATA_URL + base64.b64encode(encode_png(picture)).decode()
    return f'<figure><img src="{url}" alt="The 28 by 28 pixels that the network saw"><figcaption>as seen</figcaption></figure>'


def show_answer(answer: Answer | None, refusal: str) -> None:
    sure, sentence = verdict(answer) if answer else ("", refusal or "Draw a digit to begin")
    kind = "none" if not answer else "sure" if answer.is_digit and answer.prediction.confidence >= 0.5 else "doubt"
    with st.container(key="answer"):
        with st.container(key="answer_digit"):
            st.html(f'<div class="digit {kind}">{answer.prediction.digit if answer and answer.is_digit else ""}</div>')
        with st.container(key="answer_confidence"):
            st.html(f'<div role="status"><b>{sure}</b>{sentence}</div>')
        st.html(seen(answer))
        with st.container(key="answer_bars"):
            st.html(bars(answer))


def show_labels(answer: Answer | None, drawing_id: str) -> None:
    st.html("<p>Which digit did you draw?</p>")
    with st.container(key="true_label"):
        for digit in range(10):
            key = f"label-{digit}"
            st.button(str(digit), key=key, on_click=finish_drawing, args=(digit, drawing_id), disabled=not answer)
    with st.container(key="correct"):
        st.button(
            "Correct",
            key="correct-button",
            icon=":material/check:",
            type="primary",
            disabled=not (answer and answer.is_digit),
            on_click=accept_answer,
            args=(drawing_id,),
        )


def show_shortcuts() -> None:
    """Buttons that nobody sees, for their keys. A shortcut on a visible button would add the key to the button's text."""
    with st.container(key="shortcuts"):
        for digit in range(10):
            st.button(f"Label {digit}", shortcut=str(digit), on_click=press, args=(finish_drawing, digit))
        st.button("Accept the answer", shortcut="Y", on_click=press, args=(accept_answer,))
        st.button("Start a new drawing", shortcut="Backspace", on_click=press, args=(finish_drawing,))


def show_notice() -> None:
    """What is and is not in the table. Looks again by itself while something waits."""
    ids = st.session_state.own_ids
    saved = not ids or OUTBOX.wait(ids, SAVE_WAIT)
    waiting = not saved or OUTBOX.problem is not None

    @st.fragment(run_every=POLL if waiting else None)
    def notice() -> None:
        n = OUTBOX.pending(ids)
        if OUTBOX.problem:
            text, kind = OUTBOX.problem, "problem"
        elif n:
            text, kind = f"Saving {n} of your drawings …" if n > 1 else "Saving …", "waiting"
        elif st.session_state.saved_label:
            text, kind = f"Saved as a {st.session_state.saved_label}.", "saved"
        else:
            text, kind = "Saved." if st.session_state.answer else "", "saved"
        st.html(f'<div role="status" class="quiet {kind}">{text}&nbsp;</div>')

    with st.container(key="notice"):
        notice()


@st.fragment(key="drawing")
def show_drawing() -> None:
    read_canvas()
    state = st.session_state
    with st.container(key="drawing"):
        with st.container(key="left"):
            with st.container(key="canvas"):
                st.html('<p class="unseen">Canvas: draw a digit here with mouse, pen or finger</p>')
                get_canvas()(
                    stroke_width=BRUSH_WIDTH,
                    stroke_color="#ffffff",
                    background_color="#000000",
                    width=CANVAS_SIZE,
                    height=CANVAS_SIZE,
                    drawing_mode="freedraw",
                    return_image_data=True,
                    key=canvas_key(),
                )
            with st.container(key="clear"):
                st.button("Clear", key="clear-button", on_click=finish_drawing, disabled=not state.answer)
            st.html('<p class="quiet keys">Keys: 0–9 the digit, Y correct, ⌫ clear</p>')
        with st.container(key="right"):
            show_answer(state.answer, state.refusal)
            keep_drawing()  # after the answer is on its way
            show_labels(state.answer, state.drawing_id)
            show_notice()


# --- the page ----------------------------------------------------------------------------------------------------

try:
    MODEL = get_model()
except ModelError as error:
    st.error(str(error))
    st.stop()
OUTBOX = get_outbox()

if "drawing_id" not in st.session_state:
    st.session_state.update(own_ids=set(), saved_label="")
    start_drawing()

st.html('<h1>Draw a digit</h1><p class="quiet">Write it in the black square. Drawings are kept, without a name.</p>')
show_drawing()
show_shortcuts()
with st.container(key="history"):
    show_history(st.session_state.own_ids, OUTBOX.put_label)
with st.container(key="insights"):
    show_insights()
freeze()
