"""store/snapshot.py on a real server: the one copy of the table that all visitors share."""

import base64
import io
import uuid
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from helpers import NOON, png, until
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from store import postgres, snapshot
from store.snapshot import Snapshot, merge
from store.table import HistoryRow


@pytest.fixture
def shared(db):
    shared = Snapshot(db)
    yield shared
    shared.close()


def seven(x=60, y=40):
    """A PNG of the canvas with a seven whose corner is at (x, y)."""
    return png([(x, y), (x + 120, y), (x + 50, y + 180)])


def ids(view):
    return view.table["id"].to_pylist()


def pixels(url):
    kind, data = url.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"), dtype=float)


def to_arrow(rows):
    return snapshot.to_arrow(rows, lambda drawing: None)


def test_the_newest_drawing_is_first_whenever_it_was_saved(save, shared):
    middle, newest, oldest = save(5), save(9, label=7), save(1, label=2)
    view = shared.look(patience=20)
    assert ids(view) == [newest, middle, oldest]
    assert view.table["verdict"].to_pylist() == ["right", None, "✗ wrong"]
    assert view.counts == (3, 2, 1)
    assert view.complete


def test_a_thumbnail_shows_its_drawing_small(save, shared):
    save(1, drawing=seven(x=20, y=20))
    save(2, drawing=seven(x=120, y=60))
    right, left = (pixels(url) for url in shared.look(patience=20).table["picture"].to_pylist())
    assert right.shape == left.shape == (28, 28)
    for small, drawing in ((left, seven(x=20, y=20)), (right, seven(x=120, y=60))):
        whole = Image.open(io.BytesIO(drawing)).convert("L")
        large = np.asarray(whole.resize((28, 28), Image.Resampling.BOX), dtype=float)
        assert np.abs(small - large).mean() < 8


def test_a_row_that_came_without_a_thumbnail_gets_one(save, shared):
    save(1)
    postgres.writes.run("UPDATE predictions SET thumbnail = NULL")
    (url,) = shared.look(patience=20).table["picture"].to_pylist()
    assert pixels(url).shape == (28, 28)


def test_a_drawing_that_cannot_be_read_has_no_thumbnail_and_harms_no_other(db, save, prediction, shared):
    good = save(1)
    db.save_prediction(bad := str(uuid.uuid4()), **prediction)
    table = shared.look(patience=20).table
    pictures = dict(zip(table["id"].to_pylist(), table["picture"].to_pylist(), strict=True))
    assert pictures[bad] is None
    assert pictures[good]


def test_a_second_visitor_costs_no_second_read_of_the_table(db, save, monkeypatch, shared):
    save(1)
    pages = []
    fetch_page = db.fetch_page
    monkeypatch.setattr(db, "fetch_page", lambda *a, **k: pages.append(1) or fetch_page(*a, **k))
    first = shared.look(patience=20, check=True)
    second = shared.look(patience=20, check=True)
    assert len(pages) == 1
    assert second is first


def test_what_was_saved_since_is_there_at_the_next_look(db, save, shared):
    assert shared.look(patience=20).counts == (0, 0, 0)
    one = save(1)
    assert ids(shared.look(patience=20)) == [one]
    two = save(2, digit=3)
    assert ids(shared.look(patience=20)) == [two, one]
    db.save_label(one, 7)
    assert shared.look(patience=20).counts == (2, 1, 1)
    save(2, digit=5, drawing_id=two)
    assert shared.look(patience=20).table["read"].to_pylist() == ["5", "7"]
    save(2, digit=5, confidence=0.2, not_a_digit=0.8, drawing_id=two)  # a further stroke made it a scribble
    assert shared.look(patience=20).table["read"].to_pylist() == ["no digit", "7"]


def test_a_row_that_becomes_visible_late_is_not_missed(save, shared):
    save(1)
    shared.look(patience=20)
    late = save(2)
    half_a_minute = "UPDATE predictions SET updated_at = updated_at - interval '30 s' WHERE id = %(id)s"
    postgres.writes.run(half_a_minute, {"id": late})
    assert ids(shared.look(patience=20))[0] == late


def test_a_row_from_a_clock_that_was_fast_does_not_hide_what_follows(save, shared):
    fast = save(1)
    tomorrow = "UPDATE predictions SET updated_at = now() + interval '1 day' WHERE id = %(id)s"
    postgres.writes.run(tomorrow, {"id": fast})
    assert ids(shared.look(patience=20)) == [fast]
    two = save(2)
    assert ids(shared.look(patience=20)) == [two, fast]
    postgres.writes.run(tomorrow, {"id": two})
    shared.look(patience=20)
    three = save(3)
    assert ids(shared.look(patience=20)) == [three, two, fast]


def test_a_deleted_row_is_gone_when_a_page_is_opened(save, shared):
    kept, deleted = save(1), save(2)
    assert ids(shared.look(patience=20)) == [deleted, kept]
    postgres.writes.run("DELETE FROM predictions WHERE id = %(id)s", {"id": deleted})
    assert ids(shared.look(patience=20, check=True)) == [kept]


def test_a_deleted_row_is_gone_even_if_as_many_were_added(save, shared):
    deleted = save(1)
    assert ids(shared.look(patience=20)) == [deleted]
    postgres.writes.run("DELETE FROM predictions WHERE id = %(id)s", {"id": deleted})
    added = save(2)
    assert ids(shared.look(patience=20, check=True)) == [added]


