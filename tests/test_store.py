"""store/__init__.py: what runs beside the page begins once and ends with the process, in programs of their own."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_embedded import server_process

import store
from store import embedded, postgres, schema

ROOT = Path(__file__).parent.parent
BEGIN = """
import sys, threading, time, uuid
from datetime import UTC, datetime
import db, store
from store import postgres

def put(n):
    for _ in range(n):
        drawing_id = str(uuid.uuid4())
        prediction = dict(created_at=datetime.now(UTC), digit=7, confidence=0.5, probabilities=[0.1] * 10,
                          not_a_digit=0.1, drawing=b"\\x89PNG", model_version="x")
        outbox.put(drawing_id, lambda i=drawing_id, of=prediction: db.save_prediction(i, **of))

outbox = store.start(db, lambda weights, sha256: None).outbox
"""
READY = """
assert outbox.wait([outbox.put("the table is made", lambda: None)], 60)
"""


def run(folder, code, **settings):
    """Run a program that uses the embedded server in `folder`. Returns what it wrote."""
    environment = os.environ | {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")} | settings
    command = [sys.executable, "-c", BEGIN + code]
    done = subprocess.run(command, env=environment, cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def rows(folder, monkeypatch):
    """Counts the rows that a program left in `folder`, and stops that server again."""

    def count():
        for name in ("HOST", "PORT", "DB", "USER", "PASSWORD"):
            monkeypatch.setenv(f"POSTGRES_{name}", "")
        monkeypatch.setenv("PGDATA_DIR", str(folder / "pgdata"))
        monkeypatch.setattr(embedded, "_held", {})  # the session's server is not ours to stop
        postgres.disconnect()
        found = postgres.reads.run("SELECT count(*) FROM predictions").rows[0][0]
        postgres.close()
        return found

    return count


def test_importing_starts_nothing_and_connects_to_nothing(folder):
    code = "import db, store, sys, threading; sys.exit(threading.active_count() != 1)"
    environment = os.environ | {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    assert not (folder / "pgdata").exists()


@pytest.mark.parametrize("end", ["", "raise SystemExit", "store.stop(); store.stop()"])
def test_what_still_waits_as_a_program_ends_is_written_and_the_server_stopped(folder, rows, end):
    run(folder, f"{READY}put(50)\n{end}")
    assert server_process(folder) is None
    assert rows() == 50


def test_a_program_that_only_reads_stops_the_server_too(folder):
    run(folder, "store.start(db).snapshot.look(patience=60)")
    assert server_process(folder) is None


def test_the_end_waits_only_so_long_for_a_database_that_is_away_and_says_what_is_lost(folder):
    said = run(folder, "put(3)", POSTGRES_HOST="/nowhere")
    assert "stopped while the database was away: 3 writes were not done" in said


CUT_OFF = """
threading.Thread(target=postgres.reads.run, args=("SELECT pg_sleep(30)",), daemon=True).start()
while not postgres.writes.run("SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'").rowcount:
    time.sleep(0.05)
store.stop()
time.sleep(2)  # as with PyTorch, the end of the process takes its time
"""


def test_a_read_that_is_cut_off_at_the_end_does_not_start_the_server_again(folder):
    said = run(folder, READY + CUT_OFF)
    assert "this process is ending" in said
    assert server_process(folder) is None


AFTERWARDS = """
store.stop()
for read in (db.fetch_predictions, db.create_table, lambda: print(store.start(db).snapshot.look(patience=2).counts)):
    try:
        read()
    except db.DatabaseError as error:
        print(error)
print(outbox.put("late", lambda: print("written")).state, store.start(db).outbox is outbox)
"""


def test_after_the_end_nothing_is_started_saved_or_called_saved(folder):
    said = run(folder, READY + AFTERWARDS)
    assert said.count("is not started: this process is ending") == 2
    assert "(0, 0, 0)" in said
    assert "lost True" in said and "written" not in said
    assert server_process(folder) is None


class Slow:
    """In the place of what is slow to make."""

    def __init__(self, *_):
        threading.Event().wait(0.1)


def test_visitors_who_come_at_the_same_moment_share_one_store(monkeypatch):
    """What waits in a second outbox, the first knows nothing of, and would call it saved."""
    monkeypatch.setattr(store, "_store", None)
    for name in ("Outbox", "Snapshot", "Counter", "Follower"):
        monkeypatch.setattr(store, name, Slow)
    monkeypatch.setattr(store, "_stop_after_main", lambda: None)
    monkeypatch.setattr(store, "_build_indexes", lambda table: None)
    import db

    with ThreadPoolExecutor(20) as visitors:
        assert len(set(map(id, visitors.map(lambda _: store.start(db, print), range(20))))) == 1


def test_the_store_survives_the_clearing_of_streamlits_caches(folder):
    """Any browser may send that request. What waits in a forgotten outbox would be called saved."""
    code = """
import streamlit as st
get = st.cache_resource(lambda: store.start(db))
before = get()
st.cache_resource.clear()
assert get() is before
"""
    run(folder, code, POSTGRES_HOST="/nowhere")


ALL_DONE = f"""
while postgres.reads.run("SELECT FROM predictions_schema").rowcount < {len(schema.FILES)}:
    time.sleep(0.05)
"""


def test_an_index_that_is_missing_is_built_beside_the_page(folder):
    gone = "DROP INDEX predictions_labelled; DELETE FROM predictions_schema WHERE number = 2"
    run(folder, f"{READY}{ALL_DONE}postgres.writes.run({gone!r})")
    there = "SELECT FROM pg_class WHERE relname = 'predictions_labelled'"
    assert run(folder, f"{READY}{ALL_DONE}print(postgres.reads.run({there!r}).rowcount)") == "1\n"
