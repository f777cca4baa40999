"""store/ledger.py on a real server: what is entered, what is in service, and that every process follows it."""

import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import networks
import pytest
import torch
from chaos import App
from helpers import SEVEN, all_at_once, png, until
from networks import enter, now
from test_serve import ask
from visitor import Visitor

from model import Served
from store import ledger, postgres

ROOT = Path(__file__).parent.parent
PUT = """
    INSERT INTO models (version, sha256, weights, parent, command, learnt_from, figures)
    VALUES (left(%(sha256)s, 12), %(sha256)s, %(weights)s, 'p', 'c', '{}', '{}')
"""


def put_into_service(weights, sha256):
    """Past all checks: weights that are perhaps not those of this SHA-256. Returns their version."""
    postgres.writes.run(PUT, {"sha256": sha256, "weights": weights})
    ledger.roll_back(sha256[:12])
    return sha256[:12]


# --- what is entered -------------------------------------------------------------------------------------------------


def test_an_empty_ledger_names_no_network_so_that_model_pth_serves(db):
    assert (ledger.in_service(), ledger.tries(), ledger.fetch_models()) == (None, 0, [])


def test_a_network_without_a_refusal_is_in_service_and_comes_back_as_it_was(db):
    weights = networks.weights(1)
    version = enter(weights)
    assert version == ledger.in_service() == networks.version(weights)
    assert ledger.fetch_weights(version) == (networks.sha256(weights), weights)
    (model,) = ledger.fetch_models()
    assert (model.version, model.parent, model.command) == (version, "0123456789ab", "python learn.py")
    assert (model.learnt_from, model.figures, model.refusal) == ({"rows": 3}, {"errors": [1, 2]}, None)
    assert model.served_since == model.made_at  # of one transaction
    assert model.verdict(version) == "in service" != model.verdict(None)


def test_a_refused_network_is_kept_with_the_reason_and_is_not_in_service(db):
    enter(b"first")
    enter(b"second", refusal="no better")
    assert ledger.in_service() == networks.version(b"first")
    second, _ = ledger.fetch_models()
    assert (second.verdict(ledger.in_service()), second.served_since) == ("refused: no better", None)


def test_tries_count_what_was_made_since_the_last_promotion_that_was_not_rolled_back(db):
    for name in (b"a", b"b"):
        enter(name, refusal="no better")
    assert ledger.tries() == 2
    enter(b"c")
    assert ledger.tries() == 0
    enter(b"d", refusal="no better")
    assert ledger.tries() == 1
    late = enter(b"e")
    assert ledger.tries() == 0
    ledger.roll_back(None)
    assert ledger.tries() == 2  # d and e
    ledger.roll_back(late)
    assert ledger.tries() == 0
    ledger.roll_back(None)
    enter(b"f", refusal="no better")
    assert ledger.tries() == 3
    enter(b"g")
    assert ledger.tries() == 0


@pytest.mark.parametrize("refusal", [None, "no better"])
def test_what_is_compared_with_a_ledger_that_has_changed_since_is_not_entered(db, refusal):
    expected = now()
    enter(b"another's", refusal=refusal)
    before = now()
    with pytest.raises(ledger.Overtaken, match="run learn.py again"):
        enter(b"ours", expected=expected)
    assert now() == before and len(ledger.fetch_models()) == 1


@pytest.mark.parametrize("refusal", [None, "no better"])
def test_to_enter_a_network_again_changes_nothing(db, refusal):
    """As after an error that left open whether it was done; with what was expected then."""
    expected = now()
    enter(b"ours", refusal, expected)
    ledger.roll_back(None)
    before = ledger.fetch_models(), now()
    assert enter(b"ours", refusal, expected) == networks.version(b"ours")
    assert (ledger.fetch_models(), now()) == before


