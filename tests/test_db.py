"""db.py on a real server: what is saved, what is refused, and what is read back."""

import io
import json
import os
import uuid
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import NOON, all_at_once, png
from PIL import Image

from store import postgres


def seven(x=60, y=40):
    """A PNG of the canvas with a seven whose corner is at (x, y)."""
    return png([(x, y), (x + 120, y), (x + 50, y + 180)])


def row(db, drawing_id):
    frame = db.fetch_predictions()
    return frame[frame["id"] == str(drawing_id)].iloc[0]


def test_a_saved_drawing_comes_back_as_it_was_given(db, prediction):
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    saved = row(db, drawing_id)
    assert saved["created_at"] == prediction["created_at"]
    assert (saved["predicted_digit"], saved["confidence"], saved["not_a_digit"]) == (7, 0.75, 0.07)
    assert saved["probabilities"] == prediction["probabilities"]
    assert saved["drawing"] == prediction["drawing"]
    assert saved["model_version"] == "0123456789ab"
    assert saved[["true_label", "labelled_at", "label_source", "strokes", "session"]].isna().all()
    drawn = {"strokes": [[(1, 2.5), (3.4, 5)], [(280, 0)]], "session": str(uuid.uuid4())}
    db.save_prediction(drawing_id, **prediction, **drawn)
    saved = row(db, drawing_id)
    assert (saved["strokes"], saved["session"]) == ([[[1, 2.5], [3.4, 5]], [[280, 0]]], drawn["session"])


def test_numpy_numbers_are_numbers(db, prediction):
    probabilities = np.array(prediction["probabilities"], dtype=np.float32)
    drawing_id = uuid.uuid4()
    db.save_prediction(
        drawing_id,
        **prediction | {"digit": np.int64(7), "confidence": np.float32(0.75), "probabilities": probabilities},
    )
    db.save_label(drawing_id, np.int64(7))
    assert row(db, drawing_id)["probabilities"] == pytest.approx(probabilities.tolist())


def test_another_stroke_updates_the_row_and_keeps_its_label_and_its_beginning(db, prediction):
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    db.save_label(drawing_id, 4)
    before = row(db, drawing_id)
    db.save_prediction(drawing_id, **prediction | {"digit": 1, "created_at": datetime.now(UTC)})
    after = row(db, drawing_id)
    assert len(db.fetch_predictions()) == 1
    assert after["predicted_digit"] == 1
    assert after["updated_at"] > before["updated_at"]
    for kept in ("created_at", "true_label", "labelled_at"):
        assert after[kept] == before[kept]


def test_a_label_lands_on_its_own_row_and_on_no_other(db, prediction):
    ids = [uuid.uuid4() for _ in range(5)]
    for drawing_id in ids:
        db.save_prediction(drawing_id, **prediction)
    db.save_label(ids[2], 3, "chosen")
    labelled = db.fetch_predictions().dropna(subset="true_label")
    assert labelled["id"].tolist() == [str(ids[2])]
    assert labelled[["true_label", "label_source"]].to_numpy().tolist() == [[3, "chosen"]]
    db.save_label(ids[2], 7, "confirmed")
    assert row(db, ids[2])[["true_label", "label_source"]].tolist() == [7, "confirmed"]


def test_a_label_without_its_row_is_never_a_success(db):
    with pytest.raises(db.NoSuchDrawing, match="save its prediction before its label"):
        db.save_label(uuid.uuid4(), 3)


def test_the_newest_drawing_comes_first(db, prediction):
    times = [prediction["created_at"] + timedelta(seconds=s) for s in (5, 1, 9)]
    for created_at in times:
        db.save_prediction(uuid.uuid4(), **prediction | {"created_at": created_at})
    assert db.fetch_predictions()["created_at"].tolist() == sorted(times, reverse=True)


def test_an_empty_table_has_the_columns_and_types_of_a_full_one(db, prediction):
    empty = db.fetch_predictions()
    db.save_prediction(uuid.uuid4(), **prediction)
    full = db.fetch_predictions()
    assert len(empty) == 0
    for name in ("created_at", "labelled_at", "true_label"):
        assert empty[name].dtype == full[name].dtype


