"""A closer look: one drawing large, what the network saw and said of it, and its label."""

import base64
import uuid
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

import db
from model import ModelError, Prediction, served
from page.answer import show_bars
from page.drawing import rerun
from page.explanation import Part, explain
from page.news import ask_for_news, time_zone
from page.scripts import component, run_script
from page.visitor import ASKED, DRAWING, LOOK, SAVE_WAIT, Visitor, fragment
from store.outbox import Outbox
from store.reader import AWAY
from store.snapshot import Snapshot
from utils import DrawingError, decode_drawing, encode_png, preprocess, to_gray, to_pixels

WEAK, STRONG = 0.5, 2.3  # log-odds: by a factor of 1.6, and of ten
SCALE = (
    "How much lower the log-odds of the {} are without a part: 2.3 is a factor of ten. Press a part to take it off, "
    "and see what is read of the rest."
)


@fragment(ASKED)
def show_asked(visitor: Visitor, snapshot: Snapshot, outbox: Outbox) -> None:
    """The closer look that was asked for, by a press or by the page's address. It takes no room."""
    if visitor.look is not None:
        visitor.looks += 1
        visitor.address = st.query_params["drawing"] = visitor.look
        closer_look(visitor, visitor.look, snapshot, outbox)
        visitor.look = None
    asked = st.query_params.get("drawing", "")
    if not asked:
        visitor.address = ""
    data = {"asked": "" if asked == visitor.address else asked}
    run_script("address", data, on_open_change=partial(open_asked, visitor))


def open_asked(visitor: Visitor) -> None:
    """What the address names is opened once: no rerun does so again."""
    asked = st.query_params.get("drawing", "")
    if asked != visitor.address:
        visitor.address = visitor.look = asked
    rerun(visitor, ASKED)


def closer_look(visitor: Visitor, drawing_id: str, snapshot: Snapshot, outbox: Outbox) -> None:
    """Show one drawing large, and let its own visitor say what it is."""
    dialog = st.dialog("A closer look", on_dismiss=partial(close, visitor))
    dialog(show_look)(visitor, drawing_id, f"relabel-{visitor.looks}", snapshot, outbox)


def close(visitor: Visitor) -> None:
    """Have the drawing's notice look again: a label that was given here may still wait, or be lost."""
    st.query_params.pop("drawing", None)
    visitor.due -= {LOOK}
    rerun(visitor, DRAWING, ASKED)


@fragment(LOOK)  # a dialog cannot be rerun by name, its content can
def show_look(visitor: Visitor, drawing_id: str, key: str, snapshot: Snapshot, outbox: Outbox) -> None:
    """key: of the buttons, another one for each look: session state would hold the label that the last one showed."""
    try:
        drawing_id = str(uuid.UUID(drawing_id))  # which takes other ways to write it than the database
    except ValueError:
        st.info("This address names no drawing: it must end with a drawing's whole number.")
        return
    try:
        if snapshot.problem:  # not asked: this visitor's answers would wait for it
            raise db.DatabaseError(snapshot.problem)
        row = db.fetch_drawing(drawing_id)
    except db.DatabaseError:
        with st.container(key=LOOK):
            st.info(unsaved(visitor, drawing_id, outbox) or AWAY, icon=":material/cloud_off:")
            ask_for_news(visitor, LOOK, seconds=2, seen=db.UNREADABLE)
        return
    if row is None:
        waits = (
            unsaved(visitor, drawing_id, outbox) or outbox.has(drawing_id) and "This drawing still waits to be saved."
        )
        st.info(waits or "This drawing is no longer in the table.")
        return
    label = st.session_state.get(key, row.true_label)
    prediction = Prediction(row.predicted_digit, row.confidence, tuple(row.probabilities), row.not_a_digit)
    st.markdown(summary(prediction, label))
    figures = pictures(row.drawing, f"Drawing number {drawing_id[:8]}")
    # A dialog lies outside of the page's theme, which our style sheet goes by.
    theme = st.context.theme.type or "light"
    st.html(f'<div class="look pictures" style="color-scheme:{theme}">{figures}</div>')
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
    show_bars(prediction, theme, f"bars-{key}")
    show_why(visitor, row, label, theme, key)
    component("copy", "copy")(key=f"copy-{key}", data={"drawing": drawing_id, "theme": theme})
    when = row.created_at.astimezone(ZoneInfo(time_zone()))
    st.caption(f"Drawn {when:%d %b %Y, %H:%M:%S %Z} · number {drawing_id[:8]} · model {row.model_version}")


def show_why(visitor: Visitor, row: db.DrawingRow, label: int | None, theme: str, key: str) -> None:
    """How it was drawn, and why it was read so, where the strokes are known."""
    if row.strokes is None:
        return
    if row.id in visitor.tickets and label is None and visitor.unlabelled_look != row.id:
        st.caption("Say which digit it is, and see why it was read so: whoever sees that first may be swayed by it.")
        args = (visitor, row.id)
        st.button(
            "Show it without a label", key=f"unlabelled-{key}", on_click=look_unlabelled, args=args, type="tertiary"
        )
        return
    try:
        why = explain(served.network(), row.strokes, to_gray(decode_drawing(row.drawing)))
    except (DrawingError, ModelError):  # the pictures above say so, or the page
        return
    if why is None or (last := why.moments[-1]) is None:
        return
    data = {
        "theme": theme,
        "lines": [line.round(1).tolist() for line in why.lines],
        "moments": [moment(prediction) for prediction in why.moments],
        "end": f"In the end: {words(last)}",
        "scale": SCALE.format(last.digit),
        "parts": [shown_part(number, part, last.digit) for number, part in enumerate(why.parts, 1)],
    }
    component("look", "look")(key=f"look-{key}", data=data)
    if last.model_version != row.model_version:
        st.caption(f"Read again, by another model, {last.model_version}.")


def look_unlabelled(visitor: Visitor, drawing_id: str) -> None:
    visitor.unlabelled_look = drawing_id
    rerun(visitor, LOOK)


def moment(prediction: Prediction | None) -> dict[str, Any]:
    if prediction is None:
        return {"answer": None, "words": "nothing on the canvas"}
    return {"answer": prediction.as_json(b""), "words": words(prediction)}


def shown_part(number: int, part: Part, digit: int) -> dict[str, Any]:
    """What static/look.js shows of a part. digit: the answer."""
    strength = "strongly " if abs(part.worth) > STRONG else ""
    tone = "none" if abs(part.worth) < WEAK else "for" if part.worth > 0 else "against"
    speaks = "hardly matters" if tone == "none" else f"speaks {strength}{tone} the {digit}"
    return {
        "points": part.points.round(1).tolist(),
        "tone": tone,
        "words": f"{number}: {speaks} ({part.worth:+.1f})".replace("-", "\u2212"),
        "rest": words(part.without),
        "answer": part.without.as_json(b""),
    }


def words(prediction: Prediction) -> str:
    return f"{prediction.digit}, {percent(prediction.confidence)}" if prediction.is_digit else "no digit"


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
    rerun(visitor, LOOK, DRAWING)


def unsaved(visitor: Visitor, drawing_id: str, outbox: Outbox) -> str:
    """What is to be said of a drawing of one's own that is not in the table as its visitor left it, or nothing."""
    if drawing_id in visitor.lost():
        prediction = visitor.tickets[drawing_id].get("prediction")
        return f"{'It' if prediction and prediction.state == 'lost' else 'Its label'} could not be saved."
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
