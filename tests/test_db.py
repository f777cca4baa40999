"""db.py, postgres.py and embedded.py on a real server."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import psycopg2
import pytest
from PIL import Image

from store import postgres

ROOT = Path(__file__).parent.parent


def row(db, drawing_id):
    frame = db.fetch_predictions()
    return frame[frame["id"] == str(drawing_id)].iloc[0]


def test_a_saved_drawing_comes_back_as_it_was_given(db, prediction):
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    saved = row(db, drawing_id)
    assert saved["created_at"] == prediction["created_at"]
    assert (saved["predicted_digit"], saved["confidence"], saved["not_a_digit"]) == (7, 0.75, 0.07)
    assert saved["probabilities"] == prediction["probabilities"]
    assert saved["drawing"] == prediction["drawing"]
    assert saved["model_version"] == "0123456789ab"
    assert saved[["true_label", "labelled_at"]].isna().all()


def test_numpy_numbers_are_numbers(db, prediction):
    probabilities = np.array(prediction["probabilities"], dtype=np.float32)
    drawing_id = uuid.uuid4()
    db.save_prediction(
        drawing_id,
        **prediction | {"digit": np.int64(7), "confidence": np.float32(0.75), "probabilities": probabilities},
    )
    db.save_label(drawing_id, np.int64(7))
    assert row(db, drawing_id)["probabilities"] == pytest.approx(probabilities.tolist())


def test_another_stroke_updates_the_row_and_keeps_its_label_and_its_beginning(db, prediction):
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    db.save_label(drawing_id, 4)
    before = row(db, drawing_id)
    db.save_prediction(drawing_id, **prediction | {"digit": 1, "created_at": datetime.now(UTC)})
    after = row(db, drawing_id)
    assert len(db.fetch_predictions()) == 1
    assert after["predicted_digit"] == 1
    assert after["updated_at"] > before["updated_at"]
    for kept in ("created_at", "true_label", "labelled_at"):
        assert after[kept] == before[kept]


def test_a_label_lands_on_its_own_row_and_on_no_other(db, prediction):
    ids = [uuid.uuid4() for _ in range(5)]
    for drawing_id in ids:
        db.save_prediction(drawing_id, **prediction)
    db.save_label(ids[2], 3)
    labelled = db.fetch_predictions().dropna(subset="true_label")
    assert labelled["id"].tolist() == [str(ids[2])]
    assert labelled["true_label"].tolist() == [3]


def test_a_label_without_its_row_is_never_a_success(db):
    with pytest.raises(db.NoSuchDrawing, match="save its prediction before its label"):
        db.save_label(uuid.uuid4(), 3)


def test_the_newest_drawing_comes_first(db, prediction):
    times = [prediction["created_at"] + timedelta(seconds=s) for s in (5, 1, 9)]
    for created_at in times:
        db.save_prediction(uuid.uuid4(), **prediction | {"created_at": created_at})
    assert db.fetch_predictions()["created_at"].tolist() == sorted(times, reverse=True)


def test_an_empty_table_has_the_columns_and_types_of_a_full_one(db, prediction):
    empty = db.fetch_predictions()
    db.save_prediction(uuid.uuid4(), **prediction)
    full = db.fetch_predictions()
    assert len(empty) == 0
    for name in ("created_at", "labelled_at", "true_label"):
        assert empty[name].dtype == full[name].dtype


def test_times_are_kept_as_moments_whatever_zone_they_came_in(db, prediction):
    drawing_id = uuid.uuid4()
    tokyo = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=9)))
    db.save_prediction(drawing_id, **prediction | {"created_at": tokyo})
    assert row(db, drawing_id)["created_at"] == tokyo


@pytest.mark.parametrize("digit", [-1, 10, 3.0, "3", None, True, float("nan"), 10**30, [3], b"3"])
def test_a_label_outside_0_to_9_is_refused_before_the_database_hears_of_it(db, prediction, digit):
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    with pytest.raises(ValueError, match="from 0 to 9"):
        db.save_label(drawing_id, digit)
    assert db.fetch_predictions()["true_label"].isna().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"digit": 10},
        {"digit": "7"},
        {"confidence": 1.1},
        {"confidence": float("nan")},
        {"confidence": None},
        {"not_a_digit": -0.1},
        {"probabilities": [0.1] * 9},
        {"probabilities": [0.1] * 9 + [2]},
        {"probabilities": [0.1] * 9 + [float("nan")]},
        {"probabilities": None},
        {"probabilities": "0123456789"},
        {"drawing": b""},
        {"drawing": b"GIF89a"},
        {"drawing": "text"},
        {"drawing": b"\x89PNG" + bytes(256 * 1024)},
        {"model_version": ""},
        {"model_version": "a\0b"},
        {"model_version": "a" * 65},
        {"created_at": datetime(2026, 1, 1)},  # noqa: DTZ001 (the zone is missing: that is the point)
        {"created_at": datetime.max.replace(tzinfo=UTC)},
        {"created_at": "2026-01-01"},
    ],
)
def test_a_wrong_value_is_refused_and_writes_no_row(db, prediction, wrong):
    with pytest.raises(ValueError, match="must be"):
        db.save_prediction(uuid.uuid4(), **prediction | wrong)
    with pytest.raises(ValueError, match="must be a UUID"):
        db.save_prediction("1; DROP TABLE predictions", **prediction)
    assert len(db.fetch_predictions()) == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("predicted_digit", 10),
        ("true_label", -1),
        ("confidence", 1.01),
        ("confidence", "NaN"),
        ("not_a_digit", -0.01),
        ("probabilities", "{1,2}"),
        ("probabilities", "{0,0,0,0,0,0,0,0,0,NULL}"),
        ("probabilities", "{0,0,0,0,0,0,0,0,0,1.5}"),
        ("drawing", b""),
        ("model_version", ""),
        ("created_at", None),
        ("created_at", "infinity"),
        ("labelled_at", "2026-01-01Z"),  # without a label
    ],
)
def test_the_table_itself_refuses_what_db_would_refuse(db, prediction, column, value):
    db.save_prediction(uuid.uuid4(), **prediction)
    before = db.fetch_predictions()
    with pytest.raises(postgres.Refused):
        postgres.writes.run(f"UPDATE predictions SET {column} = %(value)s", {"value": value})  # noqa: S608
    assert db.fetch_predictions().equals(before)


def test_the_table_is_made_when_it_is_missing(db, prediction):
    postgres.writes.run("DROP TABLE predictions")
    assert len(db.fetch_predictions()) == 0
    postgres.writes.run("DROP TABLE predictions")
    db.save_prediction(uuid.uuid4(), **prediction)
    assert len(db.fetch_predictions()) == 1


def test_twenty_may_make_the_table_at_once(db):
    postgres.writes.run("DROP TABLE predictions")
    failures = []

    def create():
        try:
            db.create_table()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_more_writers_than_connections_wait_their_turn(db, prediction):
    ids = [uuid.uuid4() for _ in range(40)]
    failures = []

    def draw(number, drawing_id):
        try:
            db.save_prediction(drawing_id, **prediction | {"digit": number % 10})
            db.save_label(drawing_id, number % 10)
            db.fetch_predictions()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=draw, args=pair) for pair in enumerate(ids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frame = db.fetch_predictions()
    assert not failures
    assert sorted(frame["id"]) == sorted(map(str, ids))
    assert (frame["true_label"] == frame["predicted_digit"]).all()


def test_an_older_write_that_arrives_late_does_not_undo_a_newer_one(db, prediction, monkeypatch):
    """A write that timed out may be done by the server long after its retry: simulated by the clock it was sent at."""
    drawing_id, early = uuid.uuid4(), db._now()
    db.save_prediction(drawing_id, **prediction | {"digit": 2})
    db.save_label(drawing_id, 2)
    before = row(db, drawing_id)
    with monkeypatch.context() as patch:
        patch.setattr(db, "_now", lambda: early)
        db.save_prediction(drawing_id, **prediction | {"digit": 1})
        db.save_label(drawing_id, 1)
    assert row(db, drawing_id)[["predicted_digit", "true_label"]].tolist() == [2, 2]
    assert row(db, drawing_id).equals(before)


def test_all_changes_are_read_however_many_a_query_returns(db, prediction):
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for drawing_id in ids:
        db.save_prediction(drawing_id, **prediction)
    postgres.writes.run("UPDATE predictions SET updated_at = now() WHERE id = ANY(%(ids)s::uuid[])", {"ids": ids[1:4]})
    since = datetime.now(UTC) - timedelta(minutes=1)
    for limit in (1, 2, 5, 100):
        assert sorted(drawing_id for drawing_id, _ in db.fetch_changes(since, limit)) == sorted(ids)


def test_the_time_of_a_write_follows_the_clock_and_never_steps_back(monkeypatch):
    """A machine that slept, or whose clock was wrong at first, has the right time at the next write."""
    import db

    start = db._now()
    clock = iter([start + timedelta(hours=8), start, start + timedelta(hours=9)])  # slept, set back, right again
    monkeypatch.setattr(db, "datetime", SimpleNamespace(now=lambda zone: next(clock)))
    monkeypatch.setattr(db, "_last", start)
    assert db._now() == start + timedelta(hours=8)
    assert timedelta(0) < db._now() - (start + timedelta(hours=8)) < timedelta(seconds=1)
    assert db._now() == start + timedelta(hours=9)


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


def test_importing_db_starts_nothing_and_connects_to_nothing(folder):
    code = "import db, outbox, sys, threading; sys.exit(threading.active_count() != 1)"
    environment = os.environ | {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    assert not (folder / "pgdata").exists()


# --- the embedded server -------------------------------------------------------------------------------------------

HOLD = """
import signal, sys, db
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
db.create_table()
print("ready", flush=True)
try:
    sys.stdin.read()
