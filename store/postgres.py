"""Connections to PostgreSQL: a few, a time limit on everything, and errors that say what to do.

With POSTGRES_HOST in the environment or in .env, that server; without it, the embedded one (embedded.py). Importing
this module connects to nothing. A server that was restarted, or came late, is found without restarting the app.
"""

import atexit
import contextlib
import logging
import os
import select
import socket
import threading
import time
from pathlib import Path

import psycopg2
from dotenv import load_dotenv
from psycopg2 import errors
from psycopg2.extensions import POLL_OK, POLL_READ

from store import embedded

PROJECT = Path(__file__).parent.parent
load_dotenv(PROJECT / ".env")
log = logging.getLogger(__name__)

CONNECT_SECONDS = 5
WRITE_SECONDS = 5
READ_SECONDS = 30
LOOK_SECONDS = 3
GRACE_SECONDS = 2  # the server's own time limit comes first, for its clearer message

ADVICE = {  # SQLSTATE, or words of libpq's where there is none -> what to do
    "25006": "the server is read-only: write to its primary, or end its default_transaction_read_only",
    "42501": "grant POSTGRES_USER what it needs on the table predictions (or on its schema, to create it)",
    "42703": "the table predictions there is another program's: set POSTGRES_DB in .env to a database of our own",
    "53100": "the server's disk is full: free some space there",
    "57014": "the server is too slow or the table is locked: look at its load and at pg_stat_activity",
    "password authentication failed": "correct POSTGRES_USER and POSTGRES_PASSWORD in .env",
    "no password supplied": "POSTGRES_PASSWORD is empty: set it in .env (start from .env.example)",
    "could not translate host name": "start the database there, or correct POSTGRES_HOST in .env",
    "Connection refused": "start PostgreSQL there, or correct POSTGRES_HOST and POSTGRES_PORT in .env",
    "No such file or directory": "start PostgreSQL there, or correct POSTGRES_HOST in .env",
    "certificate verify failed": "set PGSSLROOTCERT to the file of the authority that signed the server's certificate",
    "root certificate": "set PGSSLROOTCERT to the file of the authority that signed the server's certificate",
    "does not exist": "create it, or correct POSTGRES_DB and POSTGRES_USER in .env",
    "invalid integer value": "correct POSTGRES_PORT in .env",
    "invalid port number": "correct POSTGRES_PORT in .env",
    "too many clients": "raise max_connections on the server, or stop what else uses it",
    "starting up": "it is coming up: wait",
}


class DatabaseError(RuntimeError):
    """The database did not do what was asked; the text says what to do and holds no password."""


class Refused(DatabaseError):
    """The table refuses these values: trying again would not help."""


class TableMissing(DatabaseError):
    """There is no such table."""


class NoAnswer(psycopg2.OperationalError):
    """The server is there but silent: paused, or unreachable behind its own kernel."""


class Pool:
    """At most `size` connections; who finds them all taken waits for a turn, no longer than one statement may take."""

    def __init__(self, size, seconds):
        self.turns = threading.BoundedSemaphore(size)
        self.seconds = seconds
        self.idle = []

    def run(self, sql, values=None):
        """Run `sql` in a transaction of its own, with `values` bound to its %(name)s.

        Run only what may be done twice: after a lost connection nobody knows whether it was done, and it is repeated.
        Returns (row count, None, None), or for a query (row count, column names, rows). Raises DatabaseError.
        """
        if not self.turns.acquire(timeout=self.seconds):
            raise DatabaseError("all connections to the database are busy: try again in a moment")
        try:
            return self._run(sql, values)
        except errors.UndefinedTable as error:
            raise TableMissing(_explain(error)) from error
        except (errors.DataError, errors.IntegrityError) as error:
            raise Refused(f"the table refuses these values: {error.diag.message_primary}") from error
        except psycopg2.Error as error:
            raise DatabaseError(_explain(error)) from error
        except embedded.EmbeddedError as error:
            raise DatabaseError(str(error)) from error
        finally:
            self.turns.release()

    def _run(self, sql, values):
        with contextlib.suppress(IndexError):
            connection = self.idle.pop()
            try:
                return self._execute(connection, sql, values)
            except NoAnswer:
                raise
            except psycopg2.Error:
                if not connection.closed:
                    raise
                self.close()  # the server was restarted: the others are dead too
        return self._execute(_connect(self.seconds), sql, values)

    def _execute(self, connection, sql, values):
        try:
            result = _execute(connection, sql, values, self.seconds)
        except NoAnswer:
            connection.close()
            raise
        finally:
            if not connection.closed:
                self.idle.append(connection)
        return result

    def close(self):
        """Close the connections that nobody uses at this moment."""
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().close()


