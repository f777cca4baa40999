"""The scripts of page/static/, as components that take no room on the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

STATIC = Path(__file__).parent / "static"


@st.cache_resource(show_spinner=False)
def _component(script: str) -> Callable[..., Any]:
    return st.components.v2.component(script, js=(STATIC / f"{script}.js").read_text())


def run_script(script: str, data: dict[str, Any], key: str | None = None, **callbacks: Callable[[], None]) -> None:
    """Run static/{script}.js in the browser with this data, again whenever it changes; once on a page for each key.

    callbacks: on_…_change for each trigger that it may set.
    """
    _component(script)(key=key or f"{script}_script", data=data, height=1, **callbacks)