except KeyboardInterrupt:
    sys.exit(0)
"""


def start_program(folder):
    """A program that uses the embedded server in `folder`, as the app does, until its input ends or a signal comes."""
    program = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "ready\n"
    return program


def end_program(program, number=None):
    program.send_signal(number) if number else program.stdin.close()
    program.wait(60)
    program.stdin.close()
    program.stdout.close()


def server_process(folder):
    """The embedded server in this folder, or None."""
    try:
        pid = int((folder / "pgdata" / "data" / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, IndexError, psutil.NoSuchProcess):
        return None


@pytest.fixture
def embedded_db(folder, monkeypatch):
    """The module `db` on an embedded server of this test's own, and the folder it is in."""
    import db

    for name in ("HOST", "PORT", "DB", "USER", "PASSWORD"):
        monkeypatch.setenv(f"POSTGRES_{name}", "")
    monkeypatch.setenv("PGDATA_DIR", str(folder / "pgdata"))
    postgres.disconnect()
    from store import embedded

    others = embedded._held.copy()  # the session's server: not ours to stop here
    embedded._held.clear()
    yield db
    db.close()
    embedded._held.update(others)


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_the_embedded_server_stops_with_its_last_user_and_the_next_finds_every_row(
    folder, embedded_db, prediction, number
):
    first, second = start_program(folder), start_program(folder)
    end_program(first, number)
    assert server_process(folder) is not None  # the second still uses it
    embedded_db.save_prediction(uuid.uuid4(), **prediction)
    embedded_db.close()
    end_program(second, number)
    assert server_process(folder) is None
    assert len(embedded_db.fetch_predictions()) == 1


