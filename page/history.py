"""The history: every prediction in one table, newest first, with filters, a search, a download and a closer look.

All visitors look at one Arrow table (snapshot.py). Streamlit sends a visitor the rows in view, a thousand at a time. A
stroke reruns none of this: the table is a fragment of its own, which is sent again only when there is news (live.py).
"""

import base64
import functools
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

import db
from model import Prediction
from page.answer import bars, is_digit, percent
from page.export import show_download
from page.insights import share
from page.live import AWAY, answer_also, begin, time_zone, watch
from store.outbox import SAVE_WAIT
from store.snapshot import NO_DIGIT, WRONG, Snapshot, View
from utils import DrawingError, decode_drawing, encode_png, preprocess

COLUMNS = ["picture", "open", "created_at", "read", "confidence", "label", "verdict"]
SHOW = {"All": None, "Mistakes": WRONG, "Unlabelled": "none"}
ANY = "Any digit"
TABLES = 4  # that were sent to a visitor last: on these a press finds its row
PARTS = 8  # filters whose rows are kept for all visitors; each is a copy of the rows that pass
# A button in Streamlit's table hears the mouse alone. On Enter or the space bar, this presses with it where the button
# is: near the left of the second column, which begins after the 60 pixels of the first, and is 64 wide or wider.
PRESS = """
export default function ({ parentElement }) {
  parentElement.stop?.();  // Streamlit calls this again when it sends the component again
  const press = (event) => {
    const row = event.target.id?.match(/^glide-cell-1-(\\d+)$/)?.[1];
    const table = event.target.closest?.(".st-key-history [data-testid=stDataFrame]");
    if (!row || !table || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { left, top } = table.getBoundingClientRect(), rows = table.querySelector(".dvn-scroller");
    const at = { clientX: left + 98 - rows.scrollLeft, clientY: top + 37 + 40 * row + 20 - rows.scrollTop };
    const how = { ...at, bubbles: true, cancelable: true, buttons: 1, isPrimary: true, pointerType: "mouse" };
    for (const name of ["pointermove", "mousemove", "pointerdown", "mousedown", "pointerup", "mouseup", "click"])
      rows.dispatchEvent(new (name.startsWith("pointer") ? PointerEvent : MouseEvent)(name, how));
  };
  window.addEventListener("keydown", press, true);
  parentElement.stop = () => window.removeEventListener("keydown", press, true);
  return parentElement.stop;
}
"""
# Not in Streamlit's caches: any browser may have those cleared, and a reader's thread would stay, with its whole table.
SNAPSHOT = Snapshot()


def show_history(own_ids, outbox) -> None:
    """Show the history and keep it current.

    own_ids: the ids of this visitor's own drawings, the only ones that can be labelled here, by way of `outbox`. Waits
    for the database at most 1.5 seconds, and not at all if that is known to be away.
    """
    SNAPSHOT.look(patience=1, check=True)
    show_table(own_ids, outbox)
    get_presser()(key="history_press", height=1)
    watch("history", SNAPSHOT, seconds=3)


@st.cache_resource(show_spinner=False)
def get_presser():
    return st.components.v2.component("press", js=PRESS)


@st.fragment(key="history")
def show_table(own_ids, outbox) -> None:
    state = st.session_state
    view = begin("history", SNAPSHOT, max_age=1)
    rows, labelled, right = view.counts
    if not rows:
        if SNAPSHOT.version:
            st.caption("No drawings yet: yours will be the first.")
        elif not SNAPSHOT.problem:
            st.caption("Reading …")
        return
    accuracy = f" · {share(right / labelled)} of them read right" if labelled else ""
    reading = "" if view.complete else " · reading older ones …"
    st.caption(f"{rows:,} drawing{'s' * (rows != 1)} · {labelled:,} labelled{accuracy}{reading}")
    table = show_filters(view)
    # A new key for each table sent: a press names a row by its place, and may come from the table before. The ids are
    # no argument of the button's: Streamlit keeps those of every key for as long as the session lives.
    state.history_sent = state.get("history_sent", 0) + 1
    key = f"history-look-{state.history_sent}"
    state.history_ids = dict(list(state.get("history_ids", {}).items())[1 - TABLES :]) | {key: table["id"]}
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
            "open": st.column_config.ButtonColumn("", width=64, key=key, on_click=pick, args=(key,)),
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
    show_download()
    if "history_toast" in state:
        st.toast(state.pop("history_toast"), icon=":material/filter_alt:")
    if "history_pick" in state:
        closer_look(state.pop("history_pick"), f"relabel-{state.history_sent}", own_ids, outbox)


