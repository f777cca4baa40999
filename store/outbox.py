"""The way from the page to the database: nobody waits for it, nothing is lost on it, and everything arrives in order.

The problem: a page must answer at once, while the database may be slow, away for an hour, or not there yet. So the page
never writes. It puts a write (any function) into this queue, and gets a ticket that says what becomes of it: waiting,
then saved, or lost. One thread does the writes, one after another, and while the database is away it tries the first of
them again, ever more slowly, until it is back. One outbox serves all sessions of the process.

What must hold:

- A ticket says "saved" only once its write has returned, and "lost" only for what will never be tried again: what the
  table refuses, or what found no room here. A page never calls anything else saved or lost.
- Writes of a key are in order, and writes of different keys too: a label never overtakes the prediction whose row it
  changes. A later write of a key that still waits takes the earlier one's place and shares its ticket, so that ten
  strokes drawn while the database is away become one write.
- A write may be done twice, as nobody knows whether one whose answer was lost has been done: that must do no harm.
- A write that can never succeed holds up no other: it is logged with its reason, and the next one follows.
- What waits is bounded, in number and in bytes. It is in memory: it survives the database, not the process.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from store.postgres import DatabaseError, Refused

log = logging.getLogger(__name__)

MAX_WAITING = 10_000  # writes with a size that may wait at once, and as many without one
MAX_WAITING_BYTES = 200_000_000  # of all that waits together
MAX_BYTES = 768 * 1024  # of one write
TRY_AGAIN = (DatabaseError, OSError, MemoryError)  # any other error lies in the values themselves, and so does Refused
FULL_CHECK_SECONDS = 60  # between two looks at the size of the table

AWAY = (
    "The database cannot be reached right now. Drawings are answered as usual; they wait here and are saved when it is "
    "back, unless this app is stopped before."
)
FULL = (
    "The database cannot be reached and no more drawings can wait for it: new ones are answered as usual, but not kept."
)
TABLE_FULL = "The collection is full: new drawings are answered as usual, but not kept."


class Ticket:
    """What became of a write. The outbox alone changes it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Literal["waiting", "saved", "lost"] = "waiting"


class _Write(NamedTuple):
    run: Callable[[], None]
    size: int
    ticket: Ticket