def test_a_user_that_was_killed_does_not_keep_the_embedded_server_running(folder, embedded_db):
    end_program(start_program(folder), signal.SIGKILL)
    assert server_process(folder) is not None
    end_program(start_program(folder))
    assert server_process(folder) is None


def test_an_embedded_server_that_was_killed_is_started_again_with_every_row(folder, embedded_db, prediction):
    ids = [uuid.uuid4() for _ in range(3)]
    for drawing_id in ids:
        embedded_db.save_prediction(drawing_id, **prediction)
        killed = server_process(folder)
        killed.kill()
        psutil.wait_procs([killed], timeout=10)
        for _ in range(100):  # its children take a moment to notice
            try:
                embedded_db.save_label(drawing_id, 5)
                break
            except embedded_db.DatabaseError:
                threading.Event().wait(0.1)
    frame = embedded_db.fetch_predictions()
    assert sorted(frame["id"]) == sorted(map(str, ids))
    assert frame["true_label"].tolist() == [5, 5, 5]


def test_a_pid_file_that_names_another_program_does_not_hinder_the_start(folder, embedded_db, prediction):
    embedded_db.save_prediction(uuid.uuid4(), **prediction)
    embedded_db.close()
    other = subprocess.Popen(["sleep", "60"])
    try:
        lines = f"{other.pid}\n{folder}/pgdata/data\n1\n5432\n\n\n\nready\n"
        (folder / "pgdata" / "data" / "postmaster.pid").write_text(lines)
        assert len(embedded_db.fetch_predictions()) == 1
    finally:
        other.kill()
        other.wait()


