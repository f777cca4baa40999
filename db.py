"""The table of predictions: its definition, its two writes, and its queries (connections: postgres.py).

The page sends whatever a browser sent it, so every value is checked here, and by the table itself once more.
"""

import io
import logging
import math
import operator
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pandas as pd
import psycopg2
from PIL import Image

from store import postgres
from store.postgres import DatabaseError, Refused, close  # noqa: F401 (part of what this module offers)

log = logging.getLogger(__name__)

MAX_DRAWING_BYTES = 256 * 1024  # three times the largest PNG of 280 × 280 grey pixels

TABLE = """
    SELECT pg_advisory_xact_lock(280280);  -- two that create it at once would collide
    CREATE TABLE IF NOT EXISTS predictions (
        id uuid PRIMARY KEY,
        created_at timestamptz NOT NULL CHECK (created_at BETWEEN '1999-12-31Z' AND '3000-01-02Z'),
        updated_at timestamptz NOT NULL DEFAULT now(),
        predicted_digit smallint NOT NULL CHECK (predicted_digit BETWEEN 0 AND 9),
        confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
        probabilities double precision[] NOT NULL CHECK (
            array_ndims(probabilities) = 1 AND cardinality(probabilities) = 10
            AND array_position(probabilities, NULL) IS NULL
            AND 0 <= ALL (probabilities) AND 1 >= ALL (probabilities)),
        not_a_digit double precision NOT NULL CHECK (not_a_digit BETWEEN 0 AND 1),
        true_label smallint CHECK (true_label BETWEEN 0 AND 9),
        labelled_at timestamptz,
        drawing bytea NOT NULL CHECK (octet_length(drawing) BETWEEN 1 AND 262144),
        model_version text NOT NULL CHECK (length(model_version) BETWEEN 1 AND 64),
        thumbnail bytea CHECK (octet_length(thumbnail) <= 1024),  -- of the drawing, for the history
        CHECK ((true_label IS NULL) = (labelled_at IS NULL))
    );
    -- one for each view of the page; docs/scale.md shows their plans
    CREATE INDEX IF NOT EXISTS predictions_newest
        ON predictions (created_at DESC, id DESC) INCLUDE (true_label, predicted_digit, not_a_digit);
    CREATE INDEX IF NOT EXISTS predictions_changed ON predictions (updated_at, id);
    CREATE INDEX IF NOT EXISTS predictions_labelled
        ON predictions (true_label, predicted_digit, confidence) INCLUDE (not_a_digit) WHERE true_label IS NOT NULL;
"""

# A write that timed out may still reach the server later, after its retry or a newer one: the older never wins.
SAVE_PREDICTION = """
    INSERT INTO predictions (id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit,
                             drawing, model_version, thumbnail)
    VALUES (%(id)s, %(created_at)s, %(now)s, %(digit)s, %(confidence)s, %(probabilities)s, %(not_a_digit)s,
            %(drawing)s, %(model_version)s, %(thumbnail)s)
    ON CONFLICT (id) DO UPDATE SET
        updated_at = EXCLUDED.updated_at, predicted_digit = EXCLUDED.predicted_digit, confidence = EXCLUDED.confidence,
        probabilities = EXCLUDED.probabilities, not_a_digit = EXCLUDED.not_a_digit, drawing = EXCLUDED.drawing,
        model_version = EXCLUDED.model_version, thumbnail = EXCLUDED.thumbnail
    WHERE predictions.updated_at <= EXCLUDED.updated_at
"""
SAVE_LABEL = """
    UPDATE predictions SET
        true_label = CASE WHEN labelled_at > %(now)s THEN true_label ELSE %(digit)s END,
        labelled_at = greatest(labelled_at, %(now)s),
        updated_at = greatest(updated_at, %(now)s)
    WHERE id = %(id)s
"""


class NoSuchDrawing(DatabaseError):
    """There is no row to label with this id."""


def create_table():
    """Create the table `predictions` if it does not exist. Raises DatabaseError."""
    # Asked first, because a user without the right to create tables may not even say IF NOT EXISTS.
    _, _, rows = postgres.reads.run("SELECT to_regclass('predictions') IS NOT NULL")
    if not rows[0][0]:
        postgres.writes.run(TABLE)