def show_filters(view: View) -> pa.Table:
    """Show the filters and return the rows that pass."""
    # By name, for what changes at one moment is one message, which reruns one fragment, or those that are named.
    state, also = st.session_state, {"on_change": st.rerun, "args": ("history",)}
    with st.container(horizontal=True, vertical_alignment="center"):
        show = st.segmented_control(
            "Show", list(SHOW), default="All", required=True, key="history_show", label_visibility="collapsed", **also
        )
        options = [ANY, *range(10), NO_DIGIT.capitalize()]
        digit = st.selectbox("Digit", options, key="history_digit", width=112, label_visibility="collapsed", **also)
        text = st.text_input(
            "Search",
            key="history_search",
            max_chars=60,
            icon=":material/search:",
            placeholder="Date, time, digit or number",
            help="Every word must be in its number, day and time or digits, or be right, wrong, unlabelled, no digit.",
            label_visibility="collapsed",
            width="stretch",
            **also,
        )
        pair = state.get("history_pair")
        if pair:
            label = f"Only {pair[0]} read as {pair[1]}"
            st.button(label, icon=":material/close:", key="history_unpair", on_click=show_all_pairs)
    table = filtered(view, SHOW[show], None if digit == ANY else str(digit).lower(), pair)
    if text.strip():
        table = search(table, text, time_zone())
    shown = f"{len(table):,} of them are shown." if len(table) else "None of them matches."
    # Something in either case: the download below would begin anew in another place.
    st.caption(shown) if len(table) < len(view.table) else st.empty()
    return table


def filtered(view: View, verdict: str | None, digit: str | None, pair: tuple[int, int] | None) -> pa.Table:
    """The rows with this verdict (right, WRONG, none), this digit (the true one if known), this (true, read) pair.

    digit: "0" to "9", or NO_DIGIT for all that was turned away. Visitors with the same filter share the rows.
    """
    table, key = view.table, (verdict, digit, pair)
    if key not in view.parts:
        masks = []
        if verdict:
            masks.append(pc.equal(pc.fill_null(table["verdict"], "none"), verdict))
        if digit == NO_DIGIT:
            masks.append(pc.equal(table["read"], digit))
        elif digit:
            masks.append(pc.equal(pc.coalesce(table["label"].cast(pa.string()), table["read"]), digit))
        if pair:
            masks += [pc.equal(pc.fill_null(table["label"], -1), pair[0]), pc.equal(table["read"], str(pair[1]))]
        rows = table.filter(functools.reduce(pc.and_, masks)) if masks else table
        if len(view.parts) >= PARTS:
            view.parts.clear()
        view.parts[key] = rows if len(rows) < len(table) else table
    return view.parts[key]


def search(table: pa.Table, text: str, zone: str) -> pa.Table:
    """The rows in which every word of `text` is found, the quickest looked for first."""
    for word in sorted(text.lower().split(), key=lambda word: not word.isalpha() and len(word) > 1):
        if word.isdecimal() and len(word) == 1:
            digit = int(word)
            found = pc.or_(pc.equal(table["read"], str(digit)), pc.equal(pc.fill_null(table["label"], -1), digit))
        elif word in NO_DIGIT.split():
            found = pc.equal(table["read"], NO_DIGIT)
        elif word in ("right", "wrong", "unlabelled"):
            found = pc.match_substring(pc.fill_null(table["verdict"], "unlabelled"), word)
        else:
            # Converted by pandas: Arrow knows only the zones of the system, which may lack the old names browsers use.
            local = table["created_at"].to_pandas().dt.tz_convert(zone).dt.tz_localize(None)
            local = pa.chunked_array([pa.array(local)]).cast(pa.timestamp("s"), safe=False)
            when = pc.ascii_lower(pc.strftime(local, "%Y-%m-%d %H:%M:%S %A %d %B"))
            found = pc.or_(pc.starts_with(table["id"], word), pc.match_substring(when, word))
        table = table.filter(found)
    return table