reads = Pool(3, READ_SECONDS)  # for the threads that read: one each for history, insights and outbox
looks = Pool(1, LOOK_SECONDS)  # for what a visitor waits for
writes = Pool(2, WRITE_SECONDS)  # apart, so that slow readers never hold up a save


def disconnect():
    """Close all idle connections."""
    for pool in (reads, looks, writes):
        pool.close()


def close():
    """Close all idle connections, and stop the embedded server if this process is the last to use it."""
    disconnect()
    embedded.stop()


@atexit.register
def _leave():
    embedded.leaving = True
    close()


def _connect(seconds):
    host = os.getenv("POSTGRES_HOST")
    if host:
        names = {"port": "PORT", "dbname": "DB", "user": "USER", "password": "PASSWORD"}
        server = _addresses(host) | {
            key: os.environ[f"POSTGRES_{name}"] for key, name in names.items() if os.getenv(f"POSTGRES_{name}")
        }
    else:
        folder = embedded.start(os.getenv("PGDATA_DIR") or PROJECT / "pgdata")
        server = {"host": folder, "port": 5432, "dbname": "postgres", "user": "postgres"}
    # Asynchronous, because only so can a client give up on a server that is paused while its kernel still answers.
    connection = psycopg2.connect(
        **server,
        async_=True,
        application_name="digits",
        keepalives_idle=30,
        tcp_user_timeout=int(1000 * CONNECT_SECONDS),
    )
    try:
        _wait(connection, CONNECT_SECONDS)
        _execute(
            connection, "SET statement_timeout = %(ms)s; SET timezone = 'UTC'", {"ms": int(1000 * seconds)}, seconds
        )
    except psycopg2.Error:
        connection.close()
        raise
    return connection


def _addresses(host):
    """Where to connect to. Looked up here: libpq would hold the interpreter, and with it every visitor, meanwhile."""
    if host.startswith(("/", "@")) or "," in host:  # a socket's folder; several servers, whose names are left to libpq
        return {"host": host}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise psycopg2.OperationalError(f'could not translate host name "{host}" to an address: {error}') from error
    addresses = list(dict.fromkeys(address[0] for *_, address in found))
    return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


def _execute(connection, sql, values, seconds):
    cursor = connection.cursor()
    cursor.execute(sql, values)
    _wait(connection, seconds + GRACE_SECONDS)
    if cursor.description is None:
        return cursor.rowcount, None, None
    return cursor.rowcount, [column.name for column in cursor.description], cursor.fetchall()


def _wait(connection, seconds):
    deadline = time.monotonic() + seconds
    while (state := connection.poll()) != POLL_OK:
        waiter = select.poll()
        waiter.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not waiter.poll(max(0, 1000 * (deadline - time.monotonic()))):
            raise NoAnswer(f"no answer within {seconds} seconds")


def _explain(error):
    """What the server said, and what to do about it."""
    said = " ".join((error.diag.message_primary or str(error)).split())
    password = os.getenv("POSTGRES_PASSWORD")
    if password:
        said = said.replace(password, "***")
    advice = [text for key, text in ADVICE.items() if key == error.pgcode or key in said]
    where = os.getenv("POSTGRES_HOST") or "the embedded server"
    return f"PostgreSQL at {where}: {said}: {advice[0] if advice else 'see the log of the server'}"
