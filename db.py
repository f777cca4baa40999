"""The table of predictions: its two writes and its queries (its definition: store/schema/, connections: postgres.py).

Every value is bound, never pasted into SQL, and checked by the table itself. Only what the table cannot check is
checked here: that a drawing is a PNG.
"""

import io
import json
import logging
import math
import operator
import os
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import psycopg2
from PIL import Image

from store import ledger, postgres, schema
from store.postgres import DatabaseError, Pool, Refused, Result  # noqa: F401 (DatabaseError is part of what db offers)
from store.schema import build_indexes  # noqa: F401 (so is this)
from store.table import LATE_SECONDS, NO_DIGIT_ABOVE, AnswerCount, Change, HistoryRow, Summary, TimeCount, VersionCount

log = logging.getLogger(__name__)

Strokes = Sequence[Sequence[Sequence[float]]]  # each a list of (x, y)
LabelSource = Literal["confirmed", "chosen"]  # with the one tap that agrees, or among the ten digits

UNREADABLE = "away"  # what `GET /news` answers while the table cannot be read

MAX_DRAWING_BYTES = 256 * 1024  # three times the largest PNG of 280 × 280 grey pixels

# A write that timed out may still reach the server later, after its retry or a newer one: the older never wins.
SAVE_PREDICTION = """
    INSERT INTO predictions (id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit,
                             drawing, model_version, thumbnail, strokes, session)
    VALUES (%(id)s, %(created_at)s, %(now)s, %(digit)s, %(confidence)s, %(probabilities)s, %(not_a_digit)s,
            %(drawing)s, %(model_version)s, %(thumbnail)s, %(strokes)s, %(session)s)
    ON CONFLICT (id) DO UPDATE SET
        updated_at = EXCLUDED.updated_at, predicted_digit = EXCLUDED.predicted_digit, confidence = EXCLUDED.confidence,
        probabilities = EXCLUDED.probabilities, not_a_digit = EXCLUDED.not_a_digit, drawing = EXCLUDED.drawing,
        model_version = EXCLUDED.model_version, thumbnail = EXCLUDED.thumbnail, strokes = EXCLUDED.strokes,
        session = EXCLUDED.session
    WHERE predictions.updated_at <= EXCLUDED.updated_at
"""
SAVE_LABEL = """
    UPDATE predictions SET
        true_label = CASE WHEN labelled_at > %(now)s THEN true_label ELSE %(digit)s END,
        label_source = CASE WHEN labelled_at > %(now)s THEN label_source ELSE %(source)s END,
        labelled_at = greatest(labelled_at, %(now)s),
        updated_at = greatest(updated_at, %(now)s)
    WHERE id = %(id)s
"""


class NoSuchDrawing(Refused):
    """There is no row to label with this id."""


def create_table() -> None:
    """Make the table `predictions`, or bring it up to date. Raises DatabaseError."""
    schema.upgrade()


def save_prediction(
    drawing_id: uuid.UUID | str,
    *,
    created_at: datetime,
    digit: int,
    confidence: float,
    probabilities: Sequence[float],
    not_a_digit: float,
    drawing: bytes,
    model_version: str,
    thumbnail_png: bytes | None = None,
    strokes: Strokes | None = None,
    session: str | None = None,
) -> None:
    """Insert the row of this drawing, or update it; its label and its first `created_at` stay as they are.

    created_at: aware; digit: 0..9; confidence, not_a_digit: 0..1; probabilities: ten of 0..1; drawing: PNG, at most
    256 KiB; model_version: 1 to 64 characters; thumbnail_png: what `thumbnail` made of the pixels; without
    it, the drawing is decoded for one; strokes: of (x, y) in canvas pixels, at most 128 KiB as JSON; session: a UUID.
    Raises TypeError, ValueError or Refused for any other value, DatabaseError if the database is away.
    """
    if not isinstance(drawing, bytes) or not drawing.startswith(b"\x89PNG") or len(drawing) > MAX_DRAWING_BYTES:
        raise ValueError(f"drawing must be PNG bytes, at most {MAX_DRAWING_BYTES} of them, not {drawing!r:.40}")
    row = {
        "id": str(drawing_id),
        "created_at": created_at,
        "now": _now(),
        "digit": operator.index(digit),
        "confidence": float(confidence),
        "probabilities": [float(probability) for probability in probabilities],
        "not_a_digit": float(not_a_digit),
        "drawing": psycopg2.Binary(drawing),
        "model_version": model_version,
        "thumbnail": thumbnail_png or thumbnail(drawing),
        "strokes": None if strokes is None else json.dumps(strokes),
        "session": session,
    }
    _run(postgres.writes, SAVE_PREDICTION, row)