def show_all_pairs() -> None:
    st.session_state.history_pair = None
    st.session_state.insights_chart = st.session_state.get("insights_chart", 0) + 1  # one in which no cell is picked
    st.rerun(["history", "insights"])


def pick(key: str) -> None:
    row, ids = st.session_state[key]["row"], st.session_state.history_ids.get(key, ())
    if row < len(ids):
        st.session_state.history_pick = ids[row].as_py()
        st.rerun("history")


# --- one drawing -------------------------------------------------------------------------------------------------


# Closed, it has the drawing's notice look again: a label that was given here may still wait, or be lost.
@st.dialog("A closer look", on_dismiss=lambda: st.rerun("drawing"))
def closer_look(drawing_id, key, own_ids, outbox) -> None:
    """Show one drawing large, what the network saw and said, and let its own visitor say what it is.

    key: of the buttons, another one each time: session state would hold the label that was given the last time.
    """
    try:
        if SNAPSHOT.problem:  # not asked: this visitor's answers would wait for it
            raise db.DatabaseError(SNAPSHOT.problem)
        row = db.fetch_drawing(drawing_id)
    except db.DatabaseError:
        st.info(unsaved(drawing_id, own_ids, outbox) or AWAY, icon=":material/cloud_off:")
        return
    if row is None:
        st.info("This drawing is no longer in the table.")
        return
    digit, label = row["predicted_digit"], st.session_state.get(key, row["true_label"])
    said = Prediction(digit, row["confidence"], tuple(row["probabilities"]), row["not_a_digit"])
    read = f"Read as **{digit}** with a confidence of **{percent(said.confidence)}**"
    if not is_digit(said):
        read = f"Not taken for a digit (**{percent(said.not_a_digit)}** sure that it is none)"
    right = is_digit(said) and label == digit
    verdict = "not labelled" if label is None else f"labelled **{label}**: {'right' if right else 'wrong'}"
    st.markdown(f"{read}, {verdict}.")
    figures = pictures(row["drawing"], f"Drawing number {drawing_id[:8]}")
    # A dialog lies outside of the page's theme, which our style sheet goes by.
    theme = st.context.theme.type or "light"
    st.html(f'<div class="look" style="color-scheme:{theme}"><div class="pictures">{figures}</div>{bars(said)}</div>')
    if drawing_id in own_ids:
        st.pills(
            "Which digit did you draw?",
            list(range(10)),
            default=label,
            required=label is not None,
            key=key,
            on_change=relabel,
            args=(key, drawing_id, own_ids, outbox),
        )
        if text := unsaved(drawing_id, own_ids, outbox):
            st.info(text)
    when = row["created_at"].astimezone(ZoneInfo(time_zone()))
    st.caption(f"Drawn {when:%d %b %Y, %H:%M:%S %Z} · number {drawing_id[:8]} · model {row['model_version']}")


def relabel(key: str, drawing_id: str, own_ids, outbox) -> None:
    digit = st.session_state[key]
    if drawing_id in own_ids and digit is not None:
        outbox.put_label(drawing_id, digit)
        outbox.wait([drawing_id], SAVE_WAIT)
        answer_also("history", history_pick=drawing_id)  # a dialog cannot be rerun by name


def unsaved(drawing_id: str, own_ids, outbox) -> str:
    """What is to be said of a drawing of one's own that is not in the table as its visitor left it, or nothing."""
    if drawing_id not in own_ids:
        return ""
    if outbox.lost([drawing_id]):
        return "Its label could not be saved."
    return (outbox.problem or "Saving …") if outbox.pending([drawing_id]) else ""


def pictures(png: bytes, alternative: str) -> str:
    """The drawing, and what the network saw of it; neither of a row from elsewhere that holds no drawing."""
    try:
        seen = preprocess(decode_drawing(png))
    except DrawingError:
        return "<p>Its drawing cannot be shown.</p>"
    figures = picture(png, "the drawing", alternative)
    if seen is not None:
        pixels = (seen[0, 0].numpy() * 255).astype(np.uint8)
        figures += picture(encode_png(pixels), "what the network saw", "The 28 by 28 pixels that the network saw")
    return figures


def picture(png: bytes, caption: str, alternative: str) -> str:
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return f'<figure><img src="{url}" alt="{alternative}"><figcaption>{caption}</figcaption></figure>'
