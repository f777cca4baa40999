"""store/embedded.py: a server that its users share, that outlives none of them, and keeps every row."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from store import embedded, postgres

ROOT = Path(__file__).parent.parent

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
    others = embedded._held.copy()  # the session's server: not ours to stop here
    embedded._held.clear()
    yield db
    postgres.close()
    embedded._held.update(others)


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_the_embedded_server_stops_with_its_last_user_and_the_next_finds_every_row(
    folder, embedded_db, prediction, number
):
    first, second = start_program(folder), start_program(folder)
    end_program(first, number)
    assert server_process(folder) is not None  # the second still uses it
    embedded_db.save_prediction(uuid.uuid4(), **prediction)
    postgres.close()
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
    postgres.close()
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
    sockets = embedded._socket_folder(folder / ("long" * 30))  # in /tmp, where all may write
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert postgres.reads.run("SHOW listen_addresses").rows == [("",)]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="belongs to somebody else"):
        patch.setattr(embedded, "_server_user", lambda: SimpleNamespace(pw_uid=12345, pw_gid=12345))
        embedded._socket_folder(folder / ("long" * 30))


def test_what_libpq_reads_from_the_environment_does_not_lead_away_from_the_embedded_server(embedded_db, monkeypatch):
    monkeypatch.setenv("PGDATABASE", "work")
    monkeypatch.setenv("PGPORT", "5433")
    embedded_db.create_table()
    postgres.disconnect()
    assert len(embedded_db.fetch_predictions()) == 0


def test_a_missing_embedded_package_is_said_with_what_to_set(embedded_db, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(embedded_db.DatabaseError, match="set POSTGRES_HOST in .env"):
        embedded_db.create_table()