def test_times_are_kept_as_moments_whatever_zone_they_came_in(db, prediction):
    drawing_id = uuid.uuid4()
    tokyo = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=9)))
    db.save_prediction(drawing_id, **prediction | {"created_at": tokyo})
    assert row(db, drawing_id)["created_at"] == tokyo


@pytest.mark.parametrize("digit", [-1, 10, 3.0, "3", None, float("nan"), 10**30, [3], b"3"])
def test_a_label_that_is_no_digit_is_refused(db, prediction, digit):
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    with pytest.raises((TypeError, db.Refused)):
        db.save_label(drawing_id, digit)
    assert db.fetch_predictions()["true_label"].isna().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"digit": 10},
        {"digit": "7"},
        {"confidence": 1.1},
        {"confidence": float("nan")},
        {"confidence": None},
        {"not_a_digit": -0.1},
        {"probabilities": [0.1] * 9},
        {"probabilities": [0.1] * 9 + [2]},
        {"probabilities": [0.1] * 9 + [float("nan")]},
        {"probabilities": None},
        {"probabilities": "0123456789"},
        {"drawing": b""},
        {"drawing": b"GIF89a"},
        {"drawing": "text"},
        {"drawing": b"\x89PNG" + bytes(256 * 1024)},
        {"model_version": ""},
        {"model_version": "a\0b"},
        {"model_version": "a" * 65},
        {"created_at": None},
        {"created_at": ...},  # no type that SQL knows
        {"created_at": datetime.max.replace(tzinfo=UTC)},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_wrong_value_is_refused_writes_no_row_and_is_told_from_a_database_that_is_away(db, prediction, wrong):
    for drawing_id, values in ((uuid.uuid4(), prediction | wrong), ("1; DROP TABLE predictions", prediction)):
        with pytest.raises((TypeError, ValueError, db.Refused)):
            db.save_prediction(drawing_id, **values)
    assert len(db.fetch_predictions()) == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("predicted_digit", 10),
        ("true_label", -1),
        ("confidence", 1.01),
        ("confidence", "NaN"),
        ("not_a_digit", -0.01),
        ("probabilities", "{1,2}"),
        ("probabilities", "{0,0,0,0,0,0,0,0,0,NULL}"),
        ("probabilities", "{0,0,0,0,0,0,0,0,0,1.5}"),
        ("drawing", b""),
        ("model_version", ""),
        ("created_at", None),
        ("created_at", "infinity"),
        ("labelled_at", "2026-01-01Z"),  # without a label
    ],
)
def test_the_table_itself_refuses_what_no_model_says(db, prediction, column, value):
    db.save_prediction(uuid.uuid4(), **prediction)
    before = db.fetch_predictions()
    with pytest.raises(postgres.Refused):
        postgres.writes.run(f"UPDATE predictions SET {column} = %(value)s", {"value": value})  # noqa: S608
    assert db.fetch_predictions().equals(before)


def test_the_table_is_made_when_it_is_missing(db, prediction):
    postgres.writes.run("DROP TABLE predictions")
    assert len(db.fetch_predictions()) == 0
    postgres.writes.run("DROP TABLE predictions")
    db.save_prediction(uuid.uuid4(), **prediction)
    assert len(db.fetch_predictions()) == 1


def test_more_writers_than_connections_wait_their_turn(db, prediction):
    ids = [uuid.uuid4() for _ in range(40)]
    failures = []

    def draw(number, drawing_id):
        try:
            db.save_prediction(drawing_id, **prediction | {"digit": number % 10})
            db.save_label(drawing_id, number % 10)
            db.fetch_predictions()
        except Exception as error:
            failures.append(error)

    all_at_once(draw, enumerate(ids))
    frame = db.fetch_predictions()
    assert not failures
    assert sorted(frame["id"]) == sorted(map(str, ids))
    assert (frame["true_label"] == frame["predicted_digit"]).all()


