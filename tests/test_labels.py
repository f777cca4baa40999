"""What is learnt from, and what is not: sessions, who judges, and labels that nobody believes."""

import hashlib
import uuid
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import SEVEN, png

from training import labels
from training.labels import NO_SESSION, TooFew, doubtful, folds, gather, split
from utils import encode_png

DRAWN = png(SEVEN)


class Row(NamedTuple):
    id: str
    session: str | None
    true_label: int
    drawing: bytes = DRAWN


def rows(*sessions, label=7):
    """A row for each session named, in this order."""
    return [Row(str(uuid.uuid4()), session, label) for session in sessions]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(labels, "LEAST_DRAWINGS", 1)
    monkeypatch.setattr(labels, "LEAST_SESSIONS", 1)


def test_a_picture_is_what_preprocess_makes_of_the_stored_drawing(few):
    one = gather(rows("a"))
    assert one.pictures.shape == (1, 1, 28, 28) and one.labels.tolist() == [7]
    assert 0.5 < float(one.pictures.max()) <= 1


def test_which_drawings_and_labels_they_are_can_be_checked_whatever_their_order(few):
    given = [Row("b", "s", 7), Row("a", "s", 1)]
    expected = hashlib.sha256(b"a 1\nb 7\n").hexdigest()
    assert gather(given).sha256() == gather(given[::-1]).sha256() == expected
    assert gather([given[0], Row("a", "s", 2)]).sha256() != expected


def test_of_one_session_the_first_fifty_are_learnt_from(few):
    given = rows(*["joker"] * 60, "a")
    taken = gather(given)
    assert taken.ids == [row.id for row in [*given[:50], given[60]]]


def test_rows_without_a_session_are_not_one_session(few):
    assert len(gather(rows("a", *[None] * 60)).ids) == 61


def test_what_cannot_be_read_or_holds_no_ink_is_left_out(few):
    black = encode_png(np.zeros((280, 280), np.uint8))
    given = [*rows("a"), Row("1", "a", 3, b"\x89PNG, broken"), Row("2", "a", 3, black)]
    assert gather(given).ids == [given[0].id]


@pytest.mark.parametrize(("sessions", "each"), [(19, 6), (20, 4)])
def test_too_little_is_said_with_what_there_is(sessions, each):
    given = rows(*[str(s) for s in range(sessions) for _ in range(each)])
    with pytest.raises(TooFew, match=f"{sessions * each} labelled drawings of {sessions} sessions are too few"):
        gather(given)


def test_a_hundred_drawings_of_twenty_sessions_are_enough():
    assert len(gather(rows(*[str(s) for s in range(20) for _ in range(5)])).ids) == 100


def test_the_newest_three_tenths_of_the_sessions_judge_and_rows_without_one_only_train(few):
    first = [str(s) for s in range(10)]
    given = rows(None, *first, None, *reversed(first), None)  # every session comes back, in another order
    trained_on, judge = split(gather(given))
    assert judge.sessions.unique().tolist() == [7, 8, 9] and len(judge.ids) == 6
    assert sorted(judge.ids) == sorted(row.id for row in given if row.session in ("7", "8", "9"))
    assert trained_on.sessions.tolist().count(NO_SESSION) == 3
    assert len(trained_on.ids) + len(judge.ids) == len(given)


def test_a_session_is_in_one_fold_and_rows_without_one_are_in_all(few):
    taken = gather(rows("a", "b", "a", "c", None, None, "b"))
    fold = folds(taken)
    for session in (0, 1, 2):
        assert len(fold[taken.sessions == session].unique()) == 1
    assert fold.unique().tolist() == [0, 1] == sorted(fold[taken.sessions == NO_SESSION].tolist())


def test_a_label_is_set_aside_if_both_networks_deny_it():
    served = np.array([0.009, 0.009, 0.011, 0.5] + [0.9] * 40)
    other = np.array([0.009, 0.011, 0.009, 0.5] + [0.9] * 40)
    denied, aside = doubtful(served, other)
    assert denied.nonzero().tolist() == aside.nonzero().tolist() == [[0]]


def test_if_more_than_one_label_in_twenty_is_denied_all_are_kept():
    for denials, kept in ((2, False), (3, True)):
        of_label = np.array([0.001] * denials + [0.9] * (40 - denials))
        denied, aside = doubtful(of_label, of_label)
        assert int(denied.sum()) == denials
        assert bool((aside == torch.zeros(40, dtype=torch.bool)).all()) is kept