def test_a_label_taken_back_by_hand_is_gone_when_a_page_is_opened(save, shared):
    save(1, label=7)
    assert shared.look(patience=20).counts == (1, 1, 1)
    postgres.writes.run("UPDATE predictions SET true_label = NULL, labelled_at = NULL")
    assert shared.look(patience=20, check=True).counts == (1, 0, 0)


def test_more_news_than_a_page_is_not_cut_off(save, monkeypatch, shared):
    monkeypatch.setattr(snapshot, "PAGE", 4)
    shared.look(patience=20)
    added = [save(i) for i in range(10)]
    assert ids(shared.look(patience=20)) == added[::-1]


def test_the_copy_is_never_in_many_pieces(shared):
    one = to_arrow([HistoryRow(str(uuid.uuid4()), NOON, NOON, 7, 0.9, 0.0, None, None)])
    for _ in range(200):
        shared._show(pa.concat_tables([shared.view.table, one]), True)
    assert shared.view.table["id"].num_chunks <= 65 and len(shared.view.table) == 200


def test_older_rows_follow_page_by_page_and_none_is_missed_or_doubled(db, save, monkeypatch, shared):
    monkeypatch.setattr(snapshot, "PAGE", 4)
    monkeypatch.setattr(snapshot, "FIRST_PAGE", 2)
    rows = [save(i // 3) for i in range(15)]  # three of each minute
    fetch_page = db.fetch_page

    def page_while_people_go_on(before=None, *more, **how):
        if before:
            db.save_label(rows[0], 7)  # of the last page
            save(60)
        return fetch_page(before, *more, **how)

    monkeypatch.setattr(db, "fetch_page", page_while_people_go_on)
    shared.look(patience=20)
    until(lambda: shared.view.complete)
    view = shared.look(patience=20)
    expected = db.fetch_predictions()
    assert ids(view) == expected["id"].tolist()
    assert view.counts[1] == 1


def test_pictures_are_kept_of_the_newest_rows_only(save, monkeypatch, shared):
    monkeypatch.setattr(snapshot, "PAGE", 4)
    monkeypatch.setattr(snapshot, "FIRST_PAGE", 4)
    monkeypatch.setattr(snapshot, "PICTURES", 8)
    for i in range(12):
        save(i)
    shared.look(patience=20)
    until(lambda: shared.view.complete)
    assert [picture is not None for picture in shared.view.table["picture"].to_pylist()] == [True] * 8 + [False] * 4


def test_the_last_copy_stays_while_the_database_is_away_and_goes_on_afterwards(save, away, shared):
    one = save(1)
    shared.look(patience=20)
    away(True)
    assert ids(shared.look(patience=20)) == [one]
    assert shared.problem.startswith("The database cannot be read")
    away(False)
    two = save(2)
    until(lambda: ids(shared.look()) == [two, one] and shared.problem is None)


rows = some.tuples(
    some.integers(0, 40).map(lambda i: str(uuid.UUID(int=i))),
    some.integers(0, 9),
    some.none() | some.integers(0, 9),
)


@given(some.lists(rows, unique_by=lambda row: row[0]), some.lists(rows, min_size=1, unique_by=lambda row: row[0]))
@settings(max_examples=200, deadline=None)
def test_merging_news_is_the_same_as_reading_the_table_anew(old, news):
    def whole(row):  # several drawings begin in the same minute
        drawing_id, digit, label = row
        when = NOON + timedelta(minutes=uuid.UUID(drawing_id).int // 3)
        return HistoryRow(drawing_id, when, NOON, digit, 0.3, 0.6 if digit < 3 else 0.1, label, None)

    anew = {row[0]: row for row in old} | {row[0]: row for row in news}
    expected = to_arrow([whole(row) for row in anew.values()])
    assert merge(to_arrow([whole(row) for row in old]), to_arrow([whole(row) for row in news])).equals(expected)


@pytest.mark.parametrize("changes", [0, 1])
def test_a_look_reads_rows_only_if_there_is_news(db, save, shared, monkeypatch, changes):
    one = save(1)
    shared.look(patience=20)
    reads = []
    fetch_changes = db.fetch_changes
    monkeypatch.setattr(db, "fetch_changes", lambda *a: reads.append(1) or fetch_changes(*a))
    for _ in range(changes):
        db.save_label(one, 7)
    before = shared.version, shared.news
    for _ in range(3):
        shared.look(patience=20)
    assert bool(reads) == bool(changes)
    assert ((shared.version, shared.news) != before) == bool(changes)


def test_the_news_beside_a_view_is_that_of_the_table_it_shows(db, save, shared):
    assert shared.news == ""
    for minute in range(3):
        save(minute)
        assert len(shared.look(patience=20).table) == minute + 1
        assert shared.news == db.fetch_news()


def test_what_was_turned_away_is_no_digit_and_never_right(save, shared):
    save(1, digit=0, confidence=0.004, not_a_digit=0.97)
    save(2, digit=8, confidence=0.3, not_a_digit=0.6, label=8)
    save(3, digit=0, confidence=0.5, not_a_digit=0.5)  # the page still calls this a digit
    table = shared.look(patience=20).table
    assert table["read"].to_pylist() == ["0", "no digit", "no digit"]
    assert table["verdict"].to_pylist() == [None, "✗ wrong", None]
    assert table["confidence"].to_pylist() == pytest.approx([50, 60, 97])