def test_an_older_write_that_arrives_late_does_not_undo_a_newer_one(db, prediction, monkeypatch):
    """A write that timed out may be done by the server long after its retry: simulated by the clock it was sent at."""
    drawing_id, early = uuid.uuid4(), db._now()
    db.save_prediction(drawing_id, **prediction | {"digit": 2})
    db.save_label(drawing_id, 2)
    before = row(db, drawing_id)
    with monkeypatch.context() as patch:
        patch.setattr(db, "_now", lambda: early)
        db.save_prediction(drawing_id, **prediction | {"digit": 1})
        db.save_label(drawing_id, 1)
    assert row(db, drawing_id)[["predicted_digit", "true_label"]].tolist() == [2, 2]
    assert row(db, drawing_id).equals(before)


def test_all_changes_are_read_however_many_a_query_returns(db, prediction):
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for drawing_id in ids:
        db.save_prediction(drawing_id, **prediction)
    postgres.writes.run("UPDATE predictions SET updated_at = now() WHERE id = ANY(%(ids)s::uuid[])", {"ids": ids[1:4]})
    since = datetime.now(UTC) - timedelta(minutes=1)
    for limit in (1, 2, 5, 100):
        assert sorted(drawing_id for drawing_id, _ in db.fetch_changes(since, limit)) == sorted(ids)


def test_the_time_of_a_write_follows_the_clock_and_never_steps_back(monkeypatch):
    """A machine that slept, or whose clock was wrong at first, has the right time at the next write."""
    import db

    start = db._now()
    clock = iter([start + timedelta(hours=8), start, start + timedelta(hours=9)])  # slept, set back, right again
    monkeypatch.setattr(db, "datetime", SimpleNamespace(now=lambda zone: next(clock)))
    monkeypatch.setattr(db, "_last", start)
    assert db._now() == start + timedelta(hours=8)
    assert timedelta(0) < db._now() - (start + timedelta(hours=8)) < timedelta(seconds=1)
    assert db._now() == start + timedelta(hours=9)


def test_the_size_of_the_table_counts_its_drawings(db, prediction):
    before = db.table_bytes()
    db.save_prediction(uuid.uuid4(), **prediction | {"drawing": b"\x89PNG" + os.urandom(200_000)})
    assert db.table_bytes() - before >= 200_000  # they lie beside the rows, where pg_relation_size does not look


@pytest.mark.parametrize("text", ["10GB", "nan", "ten"])
def test_a_limit_of_the_table_that_is_no_number_is_named_and_ten_gigabytes_hold(db, monkeypatch, caplog, text):
    monkeypatch.setenv("MAX_TABLE_GB", text)
    assert not db.is_full()
    assert f"MAX_TABLE_GB in .env must be a number of gigabytes, such as 10, not '{text}'" in caplog.text
    monkeypatch.setenv("MAX_TABLE_GB", "0")
    assert db.is_full()


def test_quarters_of_an_hour_are_those_of_utc_whatever_zone_the_server_is_in(db, prediction, monkeypatch):
    monkeypatch.setenv("PGTZ", "Asia/Kolkata")
    postgres.disconnect()
    db.save_prediction(uuid.uuid4(), **prediction)
    assert db.fetch_times() == [(prediction["created_at"].replace(minute=0, second=0), 1, 0, 0)]


def test_a_picture_of_many_pixels_gets_no_thumbnail(db):
    Image.new("1", (2001, 2001)).save(picture := io.BytesIO(), format="PNG")
    assert db.thumbnail(picture.getvalue()) is None


def test_a_thumbnail_is_the_same_of_a_drawing_and_of_its_pixels_and_is_taken_as_it_comes(db, prediction):
    pixels = np.asarray(Image.open(io.BytesIO(seven())).convert("L"))
    assert db.thumbnail(pixels) == db.thumbnail(seven())
    assert Image.open(io.BytesIO(db.thumbnail(pixels))).size == (28, 28)
    assert Image.open(io.BytesIO(db.thumbnail(np.zeros((290, 111), dtype=np.uint8)))).size == (11, 27)
    for given in (None, b"\x89PNG small"):
        db.save_prediction(drawing_id := uuid.uuid4(), **prediction | {"drawing": seven()}, thumbnail_png=given)
        assert row(db, drawing_id)["thumbnail"] == (given or db.thumbnail(seven()))


