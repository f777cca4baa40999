"""outbox.py on a real server: nothing put into it is lost, whatever happens to the database."""

import functools
import logging
import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import outbox, postgres
from store.outbox import Outbox


@pytest.fixture
def box(db):
    box = Outbox(first_delay=0.01, max_delay=0.05)
    yield box
    box.close(10)


@pytest.fixture
def away(db, monkeypatch):
    """A function that takes the database away (True) or brings it back (False), as a wrong address would."""
    here = os.environ["POSTGRES_HOST"]

    def switch(gone):
        monkeypatch.setenv("POSTGRES_HOST", "/nowhere" if gone else here)
        postgres.disconnect()

    return switch


def until(condition):
    """Wait for what must come true; the test's own time limit ends it if it never does."""
    while not condition():
        threading.Event().wait(0.01)


def test_what_waited_for_is_in_the_table(box, db, prediction):
    drawing_id = str(uuid.uuid4())
    box.put_prediction(drawing_id, **prediction)
    assert box.wait([drawing_id], 10)
    box.put_label(drawing_id, 4)
    assert box.wait({drawing_id}, 10)
    assert db.fetch_predictions()[["id", "true_label"]].values.tolist() == [[drawing_id, 4]]
    assert box.pending([drawing_id]) == 0
    assert box.problem is None


def test_nothing_put_is_nothing_to_wait_for(box):
    assert box.wait([], 0)
    assert box.wait([uuid.uuid4()], 0)


def test_the_database_away_is_said_and_all_lands_when_it_is_back(box, db, prediction, away):
    ids = [str(uuid.uuid4()) for _ in range(20)]
    away(True)
    for drawing_id in ids:
        box.put_prediction(drawing_id, **prediction)
    until(lambda: box.problem)
    for number, drawing_id in enumerate(ids):
        box.put_prediction(drawing_id, **prediction | {"digit": 1})
        box.put_label(drawing_id, number % 10)
    assert not box.wait(ids, 3600)  # at once: the test's time limit is shorter
    assert box.pending(ids) == 20
    away(False)
    until(lambda: not box.problem)
    assert box.wait(ids, 10)
    frame = db.fetch_predictions().set_index("id")
    assert len(frame) == 20
    assert frame.loc[ids, "true_label"].tolist() == [n % 10 for n in range(20)]
    assert set(frame["predicted_digit"]) == {1}


def test_an_outbox_that_starts_without_a_database_finds_it_later_and_makes_the_table(db, prediction, away):
    postgres.writes.run("DROP TABLE predictions")
    away(True)
    box = Outbox(first_delay=0.01, max_delay=0.05)
    until(lambda: box.problem)
    away(False)
    until(lambda: not box.problem)
    assert len(db.fetch_predictions()) == 0
    box.close(10)


def test_a_write_whose_acknowledgement_was_lost_is_done_again_and_makes_no_second_row(box, db, prediction, monkeypatch):
    """The server does the work and the answer never arrives: every second write fails after it was done."""
    done = []

    def losing(name):
        real = getattr(db, name)

        def write(*arguments, **keywords):
            real(*arguments, **keywords)
            done.append(name)
            if len(done) % 2:
                raise db.DatabaseError("the connection was lost")

        monkeypatch.setattr(db, name, write)

    losing("save_prediction")
    losing("save_label")
    ids = [str(uuid.uuid4()) for _ in range(10)]
    for number, drawing_id in enumerate(ids):
        box.put_prediction(drawing_id, **prediction)
        box.put_label(drawing_id, number)
    until(lambda: not box.pending(ids))
    assert len(done) == 40
    assert db.fetch_predictions().set_index("id").loc[ids, "true_label"].tolist() == list(range(10))
    assert len(db.fetch_predictions()) == 10


@pytest.mark.parametrize("poison", [{"confidence": 2}, {"drawing": b"GIF89a"}, {"unknown": 1}, {"digit": object()}])
def test_a_drawing_that_can_never_be_saved_does_not_hold_up_the_others(box, db, prediction, poison, caplog):
    bad, good = str(uuid.uuid4()), str(uuid.uuid4())
    with caplog.at_level(logging.ERROR):
        box.put_prediction(bad, **prediction | poison)
        box.put_label(bad, 1)
        box.put_prediction(good, **prediction)
        box.put_label(good, 2)
        assert box.wait([good], 10)
        until(lambda: not box.pending([bad]))
    assert not box.wait([bad], 0)
    assert box.lost([bad, good]) == {bad}
    assert bad in caplog.text
    assert db.fetch_predictions()[["id", "true_label"]].values.tolist() == [[good, 2]]


