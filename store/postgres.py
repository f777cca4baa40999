"""Connections to PostgreSQL: a few, a time limit on everything, and errors that say what to do.

With POSTGRES_HOST in the environment or in .env, that server; without it, the embedded one (embedded.py). Importing
this module connects to nothing. A server that was restarted, or came late, is found without restarting the app.
"""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg2
from dotenv import load_dotenv
from psycopg2 import errors
from psycopg2.extensions import POLL_OK, POLL_READ, connection

from store import embedded

PROJECT = Path(__file__).parent.parent
load_dotenv(PROJECT / ".env")
log = logging.getLogger(__name__)

CONNECT_SECONDS = 5
WRITE_SECONDS = 5
READ_SECONDS = 30
LOOK_SECONDS = 3
LEDGER_SECONDS = 10
GRACE_SECONDS = 2  # the server's own time limit comes first, for its clearer message

ADVICE = {  # SQLSTATE, or words of libpq's where there is none -> what to do
    "25006": "the server is read-only: write to its primary, or end its default_transaction_read_only",
    "42501": "grant POSTGRES_USER what it needs on that table (or on its schema, to create it)",
    "42703": "the table predictions there is not up to date (start the app once as the user that made it), or another "
    "program's (set POSTGRES_DB in .env to a database of our own)",
    "53100": "the server's disk is full: free some space there",
    "57014": "the server is too slow or the table is locked: look at its load and at pg_stat_activity",
    "password authentication failed": "correct POSTGRES_USER and POSTGRES_PASSWORD in .env",
    "no password supplied": "POSTGRES_PASSWORD is empty: set it in .env (start from .env.example)",
    "could not translate host name": "start the database there, or correct POSTGRES_HOST in .env",
    "Connection refused": "start PostgreSQL there, or correct POSTGRES_HOST and POSTGRES_PORT in .env",
    "No such file or directory": "start PostgreSQL there, or correct POSTGRES_HOST in .env",
    "certificate": "set PGSSLROOTCERT to the file of the authority that signed the server's certificate",
    "does not exist": "create it, or correct POSTGRES_DB and POSTGRES_USER in .env",
    "invalid integer value": "correct POSTGRES_PORT in .env",
    "too many clients": "raise max_connections on the server, or stop what else uses it",
    "starting up": "it is coming up: wait",
}


class DatabaseError(RuntimeError):
    """The database did not do what was asked; the text says what to do and holds no password."""


class Refused(DatabaseError):
    """The table refuses these values: trying again would not help."""


class TableMissing(DatabaseError):
    """There is no such table."""


class NotAllowed(DatabaseError):
    """The user lacks a right."""


class NoAnswer(psycopg2.OperationalError):
    """The server is there but silent: paused, or unreachable behind its own kernel."""


class Result(NamedTuple):
    """What came of one statement."""

    rowcount: int  # of the rows that it returned or changed
    columns: list[str]  # their names, for a query
    rows: list[Any]  # tuples, for a query


class Pool:
    """At most `size` connections; who finds them all taken waits for a turn, no longer than one statement may take."""

    def __init__(self, size: int, seconds: float) -> None:
        self.turns = threading.BoundedSemaphore(size)
        self.seconds = seconds
        self.idle: list[connection] = []

    def run(self, sql: str, values: Mapping[str, Any] | None = None) -> Result:
        """Run `sql` in a transaction of its own, with `values` bound to its %(name)s.

        Run only what may be done twice: after a lost connection nobody knows whether it was done, and it is repeated.
        Raises DatabaseError.
        """
        if not self.turns.acquire(timeout=self.seconds):
            raise DatabaseError("all connections to the database are busy: try again in a moment")
        try:
            with _explained():
                return self._run(sql, values)
        finally:
            self.turns.release()

    def _run(self, sql: str, values: Mapping[str, Any] | None) -> Result:
        with contextlib.suppress(IndexError):
            idle = self.idle.pop()
            try:
                return self._execute(idle, sql, values)
            except NoAnswer:
                raise
            except psycopg2.Error:
                if not idle.closed:
                    raise
                self.close()  # the server was restarted: the others are dead too
        return self._execute(_connect(self.seconds), sql, values)

    def _execute(self, conn: connection, sql: str, values: Mapping[str, Any] | None) -> Result:
        try:
            return _execute(conn, sql, values, self.seconds)
        except NoAnswer:
            conn.close()
            raise
        finally:
            if not conn.closed:
                self.idle.append(conn)

    def close(self) -> None:
        """Close the connections that nobody uses at this moment."""
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().close()