def save_label(drawing_id: uuid.UUID | str, digit: int, source: LabelSource | None = None) -> None:
    """Set the true label of this drawing, 0 to 9, on its row and on no other. source: how it was given, where known.

    Raises TypeError or Refused for any other digit, NoSuchDrawing if the row is not there, DatabaseError if the
    database is away.
    """
    row = {"id": str(drawing_id), "digit": operator.index(digit), "source": source, "now": _now()}
    if _run(postgres.writes, SAVE_LABEL, row).rowcount == 0:
        raise NoSuchDrawing(f"no drawing {drawing_id} in the table: save its prediction before its label")


def thumbnail(drawing: bytes | np.ndarray) -> bytes | None:
    """PNG bytes, or (h, w) uint8 → a PNG of at most 28×28 pixels in four grays, some 200 bytes.

    None for what cannot be read, or has more than 2,000 pixels a side.
    """
    try:
        image = Image.fromarray(drawing) if isinstance(drawing, np.ndarray) else _open(drawing)
        side = max(image.size)
        if side > 2000:
            return None
        image.convert("L").reduce(math.ceil(side / 28)).quantize(4).save(small := io.BytesIO(), format="PNG")
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error and more on damaged files
        log.warning("a drawing of %d bytes is no PNG that can be read: it gets no thumbnail", len(drawing))
        return None
    return small.getvalue()


def _open(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=["PNG"])


def is_full() -> bool:
    """Whether the table, with its indexes, takes more of the server's disk than MAX_TABLE_GB. Raises DatabaseError."""
    return table_bytes() > _max_table_bytes()


def table_bytes() -> int:
    """How much of the server's disk the table takes, with its indexes. Raises DatabaseError."""
    return _run(postgres.writes, "SELECT pg_total_relation_size('predictions')").rows[0][0]


def _max_table_bytes() -> float:
    text = os.getenv("MAX_TABLE_GB") or "10"
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if math.isnan(gigabytes):
        log.error("MAX_TABLE_GB in .env must be a number of gigabytes, such as 10, not %r: 10 it is until then", text)
        gigabytes = 10.0
    return gigabytes * 1e9


