"""store/ledger.py on a real server: what is entered, and what is in service."""

import signal
import subprocess
import sys
from pathlib import Path

import networks
import pytest
from helpers import all_at_once

from store import ledger, postgres

ROOT = Path(__file__).parent.parent


def now():
    """What a gate that begins at this moment expects to find when it ends."""
    return ledger.in_service(), ledger.tries()


def enter(weights, refusal=None, expected=None):
    return ledger.enter(
        weights,
        parent="0123456789ab",
        command="python learn.py",
        learnt_from={"rows": 3},
        figures={"errors": [1, 2]},
        refusal=refusal,
        expected=expected or now(),
    )


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


def test_tries_count_what_was_refused_since_the_last_promotion_and_no_rollback_begins_anew(db):
    for name in (b"a", b"b"):
        enter(name, refusal="no better")
    assert ledger.tries() == 2
    enter(b"c")
    assert ledger.tries() == 0
    enter(b"d", refusal="no better")
    ledger.roll_back(None)
    assert ledger.tries() == 1


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
    with pytest.raises(db.DatabaseError, match=r"no model 0123456789ab.*learn\.py --list"):
        ledger.roll_back("0123456789ab")
    with pytest.raises(db.DatabaseError, match=r"no model 0123456789ab.*learn\.py --list"):
        ledger.fetch_weights("0123456789ab")


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
