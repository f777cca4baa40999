"""store/outbox.py: nothing put into it is lost, whatever happens to the database."""

import logging
import threading
import uuid
from functools import partial

import pytest
from helpers import all_at_once, until

from store import outbox, postgres
from store.outbox import Outbox


@pytest.fixture
def box(db):
    box = Outbox(db.create_table, db.is_full, first_delay=0.01, max_delay=0.05)
    assert box.wait([box.put("nothing", lambda: None)], 60)  # it is ready, and holds no connection
    yield box
    box.close(10)


@pytest.fixture
def plain():
    """An outbox without a database, for writes that the test makes up."""
    box = Outbox(lambda: None, lambda: False, first_delay=0.01, max_delay=0.05)
    yield box
    box.close(10)


@pytest.fixture
def keep(box, db):
    """Puts the prediction of a drawing into the outbox, as the page does. Returns its ticket."""

    def put(drawing_id, new=True, **prediction):
        write = lambda: db.save_prediction(drawing_id, **prediction)  # noqa: E731 (looked up when it is done)
        return box.put(f"{drawing_id} prediction", write, size=len(prediction["drawing"]), new=new)

    return put


@pytest.fixture
def label(box, db):
    """Puts the label of a drawing into the outbox, as the page does. Returns its ticket."""
    return lambda drawing_id, digit: box.put(f"{drawing_id} label", lambda: db.save_label(drawing_id, digit))


def new_ids(n):
    return [str(uuid.uuid4()) for _ in range(n)]


def states(tickets):
    return [ticket.state for ticket in tickets]


class Held:
    """A write that is under way until it is let go, and then fails with `error` if there is one."""

    def __init__(self, error=None):
        self.begun, self.free, self.error, self.times = threading.Event(), threading.Event(), error, 0

    def __call__(self):
        self.times += 1
        self.begun.set()
        self.free.wait(20)
        if self.error:
            raise self.error


# --- tickets and order -----------------------------------------------------------------------------------------------


def test_what_waited_for_is_in_the_table(box, db, prediction, keep, label):
    (drawing_id,) = new_ids(1)
    saved = keep(drawing_id, **prediction)
    assert box.wait([saved], 10)
    labelled = label(drawing_id, 4)
    assert box.wait({labelled}, 10)
    assert db.fetch_predictions()[["id", "true_label"]].values.tolist() == [[drawing_id, 4]]
    assert states([saved, labelled]) == ["saved", "saved"]
    assert box.problem is None


def test_nothing_put_is_nothing_to_wait_for(box):
    assert box.wait([], 0)


def test_a_ticket_waits_until_its_write_is_done(plain):
    held = Held()
    ticket = plain.put("one", held)
    held.begun.wait(10)
    assert not plain.wait([ticket], 0.05)
    assert ticket.state == "waiting"
    held.free.set()
    assert plain.wait([ticket], 10)


def test_a_later_write_takes_the_place_of_one_that_waits_and_shares_its_ticket(plain):
    held, done = Held(), []
    plain.put("held", held)
    held.begun.wait(10)
    tickets = [
        plain.put("drawing", lambda: done.append("first stroke")),
        plain.put("label", lambda: done.append("label")),
        plain.put("drawing", lambda: done.append("second stroke")),
    ]
    held.free.set()
    assert plain.wait(tickets, 10)
    assert done == ["second stroke", "label"]
    assert tickets[0] is tickets[2]


@pytest.mark.parametrize("error", [None, ValueError("refused")])
def test_a_write_that_comes_while_its_elder_is_under_way_is_done_next_and_decides_the_ticket(plain, error):
    elder, younger, done = Held(error), Held(), []
    first = plain.put("drawing", elder)
    label = plain.put("label", lambda: done.append(younger.begun.is_set()))
    elder.begun.wait(10)
    second = plain.put("drawing", younger)
    elder.free.set()
    younger.begun.wait(10)
    assert states([first, second]) == ["waiting", "waiting"]  # not saved: the newer state is not in the table yet
    younger.free.set()
    assert plain.wait([first, second, label], 10)
    assert done == [True]


def test_an_elder_that_failed_is_not_tried_again_once_there_is_a_younger_one(plain):
    elder = Held(postgres.DatabaseError("away"))
    first = plain.put("drawing", elder)
    elder.begun.wait(10)
    second = plain.put("drawing", lambda: None)
    elder.free.set()
    until(lambda: plain.wait([first, second], 1))
    assert elder.times == 1


def test_many_sessions_at_once_each_get_their_own_labels(box, db, prediction, keep, label):
    """Twenty sessions, each labelling its own drawings with its own digit while the others do the same."""
    labelled, failures = {}, []

    def session(number):
        for drawing_id in new_ids(10):
            keep(drawing_id, **prediction | {"digit": number % 10})
            saved = keep(drawing_id, **prediction | {"digit": (number + 1) % 10})
            labelled[drawing_id] = number % 10
            if not box.wait([saved, label(drawing_id, number % 10)], 30):
                failures.append(drawing_id)

    all_at_once(session, [(number,) for number in range(20)])
    frame = db.fetch_predictions()
    assert not failures
    assert dict(zip(frame["id"], frame["true_label"], strict=True)) == labelled
    assert ((frame["true_label"] + 1) % 10 == frame["predicted_digit"]).all()


