"""Insights: how well the network does on these drawings, counted by the database and drawn as charts."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import streamlit as st

from page.charts import SHORT, show_confusion, show_reliability, show_time, show_versions
from page.news import begin, time_zone
from page.visitor import INSIGHTS, Visitor, fragment
from store.counts import Counter
from store.ledger import Model
from utils import wilson

SECONDS = 10  # between two questions for news


@fragment(INSIGHTS)
def show_insights(visitor: Visitor, counter: Counter) -> None:
    """Show the figures and charts once they are scrolled to, and keep them current."""
    figures = begin(visitor, INSIGHTS, counter, max_age=5, seconds=SECONDS)
    if figures is None:
        st.caption("" if counter.problem else "Counting …")
        return
    total, labelled, right = (int(figures.times[name].sum()) for name in ("n", "labelled", "right"))
    if not total:
        st.caption("Nothing to count yet: draw a digit, and say which one it was.")
        return
    show_numbers(total, labelled, right)
    left, right_side = st.columns(2, gap="large")
    with left:
        show_confusion(visitor, figures.answers, labelled)
    with right_side:
        show_reliability(figures.answers)
    st.space("small")
    show_time(figures.times, labelled)
    show_versions(figures.versions, labelled)
    if figures.latest:
        st.caption(said_of(figures.latest, ZoneInfo(time_zone())))


def show_numbers(total: int, labelled: int, right: int) -> None:
    with st.container(horizontal=True, gap="medium"):
        st.metric("Drawings", f"{total:,}", width="content")
        st.metric("Labelled", f"{labelled:,}", width="content")
        st.metric("Read right", f"{100 * right / labelled:.1f} %" if labelled else "–", width="content")
    if labelled:
        low, high = wilson(right, labelled)
        st.caption(
            f"{right:,} of {labelled:,} labelled drawings were read right. With 95 % confidence the accuracy on such "
            f"drawings is between {100 * low:.1f} % and {100 * high:.1f} % (Wilson interval)."
        )


def said_of(latest: Model, zone: ZoneInfo) -> str:
    """What became of the network that was made last, as Markdown."""

    def day(time: datetime) -> str:
        there = time.astimezone(zone)
        return f"{there.day} {there:%B %Y}"

    network = "The latest network that learned from these labels"
    if latest.served_since is None:
        why = re.sub(r"([\\`*_~$<>:\[\]])", r"\\\1", latest.refusal or "")
        return f"{network} was made on {day(latest.made_at)} and did not go into service: {why}."
    network += f", {latest.version[:SHORT]},"
    if latest.served_until is None:
        return f"{network} has been in service since {day(latest.served_since)}."
    return (
        f"{network} went into service on {day(latest.served_since)} and was rolled back on {day(latest.served_until)}."
    )