def fetch_predictions() -> pd.DataFrame:
    """Return every row, newest first, as a DataFrame with the table's columns; `drawing` and `thumbnail` are PNG bytes.

    Times are datetime64[us, UTC]; true_label is Int64 (missing: not labelled). Raises DatabaseError.
    """
    result = _run(postgres.reads, "SELECT * FROM predictions ORDER BY created_at DESC, id DESC")
    frame = pd.DataFrame(result.rows, columns=result.columns)
    for name in ("created_at", "updated_at", "labelled_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    for name in ("drawing", "thumbnail"):
        frame[name] = frame[name].map(bytes, na_action="ignore")
    return frame.astype({"true_label": "Int64"})


# --- what the page reads ---------------------------------------------------------------------------------------------

# The bytes of a thumbnail come with the row. A row from elsewhere may have none: then its drawing comes instead.
ROWS = """
    SELECT id, created_at, updated_at, predicted_digit, confidence, not_a_digit, true_label,
           CASE WHEN %(pictures)s THEN coalesce(thumbnail, drawing) END AS picture
    FROM predictions
"""
PAGE = ROWS + "WHERE (created_at, id) < (%(created_at)s, %(id)s) ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
BY_ID = ROWS + "WHERE id = ANY(%(ids)s::uuid[])"
CHANGED = """
    SELECT id, updated_at FROM predictions WHERE (updated_at, id) > (%(since)s, %(id)s)
    ORDER BY updated_at, id LIMIT %(limit)s
"""
# From the last change on, a minute back, as a change may become visible late. One from a clock that is fast is not the
# last: it would hide all that follow.
NEWS = """
    SELECT concat_ws(' ', count(*), sum(extract(epoch FROM updated_at))) FROM predictions WHERE updated_at > coalesce(
        (SELECT max(updated_at) FROM predictions WHERE updated_at <= now()), '-infinity'
    ) - make_interval(secs => %(late)s)
"""
SUMMARY = "SELECT count(*), count(true_label), (SELECT max(updated_at) FROM predictions) FROM predictions"
ANSWERS = """
    SELECT true_label, predicted_digit, least(width_bucket(confidence, 0, 1, 10), 10), count(*), sum(confidence)
    FROM predictions WHERE true_label IS NOT NULL AND not_a_digit <= %(no_digit_above)s GROUP BY 1, 2, 3
"""
TIMES = """
    SELECT date_bin('15 minutes', created_at, TIMESTAMPTZ 'epoch'), count(*), count(true_label),
           count(*) FILTER (WHERE true_label = predicted_digit AND not_a_digit <= %(no_digit_above)s)
    FROM predictions GROUP BY 1
"""
VERSIONS = """
    SELECT model_version, min(created_at), count(*),
           count(*) FILTER (WHERE true_label = predicted_digit AND not_a_digit <= %(no_digit_above)s)
    FROM predictions WHERE true_label IS NOT NULL GROUP BY 1
"""
ONE = """
    SELECT id, created_at, predicted_digit, confidence, probabilities, not_a_digit, true_label, model_version, strokes,
           drawing
    FROM predictions WHERE id = %(id)s
"""
EXPORT = """
    WITH part AS (  -- bounded in bytes, too; octet_length reads no drawing
        SELECT id, sum(size) OVER (ORDER BY created_at DESC, id DESC) - size AS before
        FROM (
            SELECT id, created_at,
                   CASE WHEN %(strokes)s THEN coalesce(octet_length(strokes::text), 0)
                        ELSE octet_length(drawing) END AS size
            FROM predictions WHERE (created_at, id) < (%(created_at)s, %(id)s)
                AND (NOT %(labelled)s OR true_label IS NOT NULL AND strokes IS NOT NULL)
            ORDER BY created_at DESC, id DESC LIMIT %(limit)s
        ) AS rows
    )
    SELECT id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit, true_label, labelled_at,
           label_source, session, model_version,
           CASE WHEN %(strokes)s THEN strokes::text END, CASE WHEN NOT %(strokes)s THEN drawing END
    FROM predictions JOIN part USING (id) WHERE before < %(bytes)s ORDER BY created_at DESC, id DESC
"""
LABELLED = """
    SELECT id, created_at, session, true_label, drawing FROM predictions
    WHERE true_label IS NOT NULL AND (created_at, id) > (%(created_at)s, %(id)s) ORDER BY created_at, id LIMIT %(limit)s
"""
NO_ID = str(uuid.UUID(int=0))


class DrawingRow(NamedTuple):
    """One prediction with its whole drawing, for the closer look."""

    id: str
    created_at: datetime
    predicted_digit: int
    confidence: float
    probabilities: list[float]
    not_a_digit: float
    true_label: int | None
    model_version: str
    strokes: Strokes | None
    drawing: bytes


class LabelledRow(NamedTuple):
    """One labelled drawing, as learn.py reads it."""

    id: str
    created_at: datetime
    session: str | None
    true_label: int
    drawing: bytes


class ExportRow(NamedTuple):
    """One whole row, without its thumbnail, and with its strokes or its drawing."""

    id: str
    created_at: datetime
    updated_at: datetime
    predicted_digit: int
    confidence: float
    probabilities: list[float]
    not_a_digit: float
    true_label: int | None
    labelled_at: datetime | None
    label_source: LabelSource | None
    session: str | None
    model_version: str
    strokes: str | None  # as JSON
    drawing: bytes


def fetch_page(
    before: tuple[datetime, str] | None = None, limit: int = 1000, pictures: bool = True
) -> list[HistoryRow]:
    """Return up to `limit` rows, newest first, older than `before`, the (created_at, id) of the page before."""
    result = _run(postgres.reads, PAGE, _page(before, limit) | {"pictures": pictures})
    return [HistoryRow._make(row) for row in result.rows]


def fetch_export(
    before: tuple[datetime, str] | None, limit: int, max_bytes: int, strokes: bool = False, labelled: bool = False
) -> list[ExportRow]:
    """Return up to `limit` whole rows, as fetch_page does.

    None after the one whose drawing, or strokes, reach `max_bytes`: fewer than `limit` rows need not be the last ones.
    strokes: with these, in place of the drawing; labelled: only rows that have a label and strokes.
    """
    chosen = {"bytes": max_bytes, "strokes": strokes, "labelled": labelled}
    result = _run(postgres.looks, EXPORT, _page(before, limit) | chosen)
    return [ExportRow._make(row)._replace(drawing=bytes(row[-1] or b"")) for row in result.rows]


def fetch_labelled(limit: int = 1000) -> Iterator[LabelledRow]:
    """Yield all labelled rows, the oldest first, read so many at a time. Raises DatabaseError."""
    last = {"created_at": "-infinity", "id": NO_ID}
    while rows := _run(postgres.reads, LABELLED, last | {"limit": limit}).rows:
        for row in rows:
            yield LabelledRow._make(row)._replace(drawing=bytes(row[-1]))
        last = {"created_at": rows[-1][1], "id": rows[-1][0]}


def _page(before: tuple[datetime, str] | None, limit: int) -> dict[str, Any]:
    created_at, drawing_id = before or ("infinity", NO_ID)
    return {"created_at": created_at, "id": drawing_id, "limit": limit}


def fetch_rows(ids: Collection[str]) -> list[HistoryRow]:
    """Return the rows with these ids, in no order."""
    result = _run(postgres.reads, BY_ID, {"ids": list(ids), "pictures": True})
    return [HistoryRow._make(row) for row in result.rows]


def fetch_changes(since: datetime, limit: int = 100_000) -> list[Change]:
    """Return when the rows written since were last written, the oldest change first; `limit` of them a query."""
    changes: list[Change] = []
    last = Change(NO_ID, since)
    while True:
        result = _run(postgres.reads, CHANGED, {"since": last.updated_at, "id": last.id, "limit": limit})
        changes += map(Change._make, result.rows)
        if result.rowcount < limit:
            return changes
        last = changes[-1]


def fetch_news() -> str:
    """Return a short text that is another one whenever a row was added or changed, the same in every process.

    Also for a change that becomes visible up to LATE_SECONDS late, and for one of the ledger of models; not for a row
    that somebody deletes.
    """
    changes = _run(postgres.looks, NEWS, {"late": LATE_SECONDS}).rows[0][0]
    return f"{changes} {ledger.fetch_news()}"


def fetch_summary() -> Summary:
    return Summary._make(_run(postgres.reads, SUMMARY).rows[0])


def fetch_answers() -> list[AnswerCount]:
    """Return the counts of the labelled rows that were taken for a digit."""
    result = _run(postgres.reads, ANSWERS, {"no_digit_above": NO_DIGIT_ABOVE})
    return [AnswerCount._make(row) for row in result.rows]


def fetch_times() -> list[TimeCount]:
    """Return the counts of each quarter of an hour with rows.

    An hour of every time zone begins with one of these: in India or Nepal it does not begin with an hour of UTC.
    """
    result = _run(postgres.reads, TIMES, {"no_digit_above": NO_DIGIT_ABOVE})
    return [TimeCount._make(row) for row in result.rows]


def fetch_versions() -> list[VersionCount]:
    """Return the counts of the labelled rows of each version of the network, in no order."""
    result = _run(postgres.reads, VERSIONS, {"no_digit_above": NO_DIGIT_ABOVE})
    return [VersionCount._make(row) for row in result.rows]


def fetch_drawing(drawing_id: uuid.UUID | str) -> DrawingRow | None:
    """Return one row, or None if there is no such row."""
    rows = _run(postgres.looks, ONE, {"id": str(drawing_id)}).rows
    return DrawingRow._make(rows[0])._replace(drawing=bytes(rows[0][-1])) if rows else None


def _run(pool: Pool, sql: str, values: Mapping[str, Any] | None = None) -> Result:
    try:
        return pool.run(sql, values)
    except postgres.TableMissing:
        log.warning("the table predictions is missing: creating it")
        create_table()
        return pool.run(sql, values)


_last = datetime.min.replace(tzinfo=UTC)
_one_at_a_time = threading.Lock()


def _now() -> datetime:
    """The time, later at each call: if the machine's clock is set back, it goes on from where it was."""
    global _last
    with _one_at_a_time:
        _last = max(datetime.now(UTC), _last + timedelta(microseconds=1))
        return _last
