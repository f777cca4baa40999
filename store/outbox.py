"""The way from the page to the database: nobody waits for it, nothing is lost on it, and everything arrives in order.

One outbox serves all sessions of the process. Its single thread writes what was put into it, and tries again, ever more
slowly, for as long as the database is away. What waits is in memory: it survives the database, not the app.

It is also where what visitors can write is bounded: the size of the table, and each session's strokes (Allowance).
"""

import atexit
import functools
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import db

log = logging.getLogger(__name__)

MAX_WAITING = 10_000  # drawings, of some kilobytes each, that may wait for the database at once
MAX_WAITING_BYTES = 200_000_000  # of their PNGs together: one may have up to db.MAX_DRAWING_BYTES
TRY_AGAIN = (db.DatabaseError, OSError, MemoryError)  # any other error lies in the values themselves
REMEMBERED = 1_000  # saved drawings that are kept, in case the table is dropped before they are labelled
REMEMBERED_BYTES = 50_000_000

AWAY = (
    "The database cannot be reached right now. Drawings are answered as usual; they and their labels wait here and "
    "are saved by themselves when it is back, unless this app is stopped before."
)
FULL = (
    "The database cannot be reached and no more drawings can wait for it: new ones are answered as usual, but not kept."
)
TABLE_FULL = "The collection is full: new drawings are answered as usual, but not kept."
SAVE_WAIT = 0.3  # seconds that a page may wait for a save before it says that it is still under way
TABLE_LOOK_SECONDS = 60  # between two looks at the size of the table

_first_call = threading.Lock()


def shared():
    """The outbox of this process, made at the first call.

    Not in st.cache_resource: any browser may ask Streamlit to clear that, and what waits would be forgotten.
    """
    with _first_call:  # functools.cache alone makes one for each thread that comes before the first is made
        return _only()


@functools.cache
def _only():
    return Outbox()