reads = Pool(2, READ_SECONDS)  # for the threads that read: one for the history, one for the insights
looks = Pool(2, LOOK_SECONDS)  # for what a visitor waits for
writes = Pool(1, WRITE_SECONDS)  # for the outbox, apart: slow readers never hold up a save
ledger = Pool(1, LEDGER_SECONDS)  # for what asks which network is in service, apart: neither waits for the other


class Run(Protocol):
    """Runs one statement, as Pool.run does."""

    def __call__(self, sql: str, values: Mapping[str, Any] | None = None, /) -> Result: ...


@contextlib.contextmanager
def session(seconds: float) -> Iterator[Run]:
    """A connection of its own, closed at the end: for what needs the same one for several statements."""
    with _explained():
        conn = _connect(seconds)
        try:
            yield lambda sql, values=None: _execute(conn, sql, values, seconds)
        finally:
            conn.close()


def disconnect() -> None:
    """Close all idle connections."""
    for pool in (reads, looks, writes, ledger):
        pool.close()


def close() -> None:
    """Close all idle connections, and stop the embedded server if this process is the last to use it."""
    disconnect()
    embedded.stop()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Errors of the server and of libpq, as those of this module."""
    try:
        yield
    except errors.UndefinedTable as error:
        raise TableMissing(_explain(error)) from error
    except errors.InsufficientPrivilege as error:
        raise NotAllowed(_explain(error)) from error
    except (errors.DataError, errors.IntegrityError, errors.DatatypeMismatch) as error:
        raise Refused(f"the table refuses these values: {error.diag.message_primary}") from error
    except psycopg2.Error as error:
        raise DatabaseError(_explain(error)) from error
    except embedded.EmbeddedError as error:
        raise DatabaseError(str(error)) from error


def _connect(seconds: float) -> connection:
    host = os.getenv("POSTGRES_HOST")
    if host:
        names = {"port": "PORT", "dbname": "DB", "user": "USER", "password": "PASSWORD"}
        server = _addresses(host) | {
            key: os.environ[f"POSTGRES_{name}"] for key, name in names.items() if os.getenv(f"POSTGRES_{name}")
        }
    else:
        folder = embedded.start(os.getenv("PGDATA_DIR") or PROJECT / "pgdata")
        server = {"host": folder, "port": "5432", "dbname": "postgres", "user": "postgres"}
    # Asynchronous, because only so can a client give up on a server that is paused while its kernel still answers.
    conn = psycopg2.connect(
        **server,
        async_=True,
        application_name="digits",
        keepalives_idle=30,
        tcp_user_timeout=int(1000 * CONNECT_SECONDS),
    )
    try:
        _wait(conn, CONNECT_SECONDS)
        _execute(conn, "SET statement_timeout = %(ms)s; SET timezone = 'UTC'", {"ms": int(1000 * seconds)}, seconds)
    except psycopg2.Error:
        conn.close()
        raise
    return conn


def _addresses(host: str) -> dict[str, str]:
    """Where to connect to. Looked up here: libpq would hold the interpreter, and with it every visitor, meanwhile."""
    if host.startswith(("/", "@")) or "," in host:  # a socket's folder; several servers, whose names are left to libpq
        return {"host": host}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise psycopg2.OperationalError(f'could not translate host name "{host}" to an address: {error}') from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


def _execute(conn: connection, sql: str, values: Mapping[str, Any] | None, seconds: float) -> Result:
    cursor = conn.cursor()
    try:
        cursor.execute(sql, values)
    except psycopg2.ProgrammingError as error:
        if error.pgcode is None:  # before anything was sent: "can't adapt type ..."
            raise Refused(f"these values cannot be sent to the table: {error}") from error
        raise
    _wait(conn, seconds + GRACE_SECONDS)
    if cursor.description is None:
        return Result(cursor.rowcount, [], [])
    return Result(cursor.rowcount, [column.name for column in cursor.description], cursor.fetchall())


def _wait(conn: connection, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (state := conn.poll()) != POLL_OK:
        waiter = select.poll()
        waiter.register(conn.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not waiter.poll(max(0, 1000 * (deadline - time.monotonic()))):
            raise NoAnswer(f"no answer within {seconds} seconds")


def _explain(error: psycopg2.Error) -> str:
    """What the server said, and what to do about it."""
    said = " ".join((error.diag.message_primary or str(error)).split())
    password = os.getenv("POSTGRES_PASSWORD")
    if password:
        said = said.replace(password, "***")
    advice = [text for key, text in ADVICE.items() if key == error.pgcode or key in said]
    where = os.getenv("POSTGRES_HOST") or "the embedded server"
    return f"PostgreSQL at {where}: {said}: {advice[0] if advice else 'see the log of the server'}"
