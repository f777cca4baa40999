"""All between the page and PostgreSQL: what waits to be saved, what was read, the connections, the schema, a server."""

import logging
import threading
import time
from dataclasses import dataclass

from store import embedded, postgres
from store.counts import Counter
from store.ledger import Follower, TakeUp
from store.outbox import Outbox
from store.postgres import DatabaseError
from store.snapshot import Snapshot
from store.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """What runs beside the page, one for the process."""

    outbox: Outbox
    snapshot: Snapshot
    counter: Counter
    follower: Follower | None


_store: Store | None = None
_stopped = False
_one_at_a_time = threading.Lock()


def start(table: Table, take_up: TakeUp | None = None) -> Store:
    """Start what runs beside the page; every call after the first returns the same. From any thread.

    take_up: has the network answer that the ledger names, when it names another; None: this process answers nobody.

    It ends with `stop`, which whoever owns the process calls. Where nobody does (`streamlit run app.py`, a script), a
    thread does so once the main thread has ended.

    Not in st.cache_resource: any browser may ask Streamlit to clear that, and what waits would be forgotten.
    """
    global _store
    with _one_at_a_time:
        if _store is None:
            if _stopped:
                raise DatabaseError("this process is ending: nothing is saved or read any more")
            follower = Follower(take_up) if take_up else None
            _store = Store(Outbox(table.create_table, table.is_full), Snapshot(table), Counter(table), follower)
            threading.Thread(target=_build_indexes, args=(table,), name="indexes", daemon=True).start()
            threading.Thread(target=_stop_after_main, name="end of the store").start()
        return _store


def stop(seconds: float = 5.0) -> None:
    """Write what can be written within `seconds`, and end all that `start` began, for good. May be called twice.

    Closes the connections, and stops the embedded server if this process is its last user: what is cut off by that does
    not start it again.
    """
    global _stopped
    with _one_at_a_time:
        if _stopped:
            return
        _stopped = True
        if _store is not None:
            _store.outbox.close(seconds)
            _store.snapshot.close()
            _store.counter.close()
            if _store.follower:
                _store.follower.close()
        embedded.start_no_more()
        postgres.close()


def _stop_after_main() -> None:
    threading.main_thread().join()
    stop()


def _build_indexes(table: Table) -> None:
    """Apart from the outbox: a large table's take long, and saves go on meanwhile."""
    while not _stopped:
        try:
            return table.build_indexes()
        except DatabaseError as error:
            log.debug("the indexes are not built yet: %s", error)  # the outbox says in the log why it waits
            time.sleep(10)
