"""A section of the page that shows what the database holds, and stays current.

A thread reads the database (store/reader.py). The browser asks `GET /news` of serve.py while the section is on the
screen, and Streamlit only when there is news (static/news.js). Without that route the section shows what there was when
it was last sent.
"""

from functools import partial
from typing import TypeVar
from zoneinfo import ZoneInfo

import streamlit as st

import db
from page.drawing import rerun
from page.scripts import route, run_script
from page.visitor import Visitor
from store.reader import Reader

V = TypeVar("V")


def begin(visitor: Visitor, section: str, reader: Reader[V], max_age: float, seconds: float) -> V | None:
    """Show the head of a section, and that the database is away if it is. Returns the view to show.

    None as the page opens: what a browser must load for tables and charts would hold up the canvas. static/news.js has
    the section rerun as soon as the canvas stands and the section is on the screen; for that first look at the view,
    the reader leaves no doubt (`check`). max_age, seconds: of a view that may be shown, and between questions for news.
    """
    before = visitor.sections.get(section, 0)
    visitor.sections[section] = before + 1
    opening, first = before == 0, before == 1
    if not opening:
        reader.look(max_age=max_age, patience=1 if first else 0.5, check=first)
    # Before the view is taken: at worst the same is sent once more.
    seen = None if opening or reader.unfinished() else db.UNREADABLE if reader.problem else reader.news or None
    ask_for_news(visitor, section, seconds, seen)
    st.header(section.capitalize(), anchor=False)
    # Something in either case: what lies below would begin anew in another place.
    st.info(reader.problem, icon=":material/cloud_off:") if reader.problem and not opening else st.empty()
    return None if opening else reader.view


def ask_for_news(visitor: Visitor, section: str, seconds: float, seen: str | None) -> None:
    """Have the section, a container of this key, rerun as soon as `GET /news` answers anything but `seen`."""
    data = {"section": section, "seconds": seconds, "url": route("news"), "seen": seen}
    run_script("news", data, key=f"{section}_news", on_news_change=partial(rerun, visitor, section))


def time_zone() -> str:
    """The visitor's time zone, or UTC where the browser names none that is known here."""
    name = st.context.timezone or "UTC"
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # what ZoneInfo raises for names that nobody knows, and for hostile ones
        return "UTC"
    return name
