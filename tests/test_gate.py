"""The gate's statistics against numbers worked out by hand, and each margin from both sides."""

import numpy as np
import pytest

from training import gate
from training.gate import Said

rng = np.random.default_rng


def said(right, labels, sure=6.0, none=None, temperature=1.0):
    """What a network says that reads these pictures as labelled, or as the next digit; `sure`: of the logit."""
    read = np.where(right, labels, (labels + 1) % 10)
    logits = np.zeros((len(labels), 10))
    logits[np.arange(len(labels)), read] = sure
    return Said(logits, np.zeros(len(labels)) if none is None else none, temperature)


def test_the_loss_is_that_of_a_label_of_which_one_in_fifty_is_wrong():
    one = Said(np.array([[np.log(9.0), *[0.0] * 9]]), np.array([0.25]), 1.0)
    assert one.of_label(np.array([0])) == pytest.approx(0.75 * 0.5)
    assert one.losses(np.array([0])) == pytest.approx(-np.log(0.98 * 0.375 + 0.002))
    never = Said(np.array([[0.0, *[-1000.0] * 9]]), np.array([1.0]), 1.0)
    assert never.losses(np.array([0])) == pytest.approx(-np.log(0.002))


def test_a_drawing_that_is_turned_away_is_not_read_right():
    labels = np.array([3, 3])
    assert said(True, labels, none=np.array([0.5, 0.51])).right(labels).tolist() == [True, False]


def test_the_permutation_test_turns_the_sign_of_whole_sessions():
    gains, sessions = np.array([1.0] * 8 + [-0.5] * 4), np.repeat([5, 6, 9], 4)
    # Of the 8 ways to sign 4, 4 and -2, those with a sum of 6 and more: 4+4-2, 4+4+2.
    assert gate.permutation_test(gains, sessions) == 2 / 8
    by_drawing = gate.permutation_test(gains, np.arange(12))
    assert by_drawing < 0.05  # who takes each drawing for itself is surer than three sessions allow
    assert gate.permutation_test(-gains, sessions) > 0.5


def test_without_a_difference_the_permutation_test_finds_none():
    assert gate.permutation_test(np.zeros(30), np.arange(30)) == 1
    assert gate.permutation_test(np.full(30, 1e-16), np.arange(30)) == 1


def test_the_permutation_test_errs_as_often_as_its_level_says():
    random = rng(1)
    chances = [
        gate.permutation_test(random.normal(size=60) + np.repeat(random.normal(size=12), 5), np.repeat(range(12), 5))
        for _ in range(300)
    ]
    assert 0.02 < np.mean(np.array(chances) <= 0.05) < 0.09


@pytest.mark.parametrize(("gained", "lost", "p"), [(0, 0, 1), (5, 0, 0.0625), (8, 2, 0.109375), (3, 3, 1)])
def test_mcnemar_is_exact(gained, lost, p):
    assert gate.mcnemar(gained, lost) == pytest.approx(p)
    assert gate.mcnemar(lost, gained) == pytest.approx(p)


def test_the_bound_of_the_loss_goes_by_images_not_by_their_redrawings():
    before, after = np.ones(100, bool), np.ones(100, bool)
    after[:2] = False  # of one image, both redrawings
    mean, bound = gate.paired_loss(before, after, np.repeat(range(50), 2))
    assert mean == pytest.approx(0.02)
    assert bound == pytest.approx(0.02 + 1.645 * np.sqrt(0.02 * 0.98 * 50 / 49) / np.sqrt(50))
    assert gate.paired_loss(before, after, np.arange(100))[1] < bound
    assert gate.paired_loss(after, before, np.arange(100))[0] == pytest.approx(-0.02)


def test_the_best_temperature_makes_a_modest_network_no_better_than_a_proud_one():
    labels = np.arange(1000) % 10
    right = np.arange(1000) % 20 != 0
    proud, modest = (gate.at_its_best(said(right, labels, sure=s), labels) for s in (12.0, 3.0))
    assert proud.losses(labels).mean() == pytest.approx(modest.losses(labels).mean(), rel=0.01)
    assert proud.temperature > 2 * modest.temperature


def test_where_labels_are_random_no_network_wins_by_being_modest():
    labels, sessions = rng(0).integers(10, size=2000), np.arange(2000) // 10
    proud = Said(20 * rng(1).normal(size=(2000, 10)), np.zeros(2000), 1.0)
    both = [gate.at_its_best(s, labels) for s in (proud, proud._replace(logits=proud.logits / 2))]
    checks, _ = gate.better_for_visitors(*both, rng(2).integers(10, size=2000), sessions, 0)
    assert not checks[0].holds