def test_what_the_table_itself_refuses_is_dropped_too(box, db, prediction):
    """A constraint that db.py knows nothing of."""
    postgres.writes.run("ALTER TABLE predictions ADD CHECK (predicted_digit <> 8)")
    bad, good = str(uuid.uuid4()), str(uuid.uuid4())
    box.put_prediction(bad, **prediction | {"digit": 8})
    box.put_prediction(good, **prediction)
    assert box.wait([good], 10)
    assert box.lost([bad]) == {bad}


def test_a_label_whose_drawing_was_never_put_is_lost_and_said_so(box, db, prediction):
    drawing_id, good = str(uuid.uuid4()), str(uuid.uuid4())
    box.put_label(drawing_id, 5)
    box.put_prediction(good, **prediction)
    assert box.wait([good], 10)
    assert not box.wait([drawing_id], 10)
    assert box.lost([drawing_id]) == {drawing_id}


def test_a_table_that_was_dropped_gets_the_labelled_drawing_again(box, db, prediction):
    drawing_id = str(uuid.uuid4())
    box.put_prediction(drawing_id, **prediction)
    assert box.wait([drawing_id], 10)
    postgres.writes.run("DROP TABLE predictions")
    box.put_label(drawing_id, 6)
    assert box.wait([drawing_id], 10)
    saved = db.fetch_predictions()
    assert saved[["id", "predicted_digit", "true_label"]].values.tolist() == [[drawing_id, 7, 6]]
    assert saved["created_at"].tolist() == [prediction["created_at"]]


def fail_with(code):
    """Have the server itself fail every write with this SQLSTATE, as it would in that trouble."""
    postgres.writes.run("""
        CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = TG_ARGV[0]; END $$
    """)
    postgres.writes.run(
        "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON predictions EXECUTE FUNCTION fail(%(code)s)", {"code": code}
    )


@pytest.mark.parametrize(
    ("code", "advice"),
    [("53100", "disk is full"), ("25006", "read-only"), ("42501", "grant"), ("57014", "too slow"), ("53200", "log")],
)
def test_trouble_in_the_server_is_logged_with_advice_and_waited_out(box, db, prediction, caplog, code, advice):
    drawing_id = str(uuid.uuid4())
    until(lambda: box._table_made)
    fail_with(code)
    box.put_prediction(drawing_id, **prediction)
    until(lambda: box.problem)
    assert advice in caplog.text
    assert "trouble" not in box.problem  # the page says what a visitor can use, the log says the rest
    box.put_label(drawing_id, 1)
    postgres.writes.run("DROP TRIGGER fail ON predictions")
    until(lambda: not box.pending([drawing_id]))
    assert db.fetch_predictions()["true_label"].tolist() == [1]


