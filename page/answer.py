"""What the page says of a drawing: one component (static/answer.js) shows it, at the end of a stroke and before.

While the pen is down, the browser asks `POST /answer` (static/live.js) and shows what it says. At the end of a stroke
the answer comes with Streamlit's run, in the same form, and stays.
"""

import streamlit as st

from model import Prediction
from page.scripts import component
from page.visitor import Drawing

VIEW = "answer_view"


def show_answer(drawing: Drawing) -> None:
    """What was last read of it; if there is nothing, why."""
    state = st.session_state.get(VIEW)
    stroke = state.get("stroke") if isinstance(state, dict) else None
    data = {
        "drawing": drawing.id,
        "stroke": stroke if isinstance(stroke, int) else None,  # a browser can send anything
        "answer": drawing.reading.answer if drawing.reading else None,
        "refusal": drawing.refusal,
    }
    with st.container(key="answer"):
        component("answer", "answer")(key=VIEW, data=data, on_stroke_change=lambda: None)


def show_bars(prediction: Prediction, theme: str, key: str) -> None:
    """The ten bars alone. theme: "light" or "dark"."""
    component("answer", "bars")(key=key, data={"answer": prediction.as_json(b""), "theme": theme})
