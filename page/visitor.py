"""What the page knows of one visitor: one object a session, and in it one drawing that is replaced whole.

Streamlit ends a run between any two lines as soon as the next message comes. So nothing here is changed piece by piece:
a `Drawing` is frozen, and the one assignment `visitor.drawing = …` is all that takes a visitor from one moment to the
next. A run that was ended has left the old drawing or the new one.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial, wraps
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import streamlit as st

import db
from model import Prediction
from store.outbox import Outbox, Ticket

Show = TypeVar("Show", bound=Callable[..., None])

# The page's fragments, and the containers they are shown in. Callbacks rerun their own by name (drawing.rerun): what
# changes at one moment comes as one message, for which Streamlit alone reruns the fragment of the first change.
DRAWING, HISTORY, LOOK, ASKED, INSIGHTS = "drawing", "history", "look", "asked", "insights"

SAVE_WAIT = 0.3  # seconds that a page may wait for a save before it says that it is still under way


class Allowance:
    """What one session may have written: `burst` strokes at once, and one more each `seconds`. People stay below it."""

    def __init__(self, burst: int = 300, seconds: float = 1.0) -> None:
        self._burst, self._seconds = burst, seconds
        self._left, self._time = float(burst), time.monotonic()

    def take(self) -> bool:
        """Whether one more is allowed; if so, it is taken."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._time) / self._seconds)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, eq=False)
class Reading:
    """What was on the canvas at the end of a stroke, and what the network says of it."""

    url: str  # the PNG as the browser sent it
    gray: np.ndarray  # (h, w) uint8
    strokes: db.Strokes | None  # that made it; None: unknown
    prediction: Prediction
    answer: dict[str, Any]  # the same as `POST /answer` says it, with the picture that the network saw


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawing at one moment, from the empty canvas on."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: datetime | None = None  # end of the first stroke
    reading: Reading | None = None  # None: nothing is on the canvas
    kept: Reading | None = None  # the reading that was last handed to the outbox
    refusal: str = ""  # why what was on the canvas before is not there any more
    labelled: str | None = None  # the drawing before this one, if a label ended it


@dataclass(eq=False)
class Visitor:
    """Everything that the page keeps of a session."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))  # of no meaning outside of the table
    due: frozenset[str] = frozenset()  # fragments to rerun: asked for, and not run to their end since
    drawing: Drawing = field(default_factory=Drawing)
    tickets: dict[str, dict[str, Ticket]] = field(default_factory=dict)  # own drawing -> of its prediction and label
    labels: dict[str, int] = field(default_factory=dict)  # own drawing -> the label that it was given last
    shown: frozenset[str] = frozenset()  # lost drawings that the page has named
    told: frozenset[str] = frozenset()  # of them, those it named before the present drawing began
    allowance: Allowance = field(default_factory=Allowance)

    sections: dict[str, int] = field(default_factory=dict)  # history and insights: how often each was sent

    # Of the history. `pair` is (true label, digit it was read as), where only such mistakes are to be shown.
    pair: tuple[int, int] | None = None
    charts: int = 0  # counted up to have a chart in which no cell is picked
    tables: dict[str, pa.ChunkedArray] = field(default_factory=dict)  # key of the buttons of a table sent -> its ids
    tables_sent: int = 0
    look: str | None = None  # the drawing to look at more closely, until its dialog is open
    looks: int = 0  # that were opened
    address: str = ""  # the drawing that the page's address named, and that was opened for it
    unlabelled_look: str | None = None  # the own drawing that is looked at before it has a label
    toast: str | None = None

    def put(
        self, outbox: Outbox, drawing_id: str, part: str, write: Callable[[], None], size: int = 0, new: bool = False
    ) -> None:
        """Have `write` done for an own drawing. part: "prediction" or "label"; the rest as in Outbox.put."""
        ticket = outbox.put(f"{drawing_id} {part}", write, size=size, new=new)
        self.tickets[drawing_id] = self.tickets.get(drawing_id, {}) | {part: ticket}

    def label(self, outbox: Outbox, drawing_id: str, digit: int, source: db.LabelSource) -> None:
        """Have this label given to an own drawing, after its prediction. It ends one that is on the canvas."""
        self.put(outbox, drawing_id, "label", partial(db.save_label, drawing_id, digit, source))
        self.labels[drawing_id] = digit
        if drawing_id == self.drawing.id:  # else its label would stay with whatever is drawn over it
            self.drawing = Drawing(labelled=drawing_id)

    def states(self) -> dict[str, set[str]]:
        """Own drawing -> "waiting", "saved", "lost": what became of its writes."""
        return {i: {ticket.state for ticket in writes.values()} for i, writes in self.tickets.items()}

    def waiting(self) -> set[str]:
        """The own drawings that wait to be saved."""
        return {i for i, states in self.states().items() if "waiting" in states}

    def lost(self) -> set[str]:
        """The own drawings that will never be saved in full."""
        return {i for i, states in self.states().items() if "lost" in states}

    def to_follow(self) -> list[Ticket]:
        """The writes of which the page has not yet said what became of them."""
        return [t for i, writes in self.tickets.items() if i not in self.told for t in writes.values()]


def fragment(name: str) -> Callable[[Show], Show]:
    """A part of the page that callbacks have rerun by its name."""

    def decorate(show: Show) -> Show:
        @st.fragment(key=name)
        @wraps(show)
        def run(visitor: Visitor, *args: Any) -> None:
            show(visitor, *args)
            visitor.due -= {name}

        return run  # type: ignore[return-value]

    return decorate


def this_visitor() -> Visitor:
    """The visitor of this session."""
    if "visitor" not in st.session_state:
        st.session_state.visitor = Visitor()
    return st.session_state.visitor