def test_only_so_many_drawings_may_wait_and_the_rest_are_said_to_be_lost(box, db, prediction, away, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_WAITING", 5)
    away(True)
    ids = [str(uuid.uuid4()) for _ in range(7)]
    for drawing_id in ids:
        box.put_prediction(drawing_id, **prediction)
    assert box.lost(ids) == {*ids[5:]}
    until(lambda: box.problem == outbox.FULL)
    box.put_label(ids[0], 3)  # of one that waits: there is always room for it
    away(False)
    until(lambda: not box.pending(ids))
    assert sorted(db.fetch_predictions()["id"]) == sorted(ids[:5])
    assert not box.wait(ids, 0)
    box.put_prediction(ids[6], **prediction)  # its next stroke brings the whole drawing
    assert box.wait([ids[6]], 10)


def test_what_waits_is_bounded_in_bytes_and_so_is_what_is_remembered(box, db, prediction, away, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 600_000)
    monkeypatch.setattr(outbox, "REMEMBERED_BYTES", 150_000)
    of = lambda size: prediction | {"drawing": prediction["drawing"].ljust(size)}  # noqa: E731
    away(True)
    ids = [str(uuid.uuid4()) for _ in range(6)]
    for drawing_id, size in zip(
        ids, (100_000, 100_000, db.MAX_DRAWING_BYTES, db.MAX_DRAWING_BYTES, 100_000), strict=False
    ):
        box.put_prediction(drawing_id, **of(size))
    assert box.lost(ids) == {ids[3]}  # no room for it; for the smaller one after it there is
    box.put_prediction(ids[0], **of(150_000))  # nor for so much more of one that waits
    assert box.lost(ids) == {ids[0], ids[3]}
    box.put_prediction(ids[2], **of(1_000))
    box.put_prediction(ids[0], **of(150_000))  # now there is
    box.put_prediction(ids[5], **of(db.MAX_DRAWING_BYTES + 1))
    assert box.lost(ids) == {ids[3], ids[5]}
    away(False)
    until(lambda: not box.pending(ids))
    sizes = db.fetch_predictions().set_index("id")["drawing"].map(len)
    assert sizes.to_dict() == {ids[0]: 150_000, ids[1]: 100_000, ids[2]: 1_000, ids[4]: 100_000}
    assert box._waiting_bytes == 0
    assert sum(len(saved["drawing"]) for saved in box._saved.values()) <= 150_000


@pytest.mark.parametrize("text", ["10GB", "nan", "ten"])
def test_a_limit_of_the_table_that_is_no_number_is_named_and_ten_gigabytes_hold(
    box, db, prediction, monkeypatch, caplog, text
):
    monkeypatch.setattr(outbox, "TABLE_LOOK_SECONDS", 0)
    monkeypatch.setenv("MAX_TABLE_GB", text)
    drawing_id = str(uuid.uuid4())
    box.put_prediction(drawing_id, **prediction)
    assert box.wait([drawing_id], 10)
    assert f"MAX_TABLE_GB in .env must be a number of gigabytes, such as 10, not '{text}'" in caplog.text


def test_a_table_at_its_limit_takes_no_new_drawing_but_finishes_those_it_has(db, prediction, monkeypatch):
    monkeypatch.setattr(outbox, "TABLE_LOOK_SECONDS", 0)
    box = Outbox()
    old, new = str(uuid.uuid4()), str(uuid.uuid4())
    box.put_prediction(old, **prediction)
    assert box.wait([old], 10)
    monkeypatch.setenv("MAX_TABLE_GB", "0")
    box.put_prediction(old, **prediction | {"digit": 1})
    until(lambda: box.problem)
    box.put_prediction(new, **prediction)
    box.put_label(old, 1)
    assert box.problem == outbox.TABLE_FULL
    assert box.lost([new, old]) == {new}
    assert box.wait([old], 10)
    assert db.fetch_predictions()[["id", "true_label"]].values.tolist() == [[old, 1]]
    monkeypatch.setenv("MAX_TABLE_GB", "1")
    box.put_prediction(new, **prediction)  # refused still, and the cause of another look
    until(lambda: not box.problem)
    box.put_prediction(new, **prediction)
    assert box.wait([new], 10)
    box.close(10)


def test_a_session_that_writes_faster_than_people_draw_is_held_back():
    allowance = outbox.Allowance(burst=50, seconds=3600)
    assert [allowance.take() for _ in range(60)] == [True] * 50 + [False] * 10
    patient = outbox.Allowance(burst=1, seconds=0.01)
    until(patient.take)
    until(patient.take)


def test_the_outbox_of_the_process_survives_the_clearing_of_streamlits_caches():
    """Any browser may send that request. What waits in a forgotten outbox would be called saved."""
    code = """
import outbox, streamlit as st
get = st.cache_resource(outbox.shared)
before = get()
st.cache_resource.clear()
assert get() is before
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(outbox.__file__).parent, check=True)


def test_visitors_who_come_at_the_same_moment_share_one_outbox(monkeypatch):
    """What waits in a second one, this one knows nothing of, and would call it saved."""

    class Slow:
        def __init__(self):
            threading.Event().wait(0.1)

    monkeypatch.setattr(outbox, "Outbox", Slow)
    monkeypatch.setattr(outbox, "_only", functools.cache(outbox._only.__wrapped__))
    with ThreadPoolExecutor(20) as visitors:
        assert len(set(visitors.map(lambda _: outbox.shared(), range(20)))) == 1


def test_closing_writes_what_still_waits(db, prediction):
    box = Outbox()
    ids = [str(uuid.uuid4()) for _ in range(50)]
    for drawing_id in ids:
        box.put_prediction(drawing_id, **prediction)
        box.put_label(drawing_id, 9)
    box.close(30)
    assert db.fetch_predictions()["true_label"].tolist() == [9] * 50


def test_closing_while_the_database_is_away_ends_and_says_what_was_not_saved(db, prediction, away, caplog):
    away(True)
    box = Outbox(first_delay=3600)
    box.put_prediction(uuid.uuid4(), **prediction)
    until(lambda: box.problem)
    box.close(30)
    assert not box._thread.is_alive()
    assert "1 drawings were not saved" in caplog.text


def test_many_sessions_at_once_each_get_their_own_labels(box, db, prediction):
    """Twenty sessions, each labelling its own drawings with its own digit while the others do the same."""
    labelled, failures = {}, []

    def session(number):
        for _ in range(10):
            drawing_id = str(uuid.uuid4())
            box.put_prediction(drawing_id, **prediction | {"digit": number % 10})
            box.put_prediction(drawing_id, **prediction | {"digit": (number + 1) % 10})
            box.put_label(drawing_id, number % 10)
            labelled[drawing_id] = number % 10
            if not box.wait([drawing_id], 30):
                failures.append(drawing_id)

    threads = [threading.Thread(target=session, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frame = db.fetch_predictions()
    assert not failures
    assert dict(zip(frame["id"], frame["true_label"], strict=True)) == labelled
    assert ((frame["true_label"] + 1) % 10 == frame["predicted_digit"]).all()