def save_prediction(drawing_id, *, created_at, digit, confidence, probabilities, not_a_digit, drawing, model_version):
    """Insert the row of this drawing, or update it; its label and its first `created_at` stay as they are.

    drawing_id: UUID or its text; created_at: aware datetime; digit: 0..9; confidence, not_a_digit: 0..1;
    probabilities: ten of 0..1; drawing: PNG bytes, at most 256 KiB; model_version: 1 to 64 characters.
    Raises ValueError for any other value, Refused if the table refuses it, DatabaseError if the database is away.
    """
    if not isinstance(created_at, datetime) or created_at.tzinfo is None or not 2000 <= created_at.year < 3000:
        raise ValueError(f"created_at must be a datetime of our age with a time zone, not {created_at!r:.80}")
    if not isinstance(drawing, bytes) or not drawing.startswith(b"\x89PNG") or len(drawing) > MAX_DRAWING_BYTES:
        raise ValueError(f"drawing must be PNG bytes, at most {MAX_DRAWING_BYTES} of them, not {drawing!r:.40}")
    if not isinstance(model_version, str) or not 1 <= len(model_version) <= 64 or not model_version.isprintable():
        raise ValueError(f"model_version must be 1 to 64 printable characters, not {model_version!r:.80}")
    try:
        probabilities = [_fraction("a probability", value) for value in probabilities]
    except TypeError:
        raise ValueError(f"probabilities must be ten numbers, not {probabilities!r:.80}") from None
    if len(probabilities) != 10:
        raise ValueError(f"probabilities must be ten numbers, not {len(probabilities)}")
    row = {
        "id": _uuid(drawing_id),
        "created_at": created_at,
        "now": _now(),
        "digit": _digit("digit", digit),
        "confidence": _fraction("confidence", confidence),
        "probabilities": probabilities,
        "not_a_digit": _fraction("not_a_digit", not_a_digit),
        "drawing": psycopg2.Binary(drawing),
        "model_version": model_version,
        "thumbnail": thumbnail(drawing),
    }
    _run(postgres.writes, SAVE_PREDICTION, row)


def save_label(drawing_id, digit):
    """Set the true label of this drawing, 0 to 9, on its row and on no other.

    Raises ValueError for any other digit, NoSuchDrawing if the row is not there, DatabaseError if the database is away.
    """
    row = {"id": _uuid(drawing_id), "digit": _digit("digit", digit), "now": _now()}
    count, _, _ = _run(postgres.writes, SAVE_LABEL, row)
    if count == 0:
        raise NoSuchDrawing(f"no drawing {row['id']} in the table: save its prediction before its label")


def table_bytes():
    """How much of the server's disk the table takes, with its indexes. Raises DatabaseError."""
    return _run(postgres.reads, "SELECT pg_total_relation_size('predictions')")[2][0][0]