def test_one_drawing_is_read_whole(db, save):
    drawing_id = save(3, digit=4, label=9, drawing=seven(x=20))
    one = db.fetch_drawing(drawing_id)
    assert (one.id, one.created_at, one.drawing) == (drawing_id, NOON + timedelta(minutes=3), seven(x=20))
    assert (one.predicted_digit, one.true_label, one.model_version) == (4, 9, "0123456789ab")
    assert one.probabilities[4] == one.confidence == 0.9
    assert db.fetch_drawing(uuid.uuid4()) is None


@pytest.mark.parametrize(("limit", "most", "parts"), [(2, 10**9, 3), (5, 10**9, 1), (2, 1, 5), (100, 1, 5)])
def test_the_export_gives_every_row_once_newest_first_in_parts(db, save, limit, most, parts):
    """As many rows a part as asked for, and none after the one whose drawing reaches so many bytes."""
    for i in range(5):
        save(i // 2, digit=i, label=3 if i % 2 else None, drawing=seven(x=20 + 10 * i))
    rows, before, read = [], None, 0
    while part := db.fetch_export(before, limit, most):
        rows, before, read = rows + part, (part[-1].created_at, part[-1].id), read + 1
    assert read == parts
    table = db.fetch_predictions()
    assert [row.id for row in rows] == table["id"].tolist()
    for name in ("created_at", "updated_at", "drawing", "probabilities", "confidence", "model_version"):
        assert [getattr(row, name) for row in rows] == table[name].tolist()
    assert [row.true_label or -1 for row in rows] == table["true_label"].fillna(-1).tolist()


def test_where_strokes_are_asked_for_a_part_of_the_export_is_bounded_by_these(db, save):
    strokes = [[[1, 2.5], [3, 4]], [[5, 6]]]
    for i in range(3):
        save(i)
    change = "UPDATE predictions SET strokes = %(strokes)s WHERE created_at > %(noon)s"
    postgres.writes.run(change, {"strokes": json.dumps(strokes), "noon": NOON})
    (first,) = db.fetch_export(None, 100, 1, strokes=True)
    assert json.loads(first.strokes) == strokes and first.drawing == b""
    assert len(db.fetch_export(None, 100, 2 * len(first.strokes), strokes=True)) == 2
    rows = db.fetch_export(None, 100, 10**9, strokes=True)
    assert [row.strokes for row in rows] == [first.strokes, first.strokes, None]


# --- what has changed ------------------------------------------------------------------------------------------------


def test_news_is_the_same_until_a_row_is_added_or_changed(db, save):
    news = [db.fetch_news(), db.fetch_news()]
    assert news[0] == news[1]
    one = save(1)
    news.append(db.fetch_news())
    save(2, digit=3, drawing_id=one)
    news.append(db.fetch_news())
    db.save_label(one, 3)
    news.append(db.fetch_news())
    assert len(set(news)) == 4
    assert db.fetch_news() == news[-1]


@pytest.mark.parametrize("late", [1, 30, 59])
def test_news_hears_of_a_change_that_becomes_visible_late(db, save, late):
    first, second = save(1), save(2)
    back = "UPDATE predictions SET updated_at = updated_at - %(late)s * interval '1 s' WHERE id = %(id)s"
    postgres.writes.run(back, {"late": 2 * 59, "id": first})
    before = db.fetch_news()
    postgres.writes.run(
        "UPDATE predictions SET updated_at = (SELECT max(updated_at) FROM predictions) - %(late)s * interval '1 s' "
        "WHERE id = %(id)s",
        {"late": late, "id": first},
    )
    once = db.fetch_news()
    postgres.writes.run(back, {"late": 0.5, "id": first})  # the same rows within the minute, of which one has changed
    assert len({before, once, db.fetch_news()}) == 3
    assert second


def test_news_hears_what_follows_a_row_from_a_clock_that_was_fast(db, save):
    fast = save(1)
    tomorrow = "UPDATE predictions SET updated_at = now() + interval '1 day' WHERE id = %(id)s"
    postgres.writes.run(tomorrow, {"id": fast})
    news = [db.fetch_news()]
    two = save(2)
    news.append(db.fetch_news())
    db.save_label(two, 7)
    news.append(db.fetch_news())
    assert len(set(news)) == 3
    assert db.fetch_news() == news[-1]


def test_news_reads_an_index_alone_and_no_more_of_it_than_the_last_minute(db):
    postgres.writes.run("""
        INSERT INTO predictions (id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit,
                                 drawing, model_version)
        SELECT gen_random_uuid(), now(), now() - i * interval '1 min', 7, 0.5, array_fill(0.1::float8, ARRAY[10]), 0.1,
               '\\x89', 'x' FROM generate_series(0, 4999) AS i
    """)
    postgres.reads.run("VACUUM ANALYZE predictions")
    plan = postgres.reads.run(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {db.NEWS}", {"late": 60}).rows
    text = "\n".join(line for (line,) in plan)
    assert text.count("Index Only Scan") == 2 and "Seq Scan" not in text
    assert "rows=5000" not in text


def test_a_certainty_is_counted_with_the_last_tenth(db, save):
    save(1, label=7, confidence=1.0)
    save(2, label=7, confidence=0.95)
    assert [(count.tenth, count.rows) for count in db.fetch_answers()] == [(10, 2)]


def test_what_was_turned_away_is_counted_among_the_drawings_and_not_among_the_answers(db, save):
    save(1, label=7, not_a_digit=0.5)  # the page still calls this a digit
    save(2, label=7, not_a_digit=0.51)
    assert [(count.true_label, count.predicted_digit, count.rows) for count in db.fetch_answers()] == [(7, 7, 1)]
    assert [(count.rows, count.labelled, count.right) for count in db.fetch_times()] == [(2, 2, 1)]


def test_each_version_is_counted_with_the_labelled_drawings_that_it_answered(db, save):
    save(3, digit=7, label=7, version="old")
    save(2, digit=7, label=1, version="old")
    save(5, digit=4, label=4, version="new")
    save(6, digit=4, label=4, version="new", not_a_digit=0.5)  # the page still calls this a digit
    save(7, digit=4, label=4, version="new", not_a_digit=0.51)
    save(1, version="new")
    save(0, version="never labelled")
    first = NOON + timedelta(minutes=2), NOON + timedelta(minutes=5)
    assert sorted(db.fetch_versions()) == [("new", first[1], 3, 2), ("old", first[0], 2, 1)]


def test_a_drawing_counts_for_the_version_that_answered_it_last(db, save):
    drawing_id = save(1, digit=1, label=7, version="old")
    save(1, digit=7, drawing_id=drawing_id, version="new")
    assert db.fetch_versions() == [("new", NOON + timedelta(minutes=1), 1, 1)]


def test_versions_are_counted_from_an_index_alone(db):
    db.build_indexes()
    postgres.writes.run("""
        INSERT INTO predictions (id, created_at, predicted_digit, confidence, probabilities, not_a_digit, true_label,
                                 labelled_at, drawing, model_version)
        SELECT gen_random_uuid(), now(), 7, 0.5, array_fill(0.1::float8, ARRAY[10]), 0.1, 7, now(),
               decode(repeat(md5(i::text), 12), 'hex'), i % 3  -- as wide as a row with its thumbnail
        FROM generate_series(0, 4999) AS i
    """)
    postgres.reads.run("VACUUM ANALYZE predictions")
    plan = postgres.reads.run(f"EXPLAIN {db.VERSIONS}", {"no_digit_above": 0.5}).rows
    assert any("Index Only Scan using predictions_versions" in line for (line,) in plan)
