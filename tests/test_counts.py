"""store/counts.py on a real server: what the insights are made of."""

from datetime import timedelta

import pytest
from helpers import NOON

from store import ledger, postgres
from store.counts import Counter


@pytest.fixture
def counter(db):
    counter = Counter(db)
    yield counter
    counter.close()


def test_the_figures_are_those_of_the_table(save, counter):
    save(0, digit=7, label=7)
    save(1, digit=7, label=1, confidence=0.55)
    save(20, digit=3)
    save(2, digit=4, label=4, version="ab")
    figures = counter.look(patience=20)
    assert figures.answers.values.tolist() == [[1, 7, 6, 1, 0.55], [4, 4, 10, 1, 0.9], [7, 7, 10, 1, 0.9]]
    assert figures.times.values.tolist() == [[NOON, 3, 3, 2], [NOON + timedelta(minutes=15), 1, 0, 0]]
    assert figures.versions.values.tolist() == [
        ["0123456789ab", NOON, 2, 1],
        ["ab", NOON + timedelta(minutes=2), 1, 1],
    ]


def test_versions_come_in_the_order_in_which_they_first_answered(save, counter):
    for minute, version in ((3, "a"), (1, "c"), (2, "b"), (9, "c")):
        save(minute, label=7, version=version)
    assert counter.look(patience=20).versions["version"].tolist() == ["c", "b", "a"]


def test_a_drawing_that_another_version_answers_alike_is_a_change(save, counter):
    drawing_id = save(0, label=7)
    counter.look(patience=20)
    save(0, drawing_id=drawing_id, version="ab")
    assert counter.look(patience=20).versions["version"].tolist() == ["ab"]


def test_an_empty_table_has_figures_of_the_same_types(save, counter):
    empty = counter.look(patience=20)
    save(0, label=7)
    full = counter.look(patience=20)
    assert len(empty.times) == 0 and len(full.times) == 1
    assert empty.times["start"].dtype == full.times["start"].dtype == "datetime64[us, UTC]"
    assert empty.versions["first"].dtype == full.versions["first"].dtype == "datetime64[us, UTC]"


def test_nothing_is_published_while_the_counts_are_the_same(save, counter):
    drawing_id = save(0, label=7)
    first = counter.look(patience=20)
    assert (counter.version, counter.look(patience=20, check=True)) == (1, first)
    news = counter.news
    save(0, drawing_id=drawing_id)  # the same answer once more: news, but the same figures
    assert counter.look(patience=20) is first
    assert counter.version == 1 and counter.news != news
    save(1)
    assert counter.look(patience=20) is not first


def test_a_deleted_row_is_gone_from_the_figures_when_a_page_is_opened(save, counter):
    save(0)
    save(1)
    assert counter.look(patience=20).times["n"].sum() == 2
    postgres.writes.run("DELETE FROM predictions WHERE created_at > %(noon)s", {"noon": NOON})
    assert counter.look(patience=20, check=True).times["n"].sum() == 1


# --- the network that was made last ----------------------------------------------------------------------------------


def test_an_empty_ledger_has_no_latest_network(save, counter):
    save(0)
    assert counter.look(patience=20).latest is None


def test_the_latest_network_is_the_one_that_was_made_last(make_model, counter):
    make_model(b"first")
    second = make_model(b"second", refusal="not better")
    latest = counter.look(patience=20).latest
    assert (latest.version, latest.refusal) == (second, "not better")
    assert latest.served_since is latest.served_until is None


def test_what_becomes_of_it_is_news_with_no_drawing_at_all(db, make_model, counter):
    """From the start until it is served a second time: each is published."""
    states, news = [counter.look(patience=20)], [db.fetch_news()]
    version = make_model(b"one")
    for change in (None, version, None):
        states.append(counter.look(patience=20))
        news.append(db.fetch_news())
        ledger.roll_back(change)
    since = [state.latest.served_since for state in states[1:]]
    assert [state.latest and bool(state.latest.served_until) for state in states] == [None, False, True, False]
    assert since[0] == since[1] == states[1].latest.made_at < states[2].latest.served_until < since[2]
    assert len(set(news)) == 4 and counter.version == 4


def test_what_was_replaced_was_served_until_the_next_was(make_model, db):
    first, second = make_model(b"first"), make_model(b"second")
    newest, older = ledger.fetch_models()
    assert (newest.version, older.version) == (second, first)
    assert older.served_since < older.served_until == newest.served_since
    assert newest.served_until is None


def without_a_ledger(guest):
    postgres.writes.run("DROP TABLE models, models_in_service")


def as_one_who_may_not_read_it(guest):
    guest()


@pytest.fixture
def guest(db, monkeypatch):
    """Has `db` go on as a user who may read the rows, and nothing else."""
    postgres.writes.run("CREATE ROLE guest LOGIN")
    postgres.writes.run("GRANT SELECT ON predictions TO guest")

    def go_on():
        monkeypatch.setenv("POSTGRES_USER", "guest")
        postgres.disconnect()

    yield go_on
    monkeypatch.setenv("POSTGRES_USER", "postgres")
    postgres.disconnect()
    postgres.writes.run("DROP OWNED BY guest; DROP ROLE guest")


@pytest.mark.parametrize("go_on", [without_a_ledger, as_one_who_may_not_read_it])
def test_without_a_ledger_to_read_the_figures_are_shown_all_the_same(save, make_model, counter, guest, go_on):
    save(0, label=7)
    make_model(b"one")
    go_on(guest)
    figures = counter.look(patience=20)
    assert counter.problem is None
    assert figures.versions["labelled"].sum() == 1 and figures.latest is None
