"""The scripts of page/static/, as components: those that show something, and those that take no room on the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

STATIC = Path(__file__).parent / "static"


@st.cache_resource(show_spinner=False)
def component(script: str, html: str = "") -> Callable[..., Any]:
    """static/{script}.js as a component; html: the name of the file there that it fills. Its styles are the page's."""
    name, body = html or script, (STATIC / f"{html}.html").read_text() if html else None
    js = (STATIC / f"{script}.js").read_text()
    return st.components.v2.component(name, html=body, js=js, isolate_styles=False)


def run_script(script: str, data: dict[str, Any], key: str | None = None, **callbacks: Callable[[], None]) -> None:
    """Run static/{script}.js in the browser with this data, again whenever it changes; once on a page for each key.

    callbacks: on_…_change for each trigger that it may set.
    """
    component(script)(key=key or f"{script}_script", data=data, height=1, **callbacks)


def route(name: str) -> str:
    """The address of a route of serve.py, on this page's own host."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/{name}" if base else f"/{name}"
