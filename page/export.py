"""The download of all rows as one CSV file, put together in the browser.

The browser asks for a thousand rows at a time, so the server never holds the file: 100,000 drawings are some 350 MB.
"""

import base64
import csv
import io
import logging

import streamlit as st

import db

log = logging.getLogger(__name__)

ROWS, BYTES = 1_000, 3_000_000  # of rows and of their drawings: what comes first ends a message, of at most some 5 MB
KEY = "history_csv"
HEAD = ["id", "created_at", "updated_at", "predicted_digit", "confidence", *(f"p{digit}" for digit in range(10))]
HEAD += ["not_a_digit", "true_label", "labelled_at", "model_version", "drawing_png_base64"]
HTML = '<button type="button">Download all as CSV</button> <span role="status"></span>'
CSS = """
button {
  font: inherit; font-size: 0.875rem; cursor: pointer;
  color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); padding: 0.5rem 0.75rem;
}
button:hover:enabled { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
button:disabled { opacity: 0.6; cursor: progress; }
span { font-size: 0.875rem; color: var(--st-text-color); margin-left: 0.5rem; }
"""
JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const self = parentElement, button = self.querySelector("button"), status = self.querySelector("span");
  const ask = (last) => {
    window.lastTick = Infinity;  // no ticks of live.py meanwhile: of two questions in one message, one is lost
    setTriggerValue("next", { part: self.parts.length, last });
    self.again = setTimeout(() => ask(last), 15000);  // the answer was lost
  };
  const finish = (text) => {
    window.lastTick = performance.now();
    self.parts = null;
    button.disabled = false;
    status.textContent = text;
  };
  button.onclick = () => { self.parts = []; button.disabled = true; status.textContent = "Reading …"; ask(null); };
  const take = () => {
    if (!self.parts || data?.part !== self.parts.length) return;  // nothing asked, or this has come already
    clearTimeout(self.again);
    if (data.problem) return finish(data.problem);
    self.parts.push(new Blob([data.text]));
    self.rows = (data.part ? self.rows : 0) + data.rows;
    status.textContent = self.rows.toLocaleString("en") + " rows";
    if (data.last) return ask(data.last);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(self.parts, { type: "text/csv" }));
    link.download = "predictions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    finish(self.rows.toLocaleString("en") + " rows, with the drawings as base64 PNG");
  };
  take();
  return () => {  // the page puts another one in the place of this
    clearTimeout(self.again);
    if (self.parts) window.lastTick = performance.now();
  };
}
"""


@st.cache_resource(show_spinner=False)
def get_button():
    return st.components.v2.component("download", html=HTML, css=CSS, js=JS)


@st.fragment
def show_download() -> None:
    """Show the button. Every part that the browser asks for reruns this fragment alone."""
    answer = st.session_state.pop("history_csv_answer", {})
    get_button()(key=KEY, data=answer, on_next_change=answer_browser)


def answer_browser() -> None:
    asked = st.session_state[KEY].get("next")
    if not isinstance(asked, dict) or not isinstance(asked.get("part"), int):
        return
    try:
        text, last, rows = csv_part(asked.get("last"))
        answer = {"part": asked["part"], "text": text, "last": last, "rows": rows}
    except (db.DatabaseError, ValueError) as error:
        log.warning("no CSV for a visitor: %s", error)
        answer = {"part": asked["part"], "problem": "The database cannot be read right now. Please try again later."}
    st.session_state.history_csv_answer = answer


def csv_part(last=None):
    """The next rows as CSV, newest first; the first part begins with the names of the columns.

    last: None, or what the part before ended with. Returns (text, what to ask for next or None at the end, rows).
    Raises db.DatabaseError, and ValueError for a `last` that no part ended with.
    """
    if last is not None and not (isinstance(last, list) and len(last) == 2 and all(isinstance(x, str) for x in last)):
        raise ValueError(f"not the end of a part: {last!r:.80}")
    rows = db.fetch_export(last, ROWS, BYTES)
    writer = csv.writer(text := io.StringIO(newline=""), lineterminator="\n")
    if last is None:
        writer.writerow(HEAD)
    writer.writerows(_line(row) for row in rows)
    return text.getvalue(), [rows[-1][1].isoformat(), rows[-1][0]] if rows else None, len(rows)


def _line(row):
    drawing_id, created, updated, digit, confidence, probabilities, other, label, labelled, version, drawing = row
    times = [when and when.isoformat() for when in (created, updated, labelled)]
    png = base64.b64encode(drawing).decode()
    return [drawing_id, times[0], times[1], digit, confidence, *probabilities, other, label, times[2], version, png]