class Allowance:
    """What one session may have written: `burst` strokes at once, and one more each `seconds`. People stay below it."""

    def __init__(self, burst=300, seconds=1.0):
        self._burst, self._seconds = burst, seconds
        self._left, self._time = self._burst, time.monotonic()

    def take(self):
        """Whether one more is allowed; if so, it is taken."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._time) / self._seconds)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class _Waiting:
    prediction: dict | None = None
    label: int | None = None


class Outbox:
    """Writes predictions and labels to the database in the background.

    first_delay, max_delay: seconds between two tries while the database is away; doubled from the one to the other.
    """

    def __init__(self, first_delay=0.5, max_delay=10.0):
        self._first_delay, self._max_delay = first_delay, max_delay
        self._waiting = OrderedDict()  # drawing_id -> _Waiting, oldest first
        self._waiting_bytes = 0  # of their drawings
        self._saved = OrderedDict()  # drawing_id -> prediction, newest last
        self._lost = OrderedDict()  # drawing_ids that will never be saved in full
        self._changed = threading.Condition()
        self._away = False  # the last try failed
        self._table_made = self._table_full = False
        self._table_seen = float("-inf")  # when its size was looked at
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()
        atexit.register(self.close, 5)  # registered after db's own, so it runs before the server is stopped

    @property
    def problem(self):
        """None, or a sentence for visitors on what is and is not kept."""
        if self._away:
            return FULL if self._full else AWAY
        return TABLE_FULL if self._table_full else None

    @property
    def _full(self):
        return len(self._waiting) >= MAX_WAITING or self._waiting_bytes + db.MAX_DRAWING_BYTES > MAX_WAITING_BYTES

    def put_prediction(self, drawing_id, **prediction):
        """Have `db.save_prediction(drawing_id, **prediction)` done; a later one for this drawing replaces it."""
        self._put(drawing_id, "prediction", prediction)

    def put_label(self, drawing_id, digit):
        """Have `db.save_label(drawing_id, digit)` done, after this drawing's prediction."""
        self._put(drawing_id, "label", digit)

    def wait(self, drawing_ids, timeout):
        """Wait up to `timeout` seconds; True once everything put for these drawings is in the table.

        Returns False at once while the database is known to be away, and for a drawing that was refused for good.
        """
        drawing_ids = _ids(drawing_ids)
        with self._changed:
            self._changed.wait_for(lambda: self._away or not self._pending(drawing_ids), timeout)
            return not self._pending(drawing_ids) and not any(i in self._lost for i in drawing_ids)

    def pending(self, drawing_ids):
        """How many of these drawings still wait to be saved."""
        with self._changed:
            return self._pending(_ids(drawing_ids))

    def lost(self, drawing_ids):
        """Which of these drawings will never be saved in full: refused by the table, or there was no room."""
        with self._changed:
            return {i for i in _ids(drawing_ids) if i in self._lost}

    def close(self, timeout):
        """Write what can be written within `timeout` seconds, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if self._waiting:
            log.error("stopped while the database was away: %d drawings were not saved", len(self._waiting))
        atexit.unregister(self.close)

    def _pending(self, drawing_ids):
        return sum(i in self._waiting for i in drawing_ids)

    def _put(self, drawing_id, part, value):
        drawing_id = str(drawing_id)
        with self._changed:
            before = self._waiting.get(drawing_id)
            size = _size(value) if part == "prediction" else 0
            if size > db.MAX_DRAWING_BYTES:
                self._lose(drawing_id, f"its PNG has {size:,} bytes, and {db.MAX_DRAWING_BYTES:,} are the most")
                return
            grown = size and size - _size(before and before.prediction)
            if not before and len(self._waiting) >= MAX_WAITING or self._waiting_bytes + grown > MAX_WAITING_BYTES:
                self._lose(drawing_id, "too many drawings wait for the database")
                return
            known = before or drawing_id in self._saved
            if self._table_full and part == "prediction" and not known:
                self._lose(drawing_id, "the table has reached its limit, MAX_TABLE_GB")
                self._changed.notify_all()  # for another look at its size
                return
            if part == "prediction":  # holds the whole drawing, so nothing of an earlier one is missed
                self._lost.pop(drawing_id, None)
            self._set(self._waiting.setdefault(drawing_id, _Waiting()), part, value)
            self._changed.notify_all()

    def _set(self, waiting, part, value):
        if part == "prediction":
            self._waiting_bytes += _size(value) - _size(waiting.prediction)
        setattr(waiting, part, value)

    def _lose(self, drawing_id, reason):
        known = isinstance(reason, str | ValueError | db.DatabaseError)
        log.error("drawing %s is not saved: %s", drawing_id, reason, exc_info=None if known else reason)
        self._lost[drawing_id] = True
        if len(self._lost) > MAX_WAITING:
            self._lost.popitem(last=False)

    def _work(self):
        delay = self._first_delay
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing or not self._table_made or self._look())
                if not self._waiting and self._closing:
                    return
                last_try = self._closing
                drawing_id, waiting = next(iter(self._waiting.items()), (None, None))
            try:
                if not self._table_made:
                    db.create_table()  # at once, not at the first drawing: so that a missing database is known
                    self._table_made = True
                self._look_at_table()
                if waiting:
                    self._write(drawing_id, waiting)
            except Exception as error:
                self._fail(error)
                if last_try:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, delay)
                delay = min(2 * delay, self._max_delay)
            else:
                delay = self._first_delay
                self._recover()

    def _look(self):
        return self._table_full and time.monotonic() - self._table_seen > TABLE_LOOK_SECONDS

    def _look_at_table(self):
        if time.monotonic() - self._table_seen > TABLE_LOOK_SECONDS:
            full = db.table_bytes() > _max_table_bytes()
            if full and not self._table_full:
                log.error("the table has reached MAX_TABLE_GB: no new drawings are kept until it is raised in .env")
            self._table_full, self._table_seen = full, time.monotonic()

    def _write(self, drawing_id, waiting):
        part = "label" if waiting.prediction is None else "prediction"
        value = getattr(waiting, part)
        try:
            if part == "prediction":
                db.save_prediction(drawing_id, **value)
            else:
                db.save_label(drawing_id, value)
        except db.NoSuchDrawing as error:
            self._restore(drawing_id, waiting, error)
            return
        except Exception as error:
            if isinstance(error, TRY_AGAIN) and not isinstance(error, db.Refused):
                raise
            self._finish(drawing_id, waiting, part, value, lost=error)
            return
        self._finish(drawing_id, waiting, part, value)

    def _finish(self, drawing_id, waiting, part, value, lost=None):
        with self._changed:
            if lost:
                self._lose(drawing_id, lost)
            elif part == "prediction":
                self._saved[drawing_id] = value
                while len(self._saved) > REMEMBERED or sum(map(_size, self._saved.values())) > REMEMBERED_BYTES:
                    self._saved.popitem(last=False)
            else:
                self._saved.pop(drawing_id, None)
            if getattr(waiting, part) is value:  # else a newer one was put meanwhile
                self._set(waiting, part, None)
            self._waiting.move_to_end(drawing_id)
            if waiting == _Waiting():
                del self._waiting[drawing_id]
            self._changed.notify_all()

    def _restore(self, drawing_id, waiting, error):
        """The row of this label is gone, with its table: save it again, if it is still remembered."""
        with self._changed:
            if waiting.prediction is None:
                self._set(waiting, "prediction", self._saved.pop(drawing_id, None))
            if waiting.prediction is None:
                self._lose(drawing_id, error)
                del self._waiting[drawing_id]
                self._changed.notify_all()

    def _fail(self, error):
        with self._changed:
            if self._away:
                log.debug("%s", error)
            else:
                traceback = not isinstance(error, db.DatabaseError)
                log.warning("%s; drawings wait and are tried again", error, exc_info=traceback)
            self._away = True
            self._changed.notify_all()

    def _recover(self):
        with self._changed:
            if self._away:
                log.warning("the database is back; %d drawings are being saved", len(self._waiting))
            self._away = False


def _ids(drawing_ids):
    return {str(i) for i in drawing_ids}


def _size(prediction):
    return len(prediction["drawing"]) if prediction else 0


def _max_table_bytes():
    text = os.getenv("MAX_TABLE_GB") or "10"
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if math.isnan(gigabytes):
        log.error("MAX_TABLE_GB in .env must be a number of gigabytes, such as 10, not %r: 10 it is until then", text)
        gigabytes = 10.0
    return gigabytes * 1e9
