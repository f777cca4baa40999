"""store/counts.py on a real server: what the insights are made of."""

from datetime import timedelta

import pytest
from helpers import NOON

from store import postgres
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