# --- the database is away --------------------------------------------------------------------------------------------


def test_the_database_away_is_said_and_all_lands_when_it_is_back(box, db, prediction, away, keep, label):
    ids = new_ids(20)
    away(True)
    for drawing_id in ids:
        keep(drawing_id, **prediction)
    until(lambda: box.problem)
    tickets = [keep(drawing_id, **prediction | {"digit": 1}) for drawing_id in ids]
    tickets += [label(drawing_id, number % 10) for number, drawing_id in enumerate(ids)]
    assert not box.wait(tickets, 3600)  # at once: the test's time limit is shorter
    assert box.problem == outbox.AWAY
    away(False)
    until(lambda: not box.problem)
    assert box.wait(tickets, 10)
    frame = db.fetch_predictions().set_index("id")
    assert len(frame) == 20
    assert frame.loc[ids, "true_label"].tolist() == [n % 10 for n in range(20)]
    assert set(frame["predicted_digit"]) == {1}


def test_an_outbox_that_starts_without_a_database_finds_it_later_and_makes_the_table(db, away):
    postgres.writes.run("DROP TABLE predictions")
    away(True)
    box = Outbox(db.create_table, db.is_full, first_delay=0.01, max_delay=0.05)
    until(lambda: box.problem)
    away(False)
    until(lambda: not box.problem)
    assert postgres.reads.run("SELECT count(*) FROM predictions").rows == [(0,)]
    box.close(10)


def test_a_write_whose_acknowledgement_was_lost_is_done_again_and_makes_no_second_row(
    box, db, prediction, monkeypatch, keep, label
):
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
    ids = new_ids(10)
    tickets = [keep(drawing_id, **prediction) for drawing_id in ids]
    tickets += [label(drawing_id, number) for number, drawing_id in enumerate(ids)]
    until(lambda: "waiting" not in states(tickets))
    assert len(done) == 40
    assert db.fetch_predictions().set_index("id").loc[ids, "true_label"].tolist() == list(range(10))
    assert len(db.fetch_predictions()) == 10


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
def test_trouble_in_the_server_is_logged_with_advice_and_waited_out(
    box, db, prediction, caplog, code, advice, keep, label
):
    drawing_id, before = new_ids(2)
    assert box.wait([keep(before, **prediction)], 10)  # the table is made
    fail_with(code)
    tickets = [keep(drawing_id, **prediction)]
    until(lambda: box.problem)
    assert advice in caplog.text
    assert "trouble" not in box.problem  # the page says what a visitor can use, the log says the rest
    tickets.append(label(drawing_id, 1))
    postgres.writes.run("DROP TRIGGER fail ON predictions")
    until(lambda: box.wait(tickets, 1))
    assert db.fetch_predictions()["true_label"].dropna().tolist() == [1]


# --- what can never be saved -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "poison",
    [
        {"confidence": 2},
        {"confidence": ...},  # no type that SQL knows
        {"drawing": b"GIF89a"},
        {"unknown": 1},
        {"digit": ...},  # no type that SQL knows
        {"digit": 10**30},
        {"created_at": ...},  # no type that SQL knows
        {"model_version": "a\0b"},
        {"model_version": "\ud800"},
        {"probabilities": None},
    ],
    ids=str,
)
def test_a_drawing_that_can_never_be_saved_does_not_hold_up_the_others(
    box, db, prediction, poison, caplog, keep, label
):
    bad, good = new_ids(2)
    with caplog.at_level(logging.ERROR):
        lost = [keep(bad, **prediction | poison), label(bad, 1)]
        saved = [keep(good, **prediction), label(good, 2)]
        assert box.wait(saved, 10)
        assert not box.wait(lost, 10)
    assert states(lost) == ["lost", "lost"]
    assert f"{bad} prediction is not saved" in caplog.text
    assert db.fetch_predictions()[["id", "true_label"]].values.tolist() == [[good, 2]]


def test_what_the_table_itself_refuses_is_dropped_too(box, prediction, keep):
    """A constraint that db.py knows nothing of."""
    postgres.writes.run("ALTER TABLE predictions ADD CHECK (predicted_digit <> 8)")
    bad, good = new_ids(2)
    lost, saved = keep(bad, **prediction | {"digit": 8}), keep(good, **prediction)
    assert box.wait([saved], 10)
    assert lost.state == "lost"


def test_a_label_whose_row_is_gone_is_lost_and_said_so(box, prediction, keep, label, caplog):
    drawing_id, good = new_ids(2)
    lost, saved = label(drawing_id, 5), keep(good, **prediction)
    assert box.wait([saved], 10)
    assert not box.wait([lost], 3600)  # at once
    assert lost.state == "lost"
    assert f"no drawing {drawing_id} in the table" in caplog.text


