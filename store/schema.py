"""The definition of the table: the SQL files in schema/, in the order of their numbers, each run once for a table.

The table `predictions_schema` says which were. Where somebody has dropped `predictions`, or restored an older backup of
it, all files run again, so a file must not mind what is there already (IF NOT EXISTS). A process of the release before
goes on working beside the new one, so a file adds what that release need not know, and takes nothing away that it uses.

There are two kinds of files, and a call for each:

- `upgrade` runs what the writes and queries need, before the first of them; each file is one transaction. It does not
  wait long for a lock on the table: all saves of all processes would wait behind it.
- `build_indexes` runs the files with CONCURRENTLY: indexes of a large table, built while saves go on, for as long as it
  takes. Their statements are parted by empty lines and run one by one, as PostgreSQL allows these in no transaction; a
  file that was broken off begins anew.

One process at a time does either. The others ask for its lock again and again: to wait for it in the database would be
to hold up an index, which waits for all that others have begun.
"""

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

from store import postgres
from store.postgres import DatabaseError, NotAllowed, Run, TableMissing

log = logging.getLogger(__name__)

FILES = {int(path.name[:4]): path.read_text() for path in Path(__file__).with_suffix("").glob("[0-9]*.sql")}
INDEXES = {number for number, sql in FILES.items() if "CONCURRENTLY" in sql}
UPGRADE_SECONDS, INDEX_SECONDS = 60, 3600  # that a statement may take
TURN_SECONDS = 60  # to wait for another process that does the same
UPGRADE_LOCK, INDEX_LOCK = 280281, 280282  # PostgreSQL's advisory locks

DONE = "SELECT number FROM predictions_schema WHERE table_oid = to_regclass('predictions')"
NOTE = """
    INSERT INTO predictions_schema VALUES (%(number)s, 'predictions'::regclass)
    ON CONFLICT (number) DO UPDATE SET table_oid = EXCLUDED.table_oid, done_at = EXCLUDED.done_at
"""
PREPARE = """
    SET lock_timeout = '2s';
    CREATE TABLE IF NOT EXISTS predictions_schema (
        number integer PRIMARY KEY,
        table_oid oid NOT NULL,  -- for which table it was run
        done_at timestamptz NOT NULL DEFAULT now()
    );
    GRANT SELECT ON predictions_schema TO PUBLIC;  -- a user with fewer rights must see that all is done
"""


def upgrade() -> None:
    """Make the table, or bring it up to date. Raises DatabaseError, too for a user without the right to do so."""
    files = FILES.keys() - INDEXES
    if files <= _done():
        return
    with _turn(UPGRADE_LOCK, UPGRADE_SECONDS) as run:
        run(PREPARE)
        for number in sorted(files - _numbers(run(DONE))):
            run("BEGIN")
            run(FILES[number])
            run(NOTE, {"number": number})
            run("COMMIT")


def build_indexes() -> None:
    """As `upgrade`, and then build what that leaves out; a user without the right goes on without."""
    upgrade()
    if INDEXES <= _done():
        return
    try:
        with _turn(INDEX_LOCK, INDEX_SECONDS) as run:
            for number in sorted(INDEXES - _numbers(run(DONE))):
                for statement in FILES[number].split("\n\n"):
                    _drop_unfinished(run, statement)
                    run(statement)
                run(NOTE, {"number": number})
    except NotAllowed as error:
        log.warning("the table predictions goes on with the indexes that it has: %s", error)


def _done() -> set[int]:
    """The numbers of the files that were run, as far as this user may know."""
    try:
        return _numbers(postgres.reads.run(DONE))
    except (TableMissing, NotAllowed):
        return set()


def _numbers(result: postgres.Result) -> set[int]:
    return {number for (number,) in result.rows}


@contextlib.contextmanager
def _turn(lock: int, seconds: float) -> Iterator[Run]:
    """A connection that holds this lock."""
    with postgres.session(seconds) as run:
        deadline = time.monotonic() + TURN_SECONDS
        while not run("SELECT pg_try_advisory_lock(%(lock)s)", {"lock": lock}).rows[0][0]:
            if time.monotonic() > deadline:
                raise DatabaseError(f"another process has been changing the table for {TURN_SECONDS} s: wait for it")
            time.sleep(0.2)
        yield run


def _drop_unfinished(run: Run, statement: str) -> None:
    """An index whose build was broken off is there, serves nothing, and would count as made."""
    found = re.match(r"CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+)", statement)
    if found:
        unfinished = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%(name)s) AND NOT indisvalid"
        if run(unfinished, {"name": found[1]}).rowcount:
            run(f"DROP INDEX CONCURRENTLY {found[1]}")
