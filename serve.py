"""The process: Streamlit's page, the routes that programs fetch, and what begins and ends with the server.

    streamlit run serve.py

Two ways lead from a browser to the server. Streamlit's widgets carry what people do, one message after the other, each
of which reruns a part of the page. What programs fetch (is there news? all rows as a file) has nothing to do with a
page: it comes by plain HTTP routes, without a session, and never stands in the way of a stroke.

What must hold: a route answers while the database is away, and says so. A file that breaks off half-way does not look
like a whole one: its transfer breaks off, too. Slow readers hold no transaction, no memory, and not up the end of the
process. When the process ends, what waits to be saved is written first (`store.stop`).
"""

import asyncio
import base64
import contextlib
import csv
import io
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import streamlit as st
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from streamlit.watcher.polling_path_watcher import PollingPathWatcher

import db
import store
from model import ModelError, served_model

log = logging.getLogger(__name__)

NEWS_SECONDS = 1.0  # that an answer of `GET /news` may be old, whoever asks
NEWS_WAIT = 1.0  # seconds that a question waits for a silent database
DOWNLOADS = 2  # at once in this process: each takes processor time from those who draw
ROWS, BYTES = 1_000, 3_000_000  # of rows, and of their drawings, that a part of a download may hold
GRACE_SECONDS = 2  # that a download which is under way may take to its end when the process is to end
AWAY = "The database cannot be read right now. Please try again later.\n"
BUSY = "Others are downloading at this moment. Please try again in a minute.\n"

COLUMNS = ["id", "created_at", "updated_at", "predicted_digit", "confidence", *(f"p{digit}" for digit in range(10))]
COLUMNS += ["not_a_digit", "true_label", "labelled_at", "model_version", "drawing_png_base64"]

Place = tuple[datetime, str]  # created_at and id of a row


class Part(NamedTuple):
    text: bytes
    last: Place | None  # of its rows; None: there are none, and the file is at its end


# --- GET /news -------------------------------------------------------------------------------------------------------


class News:
    """What says whether history and insights have changed, asked of the table once a second at most, for everybody."""

    def __init__(self) -> None:
        self._known, self._at = "away", float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def latest(self) -> str:
        if time.monotonic() - self._at > NEWS_SECONDS and self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        if self._asking:
            await asyncio.wait([self._asking], timeout=NEWS_WAIT)
        return self._known

    async def _ask(self) -> None:
        try:
            self._known = await run_in_threadpool(db.fetch_news)
        except db.DatabaseError:
            self._known = "away"  # the readers of history and insights log it
        finally:
            self._at, self._asking = time.monotonic(), None


news = News()


async def get_news(request: Request) -> Response:
    return JSONResponse({"news": await news.latest()}, headers={"Cache-Control": "no-store"})


# --- GET /predictions.csv ---------------------------------------------------------------------------------------------

under_way: set[asyncio.Task[None]] = set()


class Download:
    """A route that sends all rows as one file, newest first, read by keyset pages.

    head: what the file begins with; lines: rows -> their part of the file.
    """

    def __init__(
        self, filename: str, media_type: str, head: bytes, lines: Callable[[list[db.ExportRow]], bytes]
    ) -> None:
        self._head, self._lines = head, lines
        self._headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", f'attachment; filename="{filename}"'.encode()),
            (b"cache-control", b"no-store"),
            (b"content-encoding", b"identity"),  # compressing base64 takes more of a core than it saves of the way
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(under_way) >= DOWNLOADS:
            return await PlainTextResponse(BUSY, 503, {"Retry-After": "60"})(scope, receive, send)
        sending = asyncio.create_task(self._send(scope, receive, send))
        under_way.add(sending)
        reader = asyncio.create_task(gone(receive))
        await asyncio.wait([sending, reader], return_when=asyncio.FIRST_COMPLETED)
        under_way.remove(sending)
        sending.cancel(), reader.cancel()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            part = await run_in_threadpool(self._read, None)
        except db.DatabaseError:
            return await PlainTextResponse(AWAY, 503, {"Retry-After": "10"})(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        if scope["method"] != "HEAD":
            await send({"type": "http.response.body", "body": self._head, "more_body": True})
            while part.last:
                await send({"type": "http.response.body", "body": part.text, "more_body": True})
                try:
                    part = await run_in_threadpool(self._read, part.last)
                except db.DatabaseError as error:
                    log.warning("a download breaks off: %s", error)
                    return  # without its last message: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _read(self, before: Place | None) -> Part:
        rows = db.fetch_export(before, ROWS, BYTES)
        return Part(self._lines(rows), (rows[-1].created_at, rows[-1].id) if rows else None)


async def gone(receive: Receive) -> None:
    """Returns once nobody reads any more."""
    while (await receive())["type"] != "http.disconnect":
        pass


def csv_lines(rows: list[db.ExportRow]) -> bytes:
    writer = csv.writer(text := io.StringIO(newline=""), lineterminator="\n")
    for row in rows:
        times = [when and when.isoformat() for when in (row.created_at, row.updated_at, row.labelled_at)]
        answer = [row.predicted_digit, row.confidence, *row.probabilities, row.not_a_digit]
        png = base64.b64encode(row.drawing).decode()
        writer.writerow([row.id, *times[:2], *answer, row.true_label, times[2], row.model_version, png])
    return text.getvalue().encode()


# --- start and end ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    end_in_time()
    # Streamlit reads config.toml five times a second to see whether it has changed, which no setting stops.
    PollingPathWatcher._check_if_path_changed = lambda watcher: None  # type: ignore[assignment, method-assign]
    store.start(db)
    with contextlib.suppress(ModelError):  # the page says it
        await run_in_threadpool(served_model, Path(__file__).parent / "model.pth")
    try:
        yield
    finally:
        await run_in_threadpool(store.stop)


def end_in_time() -> None:
    """Have the server wait for no reader as it ends, and take a closed terminal (SIGHUP) as the word to end."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)  # whose method hears the signal
    if isinstance(server, uvicorn.Server):
        server.config.timeout_graceful_shutdown = GRACE_SECONDS
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def routes() -> list[Route]:
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    base = f"/{base}" if base else ""
    predictions_csv = Download(
        "predictions.csv", "text/csv; charset=utf-8", (",".join(COLUMNS) + "\n").encode(), csv_lines
    )
    return [Route(f"{base}/news", get_news), Route(f"{base}/predictions.csv", predictions_csv, methods=["GET"])]


app = st.App(Path(__file__).parent / "app.py", routes=routes(), lifespan=lifespan)
