"""What the page says of a drawing, as HTML: cheaper to make, to send and to show than a chart library's."""

import base64
from html import escape

import numpy as np
import streamlit as st

from model import Prediction
from page.visitor import Reading
from utils import encode_png

DOUBT = 0.5  # confidence below which the page names the runner-up


def show_answer(reading: Reading | None, refusal: str) -> None:
    """refusal: why nothing is on the canvas, for the visitor, or nothing."""
    prediction, pixels = (reading.prediction, reading.pixels) if reading else (None, None)
    with st.container(key="answer"):
        with st.container(key="answer_digit"):
            st.html(digit(prediction))
        with st.container(key="answer_confidence"):
            st.html(confidence(prediction) if prediction else escape(refusal) or "Draw a digit to begin")
        st.html(seen(pixels) + bars(prediction))


def percent(p: float) -> str:
    """0..1 → text that never rounds to a certainty that nobody has."""
    return "> 99.9 %" if p > 0.999 else "< 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"


def share(p: float, digits: int = 1) -> str:
    """0..1 → text, in per cent."""
    return f"{100 * p:.{digits}f} %"


def short(p: float) -> str:
    """The same for a bar, where there is little room; nothing for what is next to nothing."""
    return ">99%" if p > 0.99 else f"{100 * p:.0f}%" if p >= 0.005 else ""


def digit(prediction: Prediction | None) -> str:
    """The digit alone; nothing while there is none. `none` and `doubt` are for the style sheet."""
    if prediction is None:
        return '<div class="digit none"></div>'
    kind = "sure" if prediction.is_digit and prediction.confidence >= DOUBT and not prediction.parts else "doubt"
    return f'<div class="digit {kind}">{prediction.digit if prediction.is_digit else ""}</div>'


def confidence(prediction: Prediction) -> str:
    """How sure the network is, and what it doubts; for those who hear the page, of which digit."""
    if prediction.parts:
        *first, last = map(str, prediction.parts)
        return f"<b>One at a time</b> This looks like {', '.join(first)} and {last} side by side."
    if not prediction.is_digit:
        return "<b>Not a digit?</b> This does not look like a digit. If it is one, say which below."
    sure = f'<span class="unseen">Read as {prediction.digit}: </span><b>{percent(prediction.confidence)}</b>'
    if prediction.confidence >= DOUBT:
        return f"{sure} sure"
    second = max(set(range(10)) - {prediction.digit}, key=prediction.probabilities.__getitem__)
    return f"{sure} Not sure. It could also be a {second} ({percent(prediction.probabilities[second])})."


def bars(prediction: Prediction | None) -> str:
    """Ten bars, in words too for those who cannot see them.

    The probabilities are those if the drawing is a digit. Where the page turns it away they are faint, and said so.
    """
    p = prediction.probabilities if prediction else (0.0,) * 10
    best = prediction.digit if prediction and prediction.is_digit else None
    doubt, condition = ("", "") if best is not None or not prediction else (" doubt", ", if it is one after all")
    columns = "".join(
        f'<span class="{"bar best" if d == best else "bar"}"><b>{short(p[d])}</b>'
        f'<i style="--p:{p[d]:.3f}"></i><em>{d}</em></span>'
        for d in range(10)
    )
    words = ", ".join(f"{d}: {percent(p[d])}" for d in range(10)) if prediction else "nothing drawn yet"
    words = f"Probability of each digit{condition}. {words}"
    return f'<div class="bars{doubt}" role="img" aria-label="{words}">{columns}</div>'


def seen(pixels: np.ndarray | None) -> str:
    """(28, 28) uint8, what the network saw → the same, enlarged by the style sheet."""
    png = encode_png(np.zeros((28, 28), np.uint8) if pixels is None else pixels)
    return figure(png, "28 × 28 pixels", "What the network saw")


def figure(png: bytes, caption: str, alternative: str) -> str:
    """alternative: what the picture shows, for those who cannot see it."""
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return f'<figure><img src="{url}" alt="{alternative}"><figcaption>{caption}</figcaption></figure>'