def visitors(old_right, new_right, tries=0):
    labels = np.arange(200) % 10
    old, new = said(old_right, labels, sure=4.0), said(new_right, labels, sure=4.0)
    checks, figures = gate.better_for_visitors(old, new, labels, np.arange(200) // 10, tries)
    return [check.holds for check in checks], checks, figures


def test_a_challenger_that_reads_more_is_better_for_visitors():
    number = np.arange(200)
    holds, _, figures = visitors(number % 10 > 1, number % 10 > 0)
    assert holds == [True, True]
    assert (figures["gained"], figures["lost"], figures["sessions"], figures["level"]) == (20, 0, 20, 0.05)
    assert figures["of each digit"] == [[20] * 10, [0, 0, *[20] * 8], [0, *[20] * 9]]  # drawings, right before, after


def test_one_better_session_is_chance_however_many_drawings_it_has():
    number = np.arange(200)
    holds, checks, _ = visitors(number >= 10, number >= 0)
    assert holds == [False, True]
    assert checks[0].refusal.startswith("not better for visitors beyond chance (p 0.")


def test_each_try_halves_the_level():
    number = np.arange(200)
    few = (number % 10 > 0) | (number >= 60), number >= 0  # six sessions of twenty: p is 1 / 64
    assert [visitors(*few, tries=tries)[0][0] for tries in (0, 1, 2, 6)] == [True, True, False, False]
    assert visitors(*few, tries=3)[2]["level"] == 0.05 / 8


def test_after_many_tries_a_challenger_that_is_better_in_all_sessions_still_passes():
    holds, _, figures = visitors(np.zeros(200, bool), np.ones(200, bool), tries=12)
    assert holds == [True, True] and figures["p"] < figures["level"] == 0.05 / 2**12


@pytest.mark.parametrize("tries", [0, 1, 5, 12, 40])
def test_the_least_number_of_sessions_is_that_with_which_the_best_challenger_passes(tries):
    least = gate.least_sessions(tries)
    for sessions, passes in ((least, True), (least - 1, False)):
        chance = gate.permutation_test(np.ones(sessions), np.arange(sessions))
        assert (chance <= 0.05 / 2**tries) is passes


def test_fewer_read_right_is_refused_whatever_the_log_loss():
    labels = np.arange(200) % 10
    old = said(True, labels, sure=0.1)  # all right, hardly sure
    new = said(np.arange(200) % 50 > 0, labels, sure=6.0)  # a few wrong, else very sure
    checks, _ = gate.better_for_visitors(old, new, labels, np.arange(200) // 10, 0)
    assert [check.holds for check in checks] == [True, False]
    assert checks[1].refusal == "reads 4 fewer of the visitors' drawings right"


N = 10_000


def others(new_wrong=0, sure=9.0, away=0, areas=(0.99, 0.99)):
    """The checks on N pictures of as many images, of which the network in service misreads ten."""
    labels, number = np.arange(N) % 10, np.arange(N)
    old = said(number >= 10, labels, sure=9.0, none=(number < 20) * 0.9)
    new = said(number >= 10 + new_wrong, labels, sure=sure, none=(number < 20 + away) * 0.9)
    checks, _ = gate.no_worse_for_others(old, new, labels, number, areas)
    return {check.what.removeprefix("others: "): check.holds for check in checks}


def test_the_same_network_is_no_worse():
    assert all(others().values())


@pytest.mark.parametrize(
    ("what", "passes", "fails"),
    [
        ("accuracy %", {"new_wrong": 12}, {"new_wrong": 16}),  # 0.12 and 0.16 points, and 1.645 standard errors
        ("log-loss", {"new_wrong": 8}, {"new_wrong": 14}),  # nine nats each
        ("confidence %", {"sure": 8.5}, {"sure": 7.5}),  # 99.8 and 99.5 %, of 99.9 right
        ("confidence %", {"sure": 14, "new_wrong": 9}, {"sure": 14, "new_wrong": 11}),  # of 99.81 and 99.79 right
        ("digits turned away %", {"away": 10}, {"away": 11}),
        ("area of what is none", {"areas": (0.99, 0.9851)}, {"areas": (0.99, 0.9849)}),
    ],
)
def test_each_margin_lets_pass_what_is_within_and_nothing_else(what, passes, fails):
    assert others(**passes)[what]
    assert not others(**fails)[what]