class Outbox:
    """Does writes in the background.

    prepare: makes the table; it is called at once, and until it succeeds, before any write. is_full: whether the table
    takes no new rows. first_delay, max_delay: seconds between two tries while the database is away; doubled from the
    one to the other.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        is_full: Callable[[], bool],
        first_delay: float = 0.5,
        max_delay: float = 10.0,
    ) -> None:
        self._prepare, self._is_full = prepare, is_full
        self._first_delay, self._max_delay = first_delay, max_delay
        self._waiting: dict[str, _Write] = {}  # key -> its newest write, in the order in which the keys came
        self._sized = self._bytes = 0  # of what waits: how many have a size, and their sizes' sum
        self._lock = threading.Lock()
        self._to_do = threading.Condition(self._lock)  # for the thread
        self._settled = threading.Condition(self._lock)  # for those who wait for a ticket
        self.away = False  # whether the last try failed
        self._prepared = self._table_full = False
        self._checked = float("-inf")  # when the size of the table was looked at
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """None, or a sentence for visitors on what is and is not kept."""
        if self.away:
            full = self._sized >= MAX_WAITING or self._bytes + MAX_BYTES > MAX_WAITING_BYTES
            return FULL if full else AWAY
        return TABLE_FULL if self._table_full else None

    def put(self, key: str, write: Callable[[], None], size: int = 0, new: bool = False) -> Ticket:
        """Have `write` done; in place of an earlier one of this key, if that still waits.

        size: bytes that it holds in memory. new: it makes a row, which a full table does not take: the ticket is lost
        at once then.
        """
        with self._lock:
            before = self._waiting.get(key)
            if reason := self._no_room(before, size, new):
                _log_lost(key, reason)
                ticket = Ticket()
                ticket.state = "lost"
            else:
                ticket = before.ticket if before else Ticket()
                self._count(before, -1)
                self._waiting[key] = _Write(write, size, ticket)  # in the place of the one before
                self._count(self._waiting[key], 1)
            self._to_do.notify()  # of a new row that was refused, too: it is time for another look at the table
            return ticket

    def has(self, drawing_id: str) -> bool:
        """Whether the row of this drawing, of any visitor, waits here."""
        return f"{drawing_id} prediction" in self._waiting

    def wait(self, tickets: Collection[Ticket], seconds: float) -> bool:
        """Wait up to `seconds`; True once all of these are saved.

        Returns False at once while the database is known to be away, and if one of them is lost.
        """
        with self._lock:
            self._settled.wait_for(lambda: self.away or _decided(tickets), seconds)
            return all(ticket.state == "saved" for ticket in tickets)

    def close(self, seconds: float) -> None:
        """Write what can be written within `seconds`, and stop."""
        with self._lock:
            self._closing = True
            self._to_do.notify()
        self._thread.join(seconds)
        if self._waiting:
            log.error("stopped while the database was away: %d writes were not done", len(self._waiting))

    def _no_room(self, before: _Write | None, size: int, new: bool) -> str | None:
        """Why this cannot wait here, or None."""
        grown = size - before.size if before else size
        if size > MAX_BYTES:
            return f"it has {size:,} bytes, and {MAX_BYTES:,} are the most"
        waiting = self._sized if size else len(self._waiting) - self._sized
        if not before and waiting >= MAX_WAITING or self._bytes + grown > MAX_WAITING_BYTES:
            return "too much waits for the database"
        if new and not before and self._table_full:
            return "the table has reached its limit, MAX_TABLE_GB"
        return "this app is being stopped" if self._ended else None

    def _count(self, write: _Write | None, sign: int) -> None:
        if write and write.size:
            self._sized += sign
            self._bytes += sign * write.size

    def _work(self) -> None:
        delay = self._first_delay
        while True:
            with self._lock:
                self._to_do.wait_for(self._something_to_do)
                last_try = self._closing
                self._ended = last_try and not self._waiting
                if self._ended:
                    return
                key = next(iter(self._waiting), None)
            try:
                self._make_ready()
                if key is not None:
                    self._do(key)
            except Exception as error:
                self._fail(error)
                with self._lock:
                    self._ended = last_try
                    if last_try:
                        return
                    self._to_do.wait_for(lambda: self._closing, delay)
                delay = min(2 * delay, self._max_delay)
            else:
                delay = self._first_delay
                self._recover()

    def _something_to_do(self) -> bool:
        return bool(self._waiting) or self._closing or not self._prepared or self._table_full and self._check_is_due()

    def _check_is_due(self) -> bool:
        return time.monotonic() - self._checked > FULL_CHECK_SECONDS

    def _make_ready(self) -> None:
        if not self._prepared:
            self._prepare()  # at once, not at the first write: so that a missing database is known
            self._prepared = True
        if self._check_is_due():
            full = self._is_full()
            if full and not self._table_full:
                log.error("the table has reached MAX_TABLE_GB: no new drawings are kept until it is raised in .env")
            self._table_full, self._checked = full, time.monotonic()

    def _do(self, key: str) -> None:
        write = self._waiting[key]
        state: Literal["saved", "lost"] = "saved"
        try:
            write.run()
        except Exception as error:
            if isinstance(error, TRY_AGAIN) and not isinstance(error, Refused):
                raise
            _log_lost(key, error)
            state = "lost"
        with self._lock:
            if self._waiting[key] is write:  # else a newer one came meanwhile, and goes on with its ticket
                del self._waiting[key]
                self._count(write, -1)
                write.ticket.state = state
                self._settled.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self.away:
                log.debug("%s", error)
            else:
                traceback = not isinstance(error, DatabaseError)
                log.warning("%s; drawings wait and are tried again", error, exc_info=traceback)
            self.away = True
            self._settled.notify_all()

    def _recover(self) -> None:
        if self.away:
            log.warning("the database is back; %d writes are being done", len(self._waiting))
            self.away = False


def _decided(tickets: Collection[Ticket]) -> bool:
    states = {ticket.state for ticket in tickets}
    return "lost" in states or "waiting" not in states


def _log_lost(key: str, reason: str | Exception) -> None:
    unforeseen = isinstance(reason, Exception) and not isinstance(reason, ValueError | DatabaseError)
    log.error("%s is not saved: %s", key, reason, exc_info=unforeseen)
