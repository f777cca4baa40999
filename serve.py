"""The process: Streamlit's page, the routes that programs fetch, and what begins and ends with the server.

    streamlit run serve.py

Two ways lead from a browser to the server. Streamlit's widgets carry what people do, one message after the other, each
of which reruns a part of the page. What programs fetch (is there news? all rows as a file) has nothing to do with a
page: it comes by plain HTTP routes, without a session, and never stands in the way of a stroke. So does the answer that
a page asks for while the pen is down.

What must hold: a route answers while the database is away, and says so. A file that breaks off half-way does not look
like a whole one: its transfer breaks off, too. Slow readers hold no transaction, no memory, and not up the end of the
process. When the process ends, what waits to be saved is written first (`store.stop`).
"""

import asyncio
import base64
import contextlib
import csv
import io
import json
import logging
import signal
import time
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import streamlit as st
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from streamlit.runtime.app_session import AppSession, AppSessionState
from streamlit.runtime.scriptrunner import RerunData
from streamlit.watcher.polling_path_watcher import PollingPathWatcher

import db
import store
from model import SERVED, ModelError, predict, served
from utils import (
    MAX_PNG_BYTES,
    DrawingError,
    decode_drawing,
    encode_png,
    preprocess_gray,
    side_by_side_gray,
    to_gray,
    to_pixels,
)

log = logging.getLogger(__name__)

ANSWER_SHARE = 0.3  # of a core that `POST /answer` may take from those whose stroke ended
ANSWER_TOTAL = 0.7  # of a core that this process may take, all in all, for there to be such answers
ANSWERS_AT_ONCE = 3  # each waits for the interpreter for most of its time
SAVED_UP = 0.3  # seconds of processor time, of either
NEWS_SECONDS = 1.0  # that an answer of `GET /news` may be old, whoever asks
NEWS_WAIT = 1.0  # seconds that a question waits for a silent database
DOWNLOADS = 2  # at once in this process: each takes processor time from those who draw
ROWS, BYTES = 1_000, 3_000_000  # of rows, and of their drawings or strokes, that a part of a download may hold
STALLED_SECONDS = 300  # that a reader may take for a part, before another may have its place
GRACE_SECONDS = 2  # that a download which is under way may take to its end when the process is to end
AWAY = "The database cannot be read right now. Please try again later.\n"
BUSY = "Others are downloading at this moment. Please try again in a minute.\n"

COLUMNS = ["id", "created_at", "updated_at", "predicted_digit", "confidence", *(f"p{digit}" for digit in range(10))]
COLUMNS += [
    "not_a_digit",
    "true_label",
    "labelled_at",
    "label_source",
    "session",
    "model_version",
    "drawing_png_base64",
]

Place = tuple[datetime, str]  # created_at and id of a row


class Chunk(NamedTuple):
    text: bytes
    last: Place | None  # of its rows; None: there are none, and the file is at its end


# --- GET /news -------------------------------------------------------------------------------------------------------


class News:
    """What says whether history and insights have changed, asked of the table once a second at most, for everybody."""

    def __init__(self) -> None:
        self._known, self._at = db.UNREADABLE, float("-inf")
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
            self._known = db.UNREADABLE  # the readers of history and insights log it
        finally:
            self._at, self._asking = time.monotonic(), None


news = News()


async def get_news(request: Request) -> Response:
    return JSONResponse({"news": await news.latest()}, headers={"Cache-Control": "no-store"})


# --- GET /predictions.csv, /predictions.ndjson ------------------------------------------------------------------------

under_way: set[asyncio.Task[None]] = set()


