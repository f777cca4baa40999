"""The drawing: canvas, answer and true label, rerun at the end of every stroke.

The order matters to people: the answer is shown first, then the drawing is handed to the outbox, then the page says
what is saved. Nothing here waits for the database but the last of these, for SAVE_WAIT at most.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from html import escape

import streamlit as st

import db
from model import predict, served
from page import answer
from page.canvas import canvas_url, decode, show_canvas, strokes_of
from page.scripts import route, run_script
from page.visitor import DRAWING, SAVE_WAIT, Drawing, Reading, Visitor, fragment
from store.outbox import Outbox
from utils import DrawingError, encode_png, preprocess_gray, side_by_side_gray, to_gray, to_pixels

POLL = 2  # seconds between looks at what still waits to be saved
POINT_BYTES = 112  # of memory that a point of a stroke takes
TOO_FAST = "That was faster than drawings can be kept. Wait a moment, then draw again."
RESTARTED = (
    "The connection began anew. What you drew is in the history if the page had called it saved; a label pressed "
    "meanwhile was not taken. Please draw again."
)

# Held while one stroke is answered. Many answered at once only take the interpreter from each other: that costs more
# processor time, and all are late instead of some (docs/performance.md).
TURN = threading.Lock()


@fragment(DRAWING)
def show_drawing(visitor: Visitor, outbox: Outbox) -> None:
    end = partial(end_drawing, visitor, outbox)
    with TURN:
        read_canvas(visitor)
        drawing = visitor.drawing
        with st.container(key=DRAWING):
            with st.container(key="canvas"):
                show_canvas(canvas_key(drawing))
            with st.container(key="clear"):
                st.button("Clear", on_click=end, args=(None, drawing.id), disabled=not drawing.reading)
            with st.container(key="undo"):
                st.button("Undo", disabled=not drawing.reading)  # static/canvas.js takes the stroke away
            right = st.container(key="right")
        with right:
            answer.show_answer(drawing)
            keep_drawing(visitor, outbox)  # the answer is on its way
            show_labels(drawing, end)
    with right:
        show_notice(visitor, outbox)  # which may wait


def canvas_key(drawing: Drawing) -> str:
    """A canvas of its own for each drawing, so that a late stroke of the last one lands nowhere."""
    return f"canvas-{drawing.id}"


def rerun(visitor: Visitor, *fragments: str) -> None:
    """For callbacks: rerun these fragments. It ends the callback.

    And the drawing, where a stroke came in the same message: the canvas has no callback of its own, since a run that is
    asked for anew would hold up each stroke, and a press that follows it. And what was asked for before, if it has not
    run since: a message that comes meanwhile, whose callbacks ask for other parts, makes Streamlit forget it.
    """
    try:
        stroke = unread(visitor) is not None
    except DrawingError:  # the drawing says so
        stroke = True
    visitor.due |= {*fragments, DRAWING} if stroke else {*fragments}
    st.rerun(sorted(visitor.due))


def unread(visitor: Visitor) -> str | None:
    """The PNG on the canvas as a data URL, if no run has read it yet. Raises DrawingError."""
    url, reading = canvas_url(canvas_key(visitor.drawing)), visitor.drawing.reading
    return None if reading and url == reading.url else url


def read_canvas(visitor: Visitor) -> None:
    """Bring the drawing up to date with the canvas. What was read before is not read again."""
    drawing = visitor.drawing
    try:
        url = unread(visitor)
        if url is None:
            return
        gray = to_gray(decode(url))
        picture = preprocess_gray(gray)
    except DrawingError as error:
        visitor.drawing = Drawing(refusal=str(error))
        return
    if picture is None:  # no ink
        if drawing.reading:  # its only stroke was undone; the next one goes on with its row
            visitor.drawing = replace(drawing, reading=None, kept=None)
        return
    # Asked for here: handed to a fragment, it would stay that of the fragment's first run.
    prediction = predict(served.network(), picture, side_by_side_gray(gray))
    strokes = strokes_of(canvas_key(drawing), gray)
    reading = Reading(url, gray, strokes, prediction, prediction.as_json(encode_png(to_pixels(picture))))
    if drawing.started_at is None:
        visitor.told |= visitor.shown  # what was said once is not said of this drawing, too
    started_at = drawing.started_at or datetime.now(UTC)
    visitor.drawing = replace(drawing, reading=reading, started_at=started_at, refusal="", labelled=None)


def keep_drawing(visitor: Visitor, outbox: Outbox) -> None:
    """Hand the drawing to the outbox, once for each stroke."""
    drawing = visitor.drawing
    if drawing.reading is None or drawing.started_at is None or drawing.reading is drawing.kept:
        return
    if not visitor.allowance.take():
        return
    prediction, png = drawing.reading.prediction, encode_png(drawing.reading.gray)
    write = partial(
        db.save_prediction,
        drawing.id,
        created_at=drawing.started_at,
        digit=prediction.digit,
        confidence=prediction.confidence,
        probabilities=prediction.probabilities,
        not_a_digit=prediction.not_a_digit,
        drawing=png,
        thumbnail_png=db.thumbnail(drawing.reading.gray),
        model_version=prediction.model_version,
        strokes=drawing.reading.strokes,
        session=visitor.id,
    )
    before = visitor.tickets.get(drawing.id, {}).get("prediction")
    new = before is None or before.state == "lost"
    size = len(png) + POINT_BYTES * sum(map(len, drawing.reading.strokes or ()))
    visitor.put(outbox, drawing.id, "prediction", write, size=size, new=new)
    visitor.drawing = replace(drawing, kept=drawing.reading)


def end_drawing(
    visitor: Visitor,
    outbox: Outbox,
    digit: int | None = None,
    drawing_id: str | None = None,
    source: db.LabelSource = "chosen",
) -> None:
    """Give the drawing this label, or none, and start the next one.

    drawing_id: of the drawing that the pressed button was shown for; a press that comes after its end changes nothing.
    """
    read_canvas(visitor)  # a stroke that arrived together with the press belongs to this drawing
    keep_drawing(visitor, outbox)
    drawing = visitor.drawing
    if drawing_id in (None, drawing.id) and (drawing.reading or digit is None):
        kept = drawing.reading is drawing.kept
        if digit is not None and kept:
            visitor.label(outbox, drawing.id, digit, source)
        else:
            visitor.drawing = Drawing(refusal="" if kept else TOO_FAST)
    rerun(visitor, DRAWING)


def show_labels(drawing: Drawing, end: Callable[..., None]) -> None:
    st.html("<p>Which digit did you draw?</p>")
    with st.container(key="true_label"):
        for digit in range(10):
            args, disabled = (digit, drawing.id), not drawing.reading
            st.button(str(digit), key=f"label-{digit}", on_click=end, args=args, disabled=disabled)
    # Its key names the answer: a press means the one that was seen when it was made, whatever has been read since.
    seen = drawing.reading.prediction.digit if drawing.reading and drawing.reading.prediction.is_digit else None
    key = "correct-none" if seen is None else f"correct-{seen}"
    st.button(
        "Correct", key=key, type="primary", on_click=end, args=(seen, drawing.id, "confirmed"), disabled=seen is None
    )


def show_notice(visitor: Visitor, outbox: Outbox) -> None:
    """What is and is not in the table. While something waits to be saved, this looks again by itself."""
    outbox.wait(visitor.to_follow(), SAVE_WAIT)
    with st.container(key="notice"):
        if visitor.waiting() or outbox.away:
            st.fragment(notice, run_every=POLL)(visitor, outbox)
        else:
            notice(visitor, outbox)


def notice(visitor: Visitor, outbox: Outbox) -> None:
    drawing, problem, text = visitor.drawing, True, ""
    waiting = visitor.waiting()  # asked first: what is refused meanwhile is found among the lost
    if outbox.problem:
        text = outbox.problem
    elif lost := visitor.lost() - visitor.told:
        text = f"{len(lost)} of your drawings could not be saved."
        visitor.shown |= lost
    elif drawing.reading is not drawing.kept:
        text = f"Not saved. {TOO_FAST}"
    else:
        problem = False
        if waiting:
            text = "Saving …"
        elif drawing.labelled:
            text = f"Saved as {visitor.labels[drawing.labelled]}."
        elif drawing.reading:
            text = "Saved."
    st.html(f'<div class="quiet {"problem" if problem else ""}">{escape(text)}&nbsp;</div>')


@st.fragment  # a key that reran the page would open a dialog again that has just been closed
def show_unseen(visitor: Visitor, outbox: Outbox) -> None:
    """What takes no room: the canvas's script, and buttons for their keys, as a seen one would show its key as text."""
    end = partial(end_drawing, visitor, outbox)
    run_script("canvas", {"session": visitor.id}, on_restarted_change=partial(say_restarted, visitor))
    run_script("live", {"url": route("answer")})
    for digit in range(10):
        st.button(f"Label {digit}", shortcut=str(digit), on_click=end, args=(digit,))
    st.button("Start a new drawing", shortcut="Backspace", on_click=end)


def say_restarted(visitor: Visitor) -> None:
    if visitor.drawing.reading is None:
        visitor.drawing = Drawing(refusal=RESTARTED)
    rerun(visitor, DRAWING)