def test_of_two_that_are_entered_at_once_one_is_and_the_other_is_overtaken(db):
    expected, said = now(), []

    def try_to(weights):
        try:
            said.append(enter(weights, expected=expected))
        except ledger.Overtaken:
            said.append(None)

    all_at_once(try_to, [(bytes([i]),) for i in range(8)])
    (entered,) = filter(None, said)
    assert len(said) == 8 and ledger.in_service() == entered
    assert [model.version for model in ledger.fetch_models()] == [entered]


def test_a_rollback_puts_an_earlier_network_into_service_or_model_pth(db):
    first, second = enter(b"first"), enter(b"second")
    ledger.roll_back(first)
    assert ledger.in_service() == first
    assert {m.version: m.verdict(first) for m in ledger.fetch_models()} == {
        first: "in service",
        second: "promoted, and replaced or rolled back since",
    }
    ledger.roll_back(None)
    assert ledger.in_service() is None
    with pytest.raises(db.DatabaseError, match=r"no model '0123456789ab'.*learn\.py --list"):
        ledger.roll_back("0123456789ab")
    with pytest.raises(db.DatabaseError, match=r"no model '0123456789ab'.*learn\.py --list"):
        ledger.fetch_weights("0123456789ab")


def test_no_rollback_puts_a_refused_network_into_service(db):
    first, refused = enter(b"first"), enter(b"second", refusal="no better")
    with pytest.raises(db.DatabaseError, match=f"model {refused} was refused, and stays out of service: no better"):
        ledger.roll_back(refused)
    assert ledger.in_service() == first


def test_of_a_network_in_service_the_list_says_so_first_whatever_its_gate_said(db):
    """As one that a release before this one let be rolled back to."""
    version = enter(b"refused", refusal="no better")
    (model,) = ledger.fetch_models()
    assert (model.verdict(version), model.verdict(None)) == ("in service", "refused: no better")


def test_the_first_to_be_entered_makes_the_ledger_where_there_is_none(db):
    postgres.writes.run("DROP TABLE predictions, predictions_schema, models, models_in_service")
    with pytest.raises(postgres.TableMissing):
        ledger.in_service()
    assert enter(b"first", expected=(None, 0)) == ledger.in_service()


KILLED = """
import os, signal
from store import ledger, postgres
execute, at = postgres._execute, {at}
def killed_at(conn, sql, *others):
    if sql == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(conn, sql, *others)
postgres._execute = killed_at
ledger.enter(b"ours", parent="p", command="c", learnt_from={{}}, figures={{}}, refusal=None, expected=(None, 0))
"""