class Download:
    """A route that sends all rows as one file, newest first, read by keyset pages.

    head: what the file begins with; lines: rows -> their part of the file. strokes: with these, in place of the
    drawing; then `?labelled=1` asks for the rows alone that have a label and strokes.
    """

    def __init__(
        self,
        filename: str,
        media_type: str,
        head: bytes,
        lines: Callable[[list[db.ExportRow]], bytes],
        strokes: bool = False,
    ) -> None:
        self._head, self._lines, self._strokes = head, lines, strokes
        self._headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", f'attachment; filename="{filename}"'.encode()),
            (b"cache-control", b"no-store"),
            (b"content-encoding", b"identity"),  # compressing base64 takes more of a core than it saves of the way
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        labelled = Request(scope).query_params.get("labelled", "0") if self._strokes else "0"
        if labelled not in ("0", "1"):
            return await PlainTextResponse(f"labelled is 0 or 1, not {labelled!r:.20}.\n", 400)(scope, receive, send)
        if len(under_way) >= DOWNLOADS:
            return await PlainTextResponse(BUSY, 503, {"Retry-After": "60"})(scope, receive, send)
        sending = asyncio.create_task(self._send(scope, receive, send, labelled == "1"))
        under_way.add(sending)
        sending.add_done_callback(under_way.discard)  # not before: a reader that went away may leave a query running
        reader = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait([sending, reader], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel(), reader.cancel()

    async def _send(self, scope: Scope, receive: Receive, send: Send, labelled: bool) -> None:
        try:
            part = await self._part(None, labelled)
        except db.DatabaseError:
            return await PlainTextResponse(AWAY, 503, {"Retry-After": "10"})(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        if scope["method"] != "HEAD":
            await send({"type": "http.response.body", "body": self._head, "more_body": True})
            while part.last:
                try:
                    async with asyncio.timeout(STALLED_SECONDS):
                        await send({"type": "http.response.body", "body": part.text, "more_body": True})
                    part = await self._part(part.last, labelled)
                except (db.DatabaseError, TimeoutError) as error:
                    log.warning("a download breaks off: %s", str(error) or "nobody reads it")
                    return  # without its last message: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _part(self, before: Place | None, labelled: bool) -> Chunk:
        """Ends with its thread, even when nobody waits for it any more."""
        reading = asyncio.create_task(run_in_threadpool(self._read, before, labelled))
        try:
            return await asyncio.shield(reading)
        finally:
            await asyncio.wait([reading])

    def _read(self, before: Place | None, labelled: bool) -> Chunk:
        rows = db.fetch_export(before, ROWS, BYTES, self._strokes, labelled)
        return Chunk(self._lines(rows), (rows[-1].created_at, rows[-1].id) if rows else None)


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
        label = [row.true_label, times[2], row.label_source]
        writer.writerow([row.id, *times[:2], *answer, *label, row.session, row.model_version, png])
    return text.getvalue().encode()


def json_lines(rows: list[db.ExportRow]) -> bytes:
    """As evaluate.py reads them: a set, a label, strokes, and all else that is known of the drawing."""
    lines = []
    for row in rows:
        known = row._asdict()
        label, strokes = json.dumps(known.pop("true_label")), known.pop("strokes") or "null"  # which is JSON already
        del known["drawing"]
        rest = json.dumps(known, default=datetime.isoformat, separators=(",", ":"))
        lines.append(f'{{"set":"visitors","label":{label},"strokes":{strokes},{rest[1:]}\n')
    return "".join(lines).encode()


# --- POST /answer -----------------------------------------------------------------------------------------------------


class Bucket:
    """Processor time as tokens: `rate` seconds come in each second, `most` are kept, and what is used is taken."""

    def __init__(self, rate: float, most: float) -> None:
        self.rate, self._most = rate, most
        self._left, self._at = most, time.monotonic()

    def take(self, seconds: float) -> None:
        self._left = max(-self._most, self._left - seconds)

    def has_any(self) -> bool:
        now = time.monotonic()
        self._left, self._at = min(self._most, self._left + self.rate * (now - self._at)), now
        return self._left > 0


class Answers:
    """What the network says of a PNG, as JSON. Nothing is kept, and nothing waits: what is too much gets 503 at once.

    Few are answered at once. Together they may take `share` of a core, and none while all that this process does takes
    `total` of one.
    """

    def __init__(self, share: Bucket, total: Bucket) -> None:
        self._share, self._total, self._used = share, total, time.process_time()
        self._answering = 0

    async def post(self, request: Request) -> Response:
        try:
            check_answerable(request.headers)
            self._check_share()
            png = await body(request, MAX_PNG_BYTES)
            self._check_share()
            self._answering += 1
            try:
                return await run_in_threadpool(self._answer, png)
            finally:
                self._answering -= 1
        except HTTPException as error:
            return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)

    def _check_share(self) -> None:
        used = time.process_time()
        self._total.take(used - self._used)
        self._used = used
        if self._answering >= ANSWERS_AT_ONCE or not (self._share.has_any() and self._total.has_any()):
            raise HTTPException(503, "Too many are asking at this moment. Please ask again.", {"Retry-After": "1"})

    def _answer(self, png: bytes) -> Response:
        began = time.thread_time()
        try:
            gray = to_gray(decode_drawing(png))
            if (picture := preprocess_gray(gray)) is None:
                raise HTTPException(422, "There is no ink on the drawing: light on dark is read.")
            prediction = predict(served.network(), picture, side_by_side_gray(gray))
            answer = prediction.as_json(encode_png(to_pixels(picture)))
            return JSONResponse(answer, headers={"Cache-Control": "no-store"})
        except DrawingError as error:
            raise HTTPException(400, str(error)) from error
        except ModelError as error:
            raise HTTPException(503, str(error).replace(f"{SERVED.parent}/", "")) from error
        finally:
            self._share.take(time.thread_time() - began)


def check_answerable(headers: Headers) -> None:
    """Raises HTTPException for what must not be answered, by its headers alone."""
    if (origin := headers.get("origin")) and not same_host(origin, headers.get("host", "")):  # programs send no origin
        raise HTTPException(403, "A page of another site asks: only this one's own may.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "image/png":
        raise HTTPException(415, "A drawing is sent as its PNG, with the header Content-Type: image/png.")


def same_host(origin: str, host: str) -> bool:
    """Whether host and port of an `Origin` are those of a `Host`; neither is to be trusted to be any."""
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        default = {"http": 80, "https": 443}.get(page.scheme)
        return (page.hostname, page.port or default) == (here.hostname, here.port or default)
    except ValueError:
        return False


async def body(request: Request, most: int) -> bytes:
    """The body of a request. Raises HTTPException if it is larger than `most` bytes, once that is known."""
    too_large = HTTPException(413, f"A drawing is a PNG of at most {most:,} bytes.")
    if int(request.headers.get("content-length", 0)) > most:  # a number: the server has looked
        raise too_large
    chunks = bytearray()
    try:
        async for chunk in request.stream():
            chunks += chunk
            if len(chunks) > most:
                raise too_large
    except ClientDisconnect as error:
        raise HTTPException(400, "The drawing broke off.") from error
    return bytes(chunks)


answers = Answers(Bucket(ANSWER_SHARE, SAVED_UP), Bucket(ANSWER_TOTAL, SAVED_UP))


async def post_answer(request: Request) -> Response:
    return await answers.post(request)


# --- start and end ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    end_in_time()
    # Streamlit reads config.toml five times a second to see whether it has changed, which no setting stops.
    PollingPathWatcher._check_if_path_changed = lambda watcher: None  # type: ignore[assignment, method-assign]
    send_runs_to_their_end()
    store.start(db, served.take_up)
    with contextlib.suppress(ModelError):  # the page says it
        await run_in_threadpool(served.network)
    try:
        yield
    finally:
        await run_in_threadpool(store.stop)


def send_runs_to_their_end() -> None:
    """Have a message that comes as a run ends wait until what that run said is on its way.

    Streamlit begins a new run for it at once, and drops what the one before has said and not yet sent: a page would
    show the buttons of a drawing that has ended.
    """
    create, handle = AppSession._create_scriptrunner, AppSession._handle_scriptrunner_event_on_event_loop
    waiting: weakref.WeakKeyDictionary[AppSession, list[RerunData]] = weakref.WeakKeyDictionary()

    def begin(session: AppSession, initial_rerun_data: RerunData) -> None:
        runner = session._scriptrunner
        if runner is None:
            create(session, initial_rerun_data)
        elif not runner.request_rerun(initial_rerun_data):  # it has run to its end, and will say so
            waiting.setdefault(session, []).append(initial_rerun_data)

    def handle_and_go_on(session: AppSession, *args: Any, **kwargs: Any) -> None:
        handle(session, *args, **kwargs)
        if session._scriptrunner is None and session._state != AppSessionState.SHUTDOWN_REQUESTED:
            for data in waiting.pop(session, []):
                begin(session, data)

    AppSession._create_scriptrunner = begin  # type: ignore[assignment, method-assign]
    AppSession._handle_scriptrunner_event_on_event_loop = handle_and_go_on  # type: ignore[assignment, method-assign]


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
    predictions_ndjson = Download("predictions.ndjson", "application/x-ndjson", b"", json_lines, strokes=True)
    return [
        Route(f"{base}/answer", post_answer, methods=["POST"]),
        Route(f"{base}/news", get_news),
        Route(f"{base}/predictions.csv", predictions_csv, methods=["GET"]),
        Route(f"{base}/predictions.ndjson", predictions_ndjson, methods=["GET"]),
    ]


app = st.App(Path(__file__).parent / "app.py", routes=routes(), lifespan=lifespan)