def fetch_predictions():
    """Return every row, newest first, as a DataFrame with the table's columns; `drawing` and `thumbnail` are PNG bytes.

    Times are datetime64[us, UTC]; true_label is Int64 (missing: not labelled). Raises DatabaseError.
    """
    _, columns, rows = _run(postgres.reads, "SELECT * FROM predictions ORDER BY created_at DESC, id DESC")
    frame = pd.DataFrame(rows, columns=columns)
    for name in ("created_at", "updated_at", "labelled_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    for name in ("drawing", "thumbnail"):
        frame[name] = frame[name].map(bytes, na_action="ignore")
    return frame.astype({"true_label": "Int64"})


# --- what the history reads ---------------------------------------------------------------------------------------

# The bytes of a thumbnail come with the row. A row from elsewhere may have none: then its drawing comes instead.
ROWS = """
    SELECT id, created_at, updated_at, predicted_digit, confidence, not_a_digit, true_label,
           CASE WHEN %(pictures)s THEN coalesce(thumbnail, drawing) END AS picture
    FROM predictions
"""
PAGE = ROWS + "WHERE (created_at, id) < (%(created_at)s, %(id)s) ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
EXPORT = """
    WITH part AS (  -- bounded in bytes, too; octet_length reads no drawing
        SELECT id, sum(octet_length(drawing)) OVER (ORDER BY created_at DESC, id DESC) - octet_length(drawing) AS before
        FROM (
            SELECT id, created_at, drawing FROM predictions WHERE (created_at, id) < (%(created_at)s, %(id)s)
            ORDER BY created_at DESC, id DESC LIMIT %(limit)s
        ) AS rows
    )
    SELECT id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit, true_label, labelled_at,
           model_version, drawing
    FROM predictions JOIN part USING (id) WHERE before < %(bytes)s ORDER BY created_at DESC, id DESC
"""
BY_ID = ROWS + "WHERE id = ANY(%(ids)s::uuid[])"
CHANGED = """
    SELECT id, updated_at FROM predictions WHERE (updated_at, id) > (%(since)s, %(id)s)
    ORDER BY updated_at, id LIMIT %(limit)s
"""
# Above a half, the page says that it is no digit (answer.py): no digit was answered then, so none can have been right.
ANSWERS = """
    SELECT true_label, predicted_digit, least(width_bucket(confidence, 0, 1, 10), 10), count(*), sum(confidence)
    FROM predictions WHERE true_label IS NOT NULL AND not_a_digit <= 0.5 GROUP BY 1, 2, 3
"""
TIMES = """
    SELECT date_bin('15 minutes', created_at, TIMESTAMPTZ 'epoch'), count(*), count(true_label),
           count(*) FILTER (WHERE true_label = predicted_digit AND not_a_digit <= 0.5)
    FROM predictions GROUP BY 1
"""
SUMMARY = "SELECT count(*), count(true_label), (SELECT max(updated_at) FROM predictions) FROM predictions"


def thumbnail(drawing):
    """PNG bytes → a PNG of at most 28×28 pixels in four grays, some 200 bytes; None if they cannot be read."""
    try:
        image = Image.open(io.BytesIO(drawing), formats=["PNG"])
        if max(image.size) > 2000:
            return None
        image = image.convert("L")
        image.thumbnail((28, 28))
        image.quantize(4).save(small := io.BytesIO(), format="PNG")
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error and more on damaged files
        log.warning("a drawing of %d bytes is no PNG that can be read: it gets no thumbnail", len(drawing))
        return None
    return small.getvalue()


def fetch_page(before=None, limit=1000, pictures=True):
    """Return up to `limit` rows, newest first, older than `before`, the (created_at, id) of the page before.

    A row is (id, created_at, updated_at, predicted_digit, confidence, not_a_digit, true_label, picture), the picture
    being a thumbnail's PNG, or that of the drawing where there is no thumbnail, or None without `pictures`.
    """
    return _run(postgres.reads, PAGE, _page(before, limit) | {"pictures": pictures})[2]


def fetch_export(before, limit, max_bytes):
    """Return whole rows as fetch_page does: the columns of EXPORT, the drawing as PNG bytes.

    At most `limit` rows, and none after the one whose drawing reaches `max_bytes`: fewer rows may not be the last ones.
    """
    return _run(postgres.looks, EXPORT, _page(before, limit) | {"bytes": max_bytes})[2]


def _page(before, limit):
    created_at, drawing_id = before or ("infinity", str(uuid.UUID(int=0)))
    return {"created_at": created_at, "id": drawing_id, "limit": limit}


def fetch_rows(ids, pictures=True):
    """Return the rows with these ids, as fetch_page does, in no order."""
    return _run(postgres.reads, BY_ID, {"ids": list(ids), "pictures": pictures})[2]


def fetch_changes(since, limit=100_000):
    """Return (id, updated_at) of the rows written since, the oldest change first; `limit` of them a query."""
    changes, last = [], {"since": since, "id": str(uuid.UUID(int=0))}
    while True:
        part = _run(postgres.reads, CHANGED, last | {"limit": limit})[2]
        changes += part
        if len(part) < limit:
            return changes
        last = {"since": part[-1][1], "id": part[-1][0]}


def fetch_summary():
    """Return (number of rows, of labelled rows, time of the last change or None)."""
    return _run(postgres.reads, SUMMARY)[2][0]


def fetch_answers():
    """Return (true label, predicted digit, tenth of the confidence 1..10, rows, sum of confidence).

    Of the labelled rows that were taken for a digit.
    """
    return _run(postgres.reads, ANSWERS)[2]


def fetch_times():
    """Return (its start in UTC, rows, labelled rows, rows labelled as answered) for each quarter of an hour with rows.

    An hour of every time zone begins with one of these: in India or Nepal it does not begin with an hour of UTC.
    """
    return _run(postgres.reads, TIMES)[2]


def fetch_drawing(drawing_id):
    """Return one row as a dict of the table's columns, `drawing` as PNG bytes, or None if there is no such row."""
    _, names, rows = _run(postgres.looks, "SELECT * FROM predictions WHERE id = %(id)s", {"id": _uuid(drawing_id)})
    row = dict(zip(names, rows[0], strict=True)) if rows else None
    return row and row | {"drawing": bytes(row["drawing"])}


def _run(pool, sql, values=None):
    try:
        return pool.run(sql, values)
    except postgres.TableMissing:
        log.warning("the table predictions is missing: creating it")
        create_table()
        return pool.run(sql, values)


def _uuid(value):
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError(f"drawing_id must be a UUID, not {value!r:.80}") from None


def _digit(name, value):
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= 9:
        raise ValueError(f"{name} must be a whole number from 0 to 9, not {value!r:.80}")
    return number


def _fraction(name, value):
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be from 0 to 1, not {value!r:.80}")
    return number


_last = datetime.min.replace(tzinfo=UTC)
_one_at_a_time = threading.Lock()


def _now():
    """The time, later at each call: if the machine's clock is set back, it goes on from where it was."""
    global _last
    with _one_at_a_time:
        _last = max(datetime.now(UTC), _last + timedelta(microseconds=1))
        return _last