@pytest.mark.parametrize("at", ["ledger.ENTER", "ledger.SERVE", "'COMMIT'"])
def test_who_is_killed_in_the_middle_leaves_nothing_and_holds_up_nobody(db, at):
    done = subprocess.run([sys.executable, "-c", KILLED.format(at=at)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (ledger.in_service(), ledger.fetch_models()) == (None, [])
    assert enter(b"ours") == ledger.in_service()


@pytest.mark.parametrize(
    ("column", "value"),
    [("version", "0123456789ab"), ("sha256", "0" * 64), ("weights", b""), ("parent", None), ("figures", None)],
)
def test_the_table_itself_refuses_what_no_network_is(db, column, value):
    version = enter(b"ours")
    with pytest.raises(postgres.Refused):
        postgres.writes.run(f"UPDATE models SET {column} = %(value)s", {"value": value})  # noqa: S608
    assert ledger.fetch_weights(version)[1] == b"ours"


# --- who follows it --------------------------------------------------------------------------------------------------


@pytest.fixture
def follow(db, monkeypatch):
    """Begins to follow the ledger; returns (what answers, a list of the versions that were taken up)."""
    monkeypatch.setattr(ledger, "ASK_SECONDS", 0.02)
    followers = []

    def begin():
        served, taken_up = Served(), []

        def take_up(weights, sha256):
            taken_up.append(sha256[:12] or None)
            served.take_up(weights, sha256)

        followers.append(ledger.Follower(take_up))
        return served, taken_up

    yield begin
    for follower in followers:
        follower.close()
    until(lambda: "the models" not in {thread.name for thread in threading.enumerate()})


def asked_again():
    """Wait until whoever follows has asked several times more."""
    time.sleep(0.5)


def test_what_is_in_service_is_taken_up_once_and_so_is_model_pth_after_a_rollback(follow):
    served, taken_up = follow()
    plain = served.network().version
    first = enter(networks.weights(1))
    until(lambda: served.network().version == first)
    second = enter(networks.weights(2))
    until(lambda: served.network().version == second)
    ledger.roll_back(first)
    until(lambda: served.network().version == first)
    ledger.roll_back(None)
    until(lambda: served.network().version == plain)
    asked_again()
    assert taken_up == [first, second, first, None]


def test_who_begins_later_takes_up_what_is_in_service_and_nothing_of_an_empty_ledger(follow):
    _, nothing = follow()
    asked_again()
    assert nothing == []
    version = enter(networks.weights(1))
    served, taken_up = follow()
    until(lambda: served.network().version == version)
    assert taken_up == [version]


def wrong(kind):
    """(weights, SHA-256) that cannot be taken up."""
    good = networks.weights(2)
    if kind == "damaged":
        return networks.damaged(good), networks.sha256(good)
    if kind == "of another SHA-256":
        return good, networks.sha256(b"another's")
    newer = networks.saved(torch.nn.Linear(2, 2).state_dict())
    return newer, networks.sha256(newer)


WRONG = ["damaged", "of another SHA-256", "of a newer release"]


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_taken_up_is_logged_once_and_what_was_goes_on_until_the_next(follow, caplog, kind):
    served, taken_up = follow()
    first = enter(networks.weights(1))
    until(lambda: taken_up == [first])
    bad = put_into_service(*wrong(kind))
    until(lambda: taken_up == [first, bad])
    asked_again()
    assert served.network().version == first
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert bad in record.getMessage() and "goes on as before" in record.getMessage() and record.exc_info
    ledger.roll_back(None)
    until(lambda: served.network().version not in (first, bad))
    assert taken_up == [first, bad, None]  # and no second time


def troubles(caplog):
    """What the log says beside the networks that are in service."""
    return [message for message in caplog.messages if "is in service" not in message]


def test_while_the_database_is_away_what_was_in_service_goes_on_and_the_log_says_it_once(follow, away, caplog):
    served, _ = follow()
    first = enter(networks.weights(1))
    until(lambda: served.network().version == first)
    away(True)
    until(lambda: postgres.disconnect() or troubles(caplog))  # a question under way had kept its connection
    asked_again()
    assert served.network().version == first
    (said,) = troubles(caplog)
    assert said.startswith("the models: PostgreSQL at /nowhere") and said.endswith("it is tried again")
    away(False)
    second = enter(networks.weights(2))
    until(lambda: served.network().version == second)
    assert troubles(caplog) == [said, "the models: read again"]


def test_tables_that_are_dropped_change_nothing_and_the_log_says_it_once(follow, caplog):
    served, _ = follow()
    first = enter(networks.weights(1))
    until(lambda: served.network().version == first)
    postgres.writes.run("DROP TABLE models, models_in_service")
    until(lambda: troubles(caplog))
    asked_again()
    (said,) = troubles(caplog)
    assert 'relation "models_in_service" does not exist' in said
    assert served.network().version == first


def test_tables_that_are_not_there_yet_are_no_trouble(follow, caplog):
    postgres.writes.run("DROP TABLE models, models_in_service")
    follow()
    asked_again()
    assert caplog.messages == []


@pytest.mark.parametrize("rights", ["", "GRANT SELECT ON models_in_service TO guest"])
def test_a_user_who_may_not_read_the_ledger_serves_model_pth_and_the_log_says_it_once(
    follow, monkeypatch, caplog, rights
):
    enter(networks.weights(1))
    postgres.writes.run(f"CREATE ROLE guest LOGIN; {rights}")
    try:
        monkeypatch.setenv("POSTGRES_USER", "guest")
        postgres.disconnect()
        _, taken_up = follow()
        until(lambda: troubles(caplog))
        asked_again()
        (said,) = troubles(caplog)
        assert "permission denied for table models" in said and "grant POSTGRES_USER" in said
        assert taken_up == []
    finally:
        monkeypatch.setenv("POSTGRES_USER", "postgres")
        postgres.disconnect()
        postgres.writes.run("DROP OWNED BY guest; DROP ROLE guest")


def test_who_follows_does_not_wait_for_slow_readers(follow):
    version = enter(networks.weights(1))

    def read():
        with contextlib.suppress(postgres.DatabaseError):  # it is ended below
            postgres.reads.run("SELECT pg_sleep(600)")

    reading = [threading.Thread(target=read) for _ in range(2)]
    for thread in reading:
        thread.start()
    asleep = "FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"
    until(lambda: postgres.writes.run(f"SELECT {asleep}").rowcount == 2)
    served, _ = follow()
    until(lambda: served.network().version == version, 20)
    assert all(thread.is_alive() for thread in reading)
    postgres.writes.run(f"SELECT pg_cancel_backend(pid) {asleep}")
    for thread in reading:
        thread.join()


# --- the real app ----------------------------------------------------------------------------------------------------


def answering(app):
    """The version of the network that answers, asked of the real process."""
    said = until(lambda: (answer := ask(app.address, png(SEVEN)))[0] == 200 and answer[2])
    return said["model_version"]


def until_answers(version, *apps):
    for app in apps:
        until(lambda: answering(app) == version, otherwise=lambda: app.log.read_text()[-2000:])  # noqa: B023


def test_a_page_that_is_open_reads_by_the_network_in_service_and_its_rows_say_which(db, app):
    visitor, versions, ids = Visitor(app.address), [answering(app)], []

    def draw():
        visitor.draw(png(SEVEN))
        ids.append(visitor.drawing_id)
        assert visitor.text("answer_digit") == "7"
        until(lambda: visitor.look_again() or visitor.saved)
        visitor.clear()

    draw()
    for seed in (1, 2):
        versions.append(enter(networks.weights(seed)))
        until_answers(versions[-1], app)
        draw()
    ledger.roll_back(None)
    until_answers(versions[0], app)
    draw()
    visitor.close()
    assert visitor.errors == []
    rows = db.fetch_predictions().set_index("id")
    assert [rows.loc[i, "model_version"] for i in ids] == [*versions, versions[0]]
    assert len({rows.loc[i, "confidence"] for i in ids}) == 3


def test_what_cannot_be_taken_up_or_read_is_in_the_log_and_the_process_answers_on(db, app):
    first = enter(networks.weights(1))
    until_answers(first, app)
    for kind in WRONG:
        bad = put_into_service(*wrong(kind))
        until(lambda: f"{bad} is in service, but not in this process" in app.log.read_text())  # noqa: B023
        assert answering(app) == first
    postgres.writes.run("DROP TABLE models, models_in_service")
    until(lambda: 'relation "models_in_service" does not exist' in app.log.read_text())
    assert answering(app) == first


def test_every_process_takes_it_up_those_that_start_later_too_and_starts_without_a_database(db, app, server, tmp_path):
    away = App(tmp_path / "away.log", **server | {"POSTGRES_HOST": "/nowhere"})
    later = App(tmp_path / "later.log", **server)
    try:
        version = enter(networks.weights(1))
        for each in (away, later):
            each.wait_until_up()
        until_answers(version, app, later)
        until_answers(networks.version(networks.MODEL.read_bytes()), away)
        assert "the models: PostgreSQL at /nowhere" in away.log.read_text()
        ledger.roll_back(None)
        until_answers(networks.version(networks.MODEL.read_bytes()), app, later)
    finally:
        for each in (away, later):
            each.kill()
