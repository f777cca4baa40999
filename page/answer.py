"""What the page says of a drawing, as HTML: cheaper to make, to send and to show than a chart library's."""

import base64
import threading

import numpy as np

from model import Prediction
from utils import encode_png

DOUBT = 0.5  # confidence below which the page names the runner-up, and chance of "not a digit" above which it says so

# Held while one stroke is answered. Many answered at once only take the interpreter from each other: that costs more
# processor time, and all are late instead of some (docs/performance.md).
TURN = threading.Lock()


def is_digit(said: Prediction) -> bool:
    return said.not_a_digit <= DOUBT


def percent(p: float) -> str:
    """0..1 → text that never rounds to a certainty that nobody has."""
    return "> 99.9 %" if p > 0.999 else "< 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"


def short(p: float) -> str:
    """The same for a bar, where there is little room; nothing for what is next to nothing."""
    return ">99%" if p > 0.99 else f"{100 * p:.0f}%" if p >= 0.005 else ""


def digit(said: Prediction | None) -> str:
    """The digit alone; nothing while there is none. `none` and `doubt` are for the style sheet."""
    if said is None:
        return '<div class="digit none"></div>'
    kind = "sure" if is_digit(said) and said.confidence >= DOUBT else "doubt"
    return f'<div class="digit {kind}">{said.digit if is_digit(said) else ""}</div>'


def confidence(said: Prediction) -> str:
    """How sure the network is, and what it doubts; for those who hear the page, of which digit."""
    if not is_digit(said):
        return "<b>Not a digit?</b> This does not look like a digit. If it is one, say which below."
    sure = f'<span class="unseen">Read as {said.digit}: </span><b>{percent(said.confidence)}</b>'
    if said.confidence >= DOUBT:
        return f"{sure} sure"
    second = max(set(range(10)) - {said.digit}, key=said.probabilities.__getitem__)
    return f"{sure} Not sure. It could also be a {second} ({percent(said.probabilities[second])})."


def bars(said: Prediction | None) -> str:
    """Ten bars, in words too for those who cannot see them."""
    p = said.probabilities if said else (0.0,) * 10
    best = said.digit if said and is_digit(said) else None
    columns = "".join(
        f'<span class="{"bar best" if d == best else "bar"}"><b>{short(p[d])}</b>'
        f'<i style="--p:{p[d]:.3f}"></i><em>{d}</em></span>'
        for d in range(10)
    )
    words = ", ".join(f"{d}: {percent(p[d])}" for d in range(10)) if said else "nothing drawn yet"
    return f'<div class="bars" role="img" aria-label="Probability of each digit. {words}">{columns}</div>'


def picture(pixels: np.ndarray | None) -> str:
    """(28, 28) uint8, what the network saw → the same, enlarged by the style sheet."""
    png = encode_png(np.zeros((28, 28), np.uint8) if pixels is None else pixels)
    return (
        f'<figure><img src="data:image/png;base64,{base64.b64encode(png).decode()}" '
        'alt="What the network saw"><figcaption>28 × 28 pixels</figcaption></figure>'
    )