def test_half_made_data_of_a_first_start_that_was_killed_is_made_again(folder, embedded_db):
    (folder / "pgdata" / "data.new").mkdir(parents=True)
    (folder / "pgdata" / "data.new" / "PG_VERSION").write_text("18\n")
    embedded_db.create_table()
    assert len(embedded_db.fetch_predictions()) == 0


@pytest.mark.parametrize("name", ["long" * 30, "ж" * 50, "it's, mine", "my data"])
def test_a_folder_of_any_name_works(folder, embedded_db, monkeypatch, name):
    monkeypatch.setenv("PGDATA_DIR", str(folder / name))
    embedded_db.create_table()
    assert len(embedded_db.fetch_predictions()) == 0
    from store import embedded

    sockets = embedded._socket_folder(folder / ("long" * 30))  # in /tmp, where all may write
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert postgres.reads.run("SHOW listen_addresses")[2] == [("",)]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="belongs to somebody else"):
        patch.setattr(embedded, "_server_user", lambda: SimpleNamespace(pw_uid=12345, pw_gid=12345))
        embedded._socket_folder(folder / ("long" * 30))


def test_what_libpq_reads_from_the_environment_does_not_lead_away_from_the_embedded_server(embedded_db, monkeypatch):
    monkeypatch.setenv("PGDATABASE", "work")
    monkeypatch.setenv("PGPORT", "5433")
    embedded_db.create_table()
    postgres.disconnect()
    assert len(embedded_db.fetch_predictions()) == 0


READ_AS_IT_ENDS = """
import atexit, threading, time
atexit.register(time.sleep, 2)  # the last to run, as with PyTorch the end of the process takes its time
import db, postgres
db.create_table()
threading.Thread(target=postgres.reads.run, args=("SELECT pg_sleep(30)",), daemon=True).start()
while not postgres.writes.run("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'")[2][0][0]:
    time.sleep(0.05)
"""


def test_a_read_that_is_cut_off_as_the_program_ends_does_not_start_the_server_again(folder):
    environment = os.environ | {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")}
    subprocess.run([sys.executable, "-c", READ_AS_IT_ENDS], env=environment, cwd=ROOT, check=True, timeout=120)
    assert server_process(folder) is None


def test_a_missing_embedded_package_is_said_with_what_to_set(embedded_db, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(embedded_db.DatabaseError, match="set POSTGRES_HOST in .env"):
        embedded_db.create_table()


def test_the_size_of_the_table_counts_its_drawings(db, prediction):
    before = db.table_bytes()
    db.save_prediction(uuid.uuid4(), **prediction | {"drawing": b"\x89PNG" + os.urandom(200_000)})
    assert db.table_bytes() - before >= 200_000  # they lie beside the rows, where pg_relation_size does not look


def test_each_view_of_the_page_has_its_index(db):
    _, _, rows = postgres.reads.run("SELECT indexname FROM pg_indexes WHERE tablename = 'predictions'")
    views = {"predictions_newest", "predictions_changed", "predictions_labelled"}
    assert {name for (name,) in rows} == {"predictions_pkey"} | views


def test_who_finds_all_connections_taken_waits_no_longer_than_a_statement_may_take(db):
    pool = postgres.Pool(1, 0.1)
    with pool.turns, pytest.raises(db.DatabaseError, match="busy"):
        pool.run("SELECT 1")


def test_quarters_of_an_hour_are_those_of_utc_whatever_zone_the_server_is_in(db, prediction, monkeypatch):
    monkeypatch.setenv("PGTZ", "Asia/Kolkata")
    postgres.disconnect()
    db.save_prediction(uuid.uuid4(), **prediction)
    assert db.fetch_times() == [(prediction["created_at"].replace(minute=0, second=0), 1, 0, 0)]


def test_no_message_holds_the_password(monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "planted")
    said = postgres._explain(psycopg2.OperationalError('invalid connection option "host=h password=planted"'))
    assert "planted" not in said and "***" in said


def test_a_picture_of_many_pixels_gets_no_thumbnail(db):
    Image.new("1", (2001, 2001)).save(picture := io.BytesIO(), format="PNG")
    assert db.thumbnail(picture.getvalue()) is None
