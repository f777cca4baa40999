"""A closer look: one drawing large, what the network saw and said of it, and its label."""

import base64
from functools import partial
from zoneinfo import ZoneInfo

import streamlit as st

import db
from model import Prediction
from page.answer import show_bars
from page.drawing import rerun
from page.news import time_zone
from page.visitor import DRAWING, LOOK, SAVE_WAIT, Visitor, fragment
from store.outbox import Outbox
from store.reader import AWAY
from store.snapshot import Snapshot
from utils import DrawingError, decode_drawing, encode_png, preprocess, to_pixels


def closer_look(visitor: Visitor, drawing_id: str, snapshot: Snapshot, outbox: Outbox) -> None:
    """Show one drawing large, and let its own visitor say what it is."""
    dialog = st.dialog("A closer look", on_dismiss=partial(close, visitor))
    dialog(show_look)(visitor, drawing_id, f"relabel-{visitor.tables_sent}", snapshot, outbox)


def close(visitor: Visitor) -> None:
    """Have the drawing's notice look again: a label that was given here may still wait, or be lost."""
    visitor.due -= {LOOK}
    rerun(visitor, DRAWING)


@fragment(LOOK)  # a dialog cannot be rerun by name, its content can
def show_look(visitor: Visitor, drawing_id: str, key: str, snapshot: Snapshot, outbox: Outbox) -> None:
    """key: of the buttons, another one each time: session state would hold the label that was given the last time."""
    try:
        if snapshot.problem:  # not asked: this visitor's answers would wait for it
            raise db.DatabaseError(snapshot.problem)
        row = db.fetch_drawing(drawing_id)
    except db.DatabaseError:
        st.info(unsaved(visitor, drawing_id, outbox) or AWAY, icon=":material/cloud_off:")
        return
    if row is None:
        st.info("This drawing is no longer in the table.")
        return
    label = st.session_state.get(key, row.true_label)
    prediction = Prediction(row.predicted_digit, row.confidence, tuple(row.probabilities), row.not_a_digit)
    st.markdown(summary(prediction, label))
    figures = pictures(row.drawing, f"Drawing number {drawing_id[:8]}")
    # A dialog lies outside of the page's theme, which our style sheet goes by.
    theme = st.context.theme.type or "light"
    st.html(f'<div class="look pictures" style="color-scheme:{theme}">{figures}</div>')
    show_bars(prediction, theme, f"bars-{key}")
    if drawing_id in visitor.tickets:
        st.pills(
            "Which digit did you draw?",
            list(range(10)),
            default=label,
            required=label is not None,
            key=key,
            on_change=relabel,
            args=(visitor, drawing_id, key, outbox),
        )
        if text := unsaved(visitor, drawing_id, outbox):
            st.info(text)
    when = row.created_at.astimezone(ZoneInfo(time_zone()))
    st.caption(f"Drawn {when:%d %b %Y, %H:%M:%S %Z} · number {drawing_id[:8]} · model {row.model_version}")


def summary(prediction: Prediction, label: int | None) -> str:
    read = f"Read as **{prediction.digit}** with a confidence of **{percent(prediction.confidence)}**"
    if not prediction.is_digit:
        read = f"Not taken for a digit (**{percent(prediction.not_a_digit)}** sure that it is none)"
    if label is None:
        return f"{read}, not labelled."
    right = prediction.is_digit and label == prediction.digit
    return f"{read}, labelled **{label}**: {'right' if right else 'wrong'}."


def percent(p: float) -> str:
    """0..1 → text that never rounds to a certainty that nobody has, as static/answer.js writes it."""
    return "> 99.9 %" if p > 0.999 else "< 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"


def relabel(visitor: Visitor, drawing_id: str, key: str, outbox: Outbox) -> None:
    digit = st.session_state[key]
    if drawing_id in visitor.tickets and digit is not None:
        visitor.label(outbox, drawing_id, digit, "chosen")
        outbox.wait(visitor.tickets[drawing_id].values(), SAVE_WAIT)
    rerun(visitor, LOOK)


def unsaved(visitor: Visitor, drawing_id: str, outbox: Outbox) -> str:
    """What is to be said of a drawing of one's own that is not in the table as its visitor left it, or nothing."""
    if drawing_id in visitor.lost():
        return "Its label could not be saved."
    return (outbox.problem or "Saving …") if drawing_id in visitor.waiting() else ""


def pictures(png: bytes, alternative: str) -> str:
    """The drawing, and what the network saw of it; neither of a row from elsewhere that holds no drawing."""
    try:
        seen = preprocess(decode_drawing(png))
    except DrawingError:
        return "<p>Its drawing cannot be shown.</p>"
    figures = figure(png, "the drawing", alternative)
    if seen is not None:
        png = encode_png(to_pixels(seen))
        figures += figure(png, "what the network saw", "The 28 by 28 pixels that the network saw")
    return figures


def figure(png: bytes, caption: str, alternative: str) -> str:
    """alternative: what the picture shows, for those who cannot see it."""
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return f'<figure><img src="{url}" alt="{alternative}"><figcaption>{caption}</figcaption></figure>'
