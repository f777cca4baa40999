"""The page: draw a digit, read the answer, give the true label, scroll the history. serve.py serves it.

Only what changes reruns: the drawing, the closer look, the history and the insights are one fragment each.
"""

import logging
from pathlib import Path

import streamlit as st

import db
import store
from model import ModelError, freeze, served
from page.closer_look import show_asked
from page.drawing import show_drawing, show_unseen
from page.history import show_history
from page.insights import show_insights
from page.visitor import HISTORY, INSIGHTS, this_visitor

st.set_page_config(page_title="Draw a digit", page_icon="✏️", layout="centered")

HERE = Path(__file__).parent

st.html(HERE / "page" / "static" / "page.css")

try:
    served.network()
except ModelError as error:
    logging.getLogger(__name__).exception("there is no model to serve")
    st.error(str(error).replace(f"{HERE}/", ""))
    st.stop()
beside = store.start(db, served.take_up)
visitor = this_visitor()

st.html(
    '<h1>Draw a digit</h1><p class="quiet">Write it in the black square. All drawings are kept.'
    '<span class="keys"> Keys: 0–9 label, Y correct, ⌫ clear, Ctrl Z undo.</span></p>'
)
show_drawing(visitor, beside.outbox)
with st.container(key="unseen"):
    show_unseen(visitor, beside.outbox)
    show_asked(visitor, beside.snapshot, beside.outbox)
with st.container(key=HISTORY):
    show_history(visitor, beside.snapshot, beside.outbox)
with st.container(key=INSIGHTS):
    show_insights(visitor, beside.counter)
freeze()
