"""The history: every prediction in one table, newest first, with filters, a search, a download and a closer look.

All visitors look at one Arrow table (store/snapshot.py). Streamlit sends a visitor the rows in view, a thousand at a
time. A stroke reruns none of this: the history is a fragment of its own, sent again only when there is news (news.py).
"""

from functools import partial

import pyarrow as pa
import streamlit as st

from page.drawing import rerun
from page.filters import filtered, search
from page.news import begin, time_zone
from page.scripts import route
from page.visitor import ASKED, HISTORY, INSIGHTS, Visitor, fragment
from store.outbox import Outbox
from store.snapshot import NO_DIGIT, WRONG, Snapshot, View

SECONDS = 3  # between two questions for news
COLUMNS = ["picture", "open", "created_at", "read", "confidence", "label", "verdict"]
SHOW = {"All": None, "Mistakes": WRONG, "Unlabelled": "none"}
ANY = "Any digit"
# Pixels that filters, ten rows and the downloads take from 600 pixels of width on (79 more on a phone): what is below
# must not come up before they are there.
ROOM = 571
TABLES = 4  # that were sent to a visitor last: on these a press finds its row


@fragment(HISTORY)
def show_history(visitor: Visitor, snapshot: Snapshot, outbox: Outbox) -> None:
    """Show the history and keep it current. Waits for the database for a moment, and not if it is known to be away."""
    view = begin(visitor, HISTORY, snapshot, max_age=1, seconds=SECONDS)
    if view is None:
        st.caption("Reading …")
        st.space(ROOM)
        return
    if visitor.toast:
        st.toast(visitor.toast, icon=":material/filter_alt:")
        visitor.toast = None
    rows, labelled, right = view.counts
    if not rows:
        if snapshot.version:
            st.caption("No drawings yet: yours will be the first.")
        elif not snapshot.problem:
            st.caption("Reading …")
        return
    accuracy = f" · {100 * right / labelled:.1f} % of them read right" if labelled else ""
    reading = "" if view.complete else " · reading older ones …"
    st.caption(f"{rows:,} drawing{'s' * (rows != 1)} · {labelled:,} labelled{accuracy}{reading}")
    show_table(visitor, show_filters(visitor, view))
    with st.container(horizontal=True):
        st.link_button("Download all as CSV", route("predictions.csv"))
        st.link_button("With strokes, as JSON lines", route("predictions.ndjson"))
    st.caption("In these files, the drawings of one visit share a random number.")


def show_table(visitor: Visitor, table: pa.Table) -> None:
    # A button in the table hears the mouse alone. Whoever has no mouse searches for the drawing, until one row is left.
    if len(table) == 1:
        st.button("Look at this drawing", on_click=look_at, args=(visitor, table["id"][0].as_py()))
    else:
        st.empty()
    # A new key for each table sent: a press names a row by its place, and may come from the table before. The ids are
    # no argument of the button's: Streamlit keeps those of every key for as long as the session lives.
    visitor.tables_sent += 1
    key = f"history-look-{visitor.tables_sent}"
    visitor.tables = dict(list(visitor.tables.items())[1 - TABLES :]) | {key: table["id"]}
    st.dataframe(
        table.select(COLUMNS),
        key="history_table",
        lazy=True,
        height=max(1, min(len(table), 10)) * 40 + 37,
        row_height=40,
        hide_index=True,
        placeholder="",
        alt="All predictions, newest first",
        column_config={
            "picture": st.column_config.ImageColumn("Drawing", width=60, pinned=True),
            "open": st.column_config.ButtonColumn("", width=64, key=key, on_click=pick, args=(visitor, key)),
            "created_at": st.column_config.DatetimeColumn(
                "Drawn", format="YYYY-MM-DD HH:mm", timezone=time_zone(), width=128
            ),
            "read": st.column_config.TextColumn("Read as", width=84, alignment="center"),
            # One decimal for all: a bar is as long as its text leaves room for.
            "confidence": st.column_config.ProgressColumn("Confidence", format="%.1f %%", min_value=0, max_value=100),
            "label": st.column_config.NumberColumn("True label", width=84, alignment="center"),
            "verdict": st.column_config.TextColumn("Right or wrong", width=110),
        },
    )


def pick(visitor: Visitor, key: str) -> None:
    """A press in the table whose buttons have this key."""
    row, ids = st.session_state[key]["row"], visitor.tables.get(key, ())
    if row < len(ids):
        look_at(visitor, ids[row].as_py())


def look_at(visitor: Visitor, drawing_id: str) -> None:
    visitor.look = drawing_id
    rerun(visitor, ASKED)


def show_filters(visitor: Visitor, view: View) -> pa.Table:
    """Show the filters and return the rows that pass."""
    again = partial(rerun, visitor, HISTORY)
    with st.container(horizontal=True, vertical_alignment="center"):
        show = st.segmented_control(
            "Show",
            list(SHOW),
            default="All",
            required=True,
            key="history_show",
            label_visibility="collapsed",
            on_change=again,
        )
        options = [ANY, *range(10), NO_DIGIT.capitalize()]
        digit = st.selectbox(
            "Digit", options, key="history_digit", width=112, label_visibility="collapsed", on_change=again
        )
        text = st.text_input(
            "Search",
            key="history_search",
            max_chars=60,
            icon=":material/search:",
            placeholder="Date, time, digit or number",
            help="Every word must be in its number, day and time or digits, or be right, wrong, unlabelled, no digit.",
            label_visibility="collapsed",
            width="stretch",
            on_change=again,
        )
        if visitor.pair:
            label = "Only {} read as {}".format(*visitor.pair)
            st.button(label, icon=":material/close:", key="history_unpair", on_click=show_all_pairs, args=(visitor,))
    table = filtered(view, SHOW[show], None if digit == ANY else str(digit).lower(), visitor.pair)
    if text.strip():
        table = search(table, text, time_zone())
    shown = f"{len(table):,} of them are shown." if len(table) else "None of them matches."
    if len(table) > 1:
        shown += " If one is left, a button opens it."
    # Something in either case: what lies below would begin anew in another place.
    st.caption(shown) if len(table) < len(view.table) else st.empty()
    return table


def show_all_pairs(visitor: Visitor) -> None:
    visitor.pair = None
    visitor.charts += 1
    rerun(visitor, HISTORY, INSIGHTS)
