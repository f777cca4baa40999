"""What the page shows of the database, kept current by a thread that reads only when somebody looks."""

import logging
import threading
import time
from typing import Generic, TypeVar

from store.postgres import DatabaseError
from store.table import Table

log = logging.getLogger(__name__)

AWAY = "The database cannot be read right now. This comes back by itself."
RETRY = 2.0  # seconds between two tries while the database is away
SILENT = 5.0  # seconds after which a database that has not answered is said to be away

V = TypeVar("V")


class Troubles:
    """A thread's failures to read, logged once a kind until they end: while the database is away, every look fails."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def log(self, error: Exception) -> None:
        name, kind = threading.current_thread().name, f"{type(error).__name__}: {error}"
        if kind in self._logged:
            return
        self._logged.add(kind)
        if isinstance(error, DatabaseError):
            log.warning("%s: %s; it is tried again", name, error)
        else:
            log.error("%s: not read; it is tried again", name, exc_info=error)

    def end(self) -> None:
        if self._logged:
            log.warning("%s: read again", threading.current_thread().name)
            self._logged.clear()


class Reader(Generic[V]):
    """Reads from the table in a thread of its own, when somebody looks, for all visitors of the process.

    A subclass reads in `refresh(check)` and publishes what visitors see. Nobody waits for the database long.

    view: the last that was published; version: how many were. problem: None, or a sentence for visitors. news: what
    `table.fetch_news()` said before the refresh that made the current view began, "" before the first; it may be older
    than the view beside it, never newer, for whoever reads it first.
    """

    def __init__(self, name: str, table: Table, view: V) -> None:
        self.table, self.view = table, view
        self.version = 0
        self.news = ""
        self.problem: str | None = None
        self._turn = threading.Condition()
        self._asked = self._answered = 0
        self._check = self._busy = self._closing = False
        self._began = float("-inf")  # monotonic time at which the last refresh began
        self._troubles = Troubles()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def look(self, max_age: float = 0.0, patience: float = 0.5, check: bool = False) -> V:
        """Return a view no older than `max_age` seconds, or the last there is once `patience` seconds are over.

        It never waits for a database that is known to be away. check: leave no doubt, whatever it costs.
        """
        with self._turn:
            age = time.monotonic() - self._began
            if self._busy and age > SILENT:
                self.problem = AWAY
            if check or age > max_age:
                self._asked += 1
                self._check |= check
                asked = self._asked
                self._turn.notify_all()
                self._turn.wait_for(lambda: self.problem or self._answered >= asked, patience)
            return self.view

    def close(self) -> None:
        """Read no more; a read that is under way is not waited for."""
        with self._turn:
            self._closing = True
            self._turn.notify_all()

    def publish(self, view: V) -> None:
        self.view = view
        self.version += 1

    def refresh(self, check: bool) -> None:
        """Read what is new. Raises DatabaseError."""
        raise NotImplementedError

    def unfinished(self) -> bool:
        """Whether to refresh again at once."""
        return False

    def _work(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(self._something_to_do)
                if self._closing:
                    return
                asked, check = self._asked, self._check
                self._check, self._busy, self._began = False, True, time.monotonic()
            failed = self._failed(check)
            with self._turn:
                self._answered, self._busy = asked, False
                self.problem = AWAY if failed else None
                self._check |= check and failed
                self._turn.notify_all()
                if failed:
                    self._turn.wait_for(lambda: self._closing, RETRY)

    def _something_to_do(self) -> bool:
        return self._closing or self._asked > self._answered or not self.problem and self.unfinished()

    def _failed(self, check: bool) -> bool:
        """Refresh, if there is anything to read."""
        try:
            news = self.table.fetch_news()
            if check or news != self.news or self.unfinished():
                self.refresh(check)
                self.news = news
        except Exception as error:
            if not self._closing:
                self._troubles.log(error)
            return True
        self._troubles.end()
        return False