def test_a_table_that_was_dropped_takes_the_next_drawing(box, db, prediction, keep, label):
    old, new = new_ids(2)
    assert box.wait([keep(old, **prediction)], 10)
    postgres.writes.run("DROP TABLE predictions")
    gone, saved = label(old, 6), keep(new, **prediction)
    assert box.wait([saved], 10)
    assert gone.state == "lost"
    assert db.fetch_predictions()["id"].tolist() == [new]


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_only_so_many_drawings_may_wait_and_the_rest_are_said_to_be_lost(
    box, db, prediction, away, monkeypatch, keep, label
):
    monkeypatch.setattr(outbox, "MAX_WAITING", 5)
    away(True)
    ids = new_ids(7)
    tickets = [keep(drawing_id, **prediction) for drawing_id in ids]
    assert states(tickets) == ["waiting"] * 5 + ["lost"] * 2
    until(lambda: box.problem == outbox.FULL)
    tickets[5] = label(ids[0], 3)  # of one that waits: there is always room for it
    away(False)
    until(lambda: box.wait(tickets[:6], 1))
    assert sorted(db.fetch_predictions()["id"]) == sorted(ids[:5])
    assert not box.wait(tickets, 0)
    assert box.wait([keep(ids[6], **prediction)], 10)  # its next stroke brings the whole drawing


def test_what_waits_is_bounded_in_bytes(box, db, prediction, away, monkeypatch, keep):
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 600_000)
    monkeypatch.setattr(outbox, "MAX_BYTES", db.MAX_DRAWING_BYTES)
    of = lambda size: prediction | {"drawing": prediction["drawing"].ljust(size)}  # noqa: E731
    away(True)
    ids, most = new_ids(6), outbox.MAX_BYTES
    tickets = [keep(i, **of(size)) for i, size in zip(ids, (100_000, 100_000, most, most, 100_000), strict=False)]
    assert states(tickets) == ["waiting", "waiting", "waiting", "lost", "waiting"]  # for a smaller one there is room
    assert keep(ids[0], **of(150_000)).state == "lost"  # nor is there for so much more of one that waits
    keep(ids[2], **of(1_000))
    assert keep(ids[0], **of(150_000)) is tickets[0]  # now there is
    assert keep(ids[5], **of(most + 1)).state == "lost"
    away(False)
    until(lambda: box.wait([*tickets[:3], tickets[4]], 1))
    sizes = db.fetch_predictions().set_index("id")["drawing"].map(len)
    assert sizes.to_dict() == {ids[0]: 150_000, ids[1]: 100_000, ids[2]: 1_000, ids[4]: 100_000}
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", most)  # all room is free again: a write may take the whole of it
    assert box.wait([keep(ids[0], **of(most))], 10)


def test_a_table_at_its_limit_takes_no_new_drawing_but_finishes_those_it_has(db, prediction, monkeypatch, caplog):
    monkeypatch.setattr(outbox, "FULL_CHECK_SECONDS", 0)
    full = threading.Event()
    box = Outbox(db.create_table, full.is_set)
    put = lambda i, digit, new: box.put(  # noqa: E731
        f"{i} prediction", partial(db.save_prediction, i, **prediction | {"digit": digit}), new=new
    )
    old, new = new_ids(2)
    assert box.wait([put(old, 7, new=True)], 10)
    full.set()
    assert box.wait([put(old, 1, new=False)], 10)
    until(lambda: box.problem == outbox.TABLE_FULL)
    monkeypatch.setattr(outbox, "FULL_CHECK_SECONDS", 3600)
    assert "MAX_TABLE_GB" in caplog.text
    refused = put(new, 7, new=True)
    tickets = [put(old, 2, new=False), box.put(f"{old} label", partial(db.save_label, old, 1))]
    assert refused.state == "lost"
    assert box.wait(tickets, 10)
    assert db.fetch_predictions()[["id", "predicted_digit", "true_label"]].values.tolist() == [[old, 2, 1]]
    full.clear()
    monkeypatch.setattr(outbox, "FULL_CHECK_SECONDS", 0)
    assert put(new, 7, new=True).state == "lost"  # refused still, and the cause of another look
    until(lambda: not box.problem)
    assert box.wait([put(new, 7, new=True)], 10)
    box.close(10)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_closing_writes_what_still_waits(box, db, prediction, keep, label):
    for drawing_id in new_ids(50):
        keep(drawing_id, **prediction)
        label(drawing_id, 9)
    box.close(30)
    assert db.fetch_predictions()["true_label"].tolist() == [9] * 50


def test_closing_while_the_database_is_away_ends_and_says_what_was_not_saved(db, prediction, away, caplog):
    away(True)
    box = Outbox(db.create_table, db.is_full, first_delay=3600)
    ticket = box.put("drawing", lambda: None)
    until(lambda: box.problem)
    box.close(30)  # at once: the next try would be in an hour
    assert "1 writes were not done" in caplog.text
    assert ticket.state == "waiting"  # never called saved, nor lost: it might have been done


def test_what_comes_after_the_end_is_lost(plain):
    plain.close(10)
    assert plain.put("late", lambda: None).state == "lost"
