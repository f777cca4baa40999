"""store/postgres.py: connections that come and go, time limits, and errors that say what to do."""

import contextlib
import socket
import threading
import time
import uuid

import psycopg2
import pytest
from helpers import until

from store import postgres


def connect_to(monkeypatch, **settings):
    for name, value in settings.items():
        monkeypatch.setenv(f"POSTGRES_{name}", str(value))
    postgres.disconnect()


def test_a_refused_connection_says_where_and_what_to_do(db, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        connect_to(monkeypatch, HOST="127.0.0.1", PORT=taken.getsockname()[1])
        with pytest.raises(db.DatabaseError, match="127.0.0.1.*refused.*start PostgreSQL"):
            db.create_table()


def test_a_server_that_cannot_be_checked_says_what_is_missing(db, monkeypatch, tmp_path):
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "none.crt"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def offer_tls():
            connection, _ = server.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"S")
                connection.recv(1)

        thread = threading.Thread(target=offer_tls)
        thread.start()
        connect_to(monkeypatch, HOST="127.0.0.1", PORT=server.getsockname()[1])
        with pytest.raises(db.DatabaseError, match="root certificate.*: set PGSSLROOTCERT"):
            db.create_table()
        thread.join(10)


def test_a_name_is_looked_up_where_it_holds_up_nobody(db, monkeypatch):
    """By Python, which lets other threads run meanwhile. libpq does not, and a silent name server takes its time."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", 0))])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        connect_to(monkeypatch, HOST="database.invalid", PORT=taken.getsockname()[1])
        with pytest.raises(db.DatabaseError, match=r"database\.invalid.*refused.*start PostgreSQL"):
            db.create_table()


@pytest.mark.parametrize("name", ["nobody.invalid", "a..b", "x" * 70])
def test_a_name_that_nobody_knows_says_what_to_correct(db, monkeypatch, name):
    connect_to(monkeypatch, HOST=name)
    with pytest.raises(
        db.DatabaseError, match="could not translate host name.*: start the database there, or correct POSTGRES_HOST"
    ):
        db.create_table()


def test_a_server_that_accepts_and_says_nothing_is_given_up(db, monkeypatch):
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        connect_to(monkeypatch, HOST="127.0.0.1", PORT=silent.getsockname()[1])
        with pytest.raises(db.DatabaseError, match="no answer within"):
            db.create_table()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"DB": "nowhere"}, "POSTGRES_DB"),
        ({"USER": "nobody"}, "POSTGRES_USER"),
        ({"PORT": "five"}, "POSTGRES_PORT"),
        ({"HOST": "no.such.host.invalid"}, "POSTGRES_HOST"),
    ],
)
def test_a_wrong_setting_is_named(db, monkeypatch, settings, advice):
    connect_to(monkeypatch, **settings)
    with pytest.raises(db.DatabaseError, match=advice):
        db.create_table()


def test_a_locked_table_is_given_up_and_found_free_later(db, prediction, monkeypatch, server):
    monkeypatch.setattr(postgres, "writes", postgres.Pool(1, 0.2))
    drawing_id = uuid.uuid4()
    locker = psycopg2.connect(host=server["POSTGRES_HOST"], user="postgres", dbname="postgres")
    locker.cursor().execute("LOCK TABLE predictions")
    with pytest.raises(db.DatabaseError, match="too slow or the table is locked"):
        db.save_prediction(drawing_id, **prediction)
    locker.close()
    deadline = time.monotonic() + 20
    while len(db.fetch_predictions()) == 0:  # the server takes a moment to notice
        assert time.monotonic() < deadline
        with contextlib.suppress(db.DatabaseError):
            db.save_prediction(drawing_id, **prediction)
    assert len(db.fetch_predictions()) == 1


def test_who_finds_all_connections_taken_waits_no_longer_than_a_statement_may_take(db):
    pool = postgres.Pool(1, 0.1)
    with pool.turns, pytest.raises(db.DatabaseError, match="busy"):
        pool.run("SELECT 1")


def test_no_message_holds_the_password(monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "planted")
    said = postgres._explain(psycopg2.OperationalError('invalid connection option "host=h password=planted"'))
    assert "planted" not in said and "***" in said


@pytest.mark.parametrize("value", [object(), {"a": object()}, "\0", "\ud800"], ids=["object", "inside", "zero", "half"])
def test_a_value_that_cannot_be_sent_is_told_from_a_database_that_is_away(db, value):
    with pytest.raises((postgres.Refused, ValueError)):
        postgres.reads.run("SELECT %(value)s", {"value": value})
    assert postgres.reads.run("SELECT 1").rows == [(1,)]  # and harms no connection


def test_a_session_keeps_its_connection_and_closes_it(db):
    pid = "SELECT pg_backend_pid()"
    with postgres.session(5) as run:
        (one,), (two,) = run(pid).rows[0], run(pid).rows[0]
        assert one == two
        with pytest.raises(db.DatabaseError, match="SELEC"), postgres.session(5) as other:
            other("SELEC 1")
    until(lambda: not postgres.reads.run("SELECT FROM pg_stat_activity WHERE pid = %(pid)s", {"pid": one}).rowcount)
