"""The history: the shared copy of the table on a real server, the views, and the page in a real browser."""

import base64
import contextlib
import importlib.resources
import io
import os
import time
import uuid
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psycopg2
import pyarrow as pa
import pytest
from browser import CANVAS, Visitor, ask_for_news_with_all, placed
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image, ImageDraw
from playwright.sync_api import expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.testing.v1 import AppTest

from page import export, history
from store import postgres, snapshot
from store.snapshot import Snapshot, View, merge, to_arrow

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
SEVEN = placed([[(0.15, 0.05), (0.85, 0.04), (0.42, 0.98)]])


def drawing(x=60, y=40):
    """A PNG of the canvas with a seven whose corner is at (x, y)."""
    image = Image.new("L", (280, 280))
    ImageDraw.Draw(image).line([(x, y), (x + 120, y), (x + 50, y + 180)], fill=255, width=20, joint="curve")
    image.save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


@pytest.fixture
def save(db):
    """Saves a drawing that was begun `minute` minutes after noon, labelled if `label` is given. Returns its id."""

    def row(minute, digit=7, label=None, confidence=0.9, png=None, drawing_id=None, not_a_digit=0.01):
        drawing_id = drawing_id or str(uuid.uuid4())
        probabilities = [(1 - confidence) / 9] * 10
        probabilities[digit] = confidence
        db.save_prediction(
            drawing_id,
            created_at=NOON + timedelta(minutes=minute),
            digit=digit,
            confidence=confidence,
            probabilities=probabilities,
            not_a_digit=not_a_digit,
            drawing=png or drawing(),
            model_version="0123456789ab",
        )
        if label is not None:
            db.save_label(drawing_id, label)
        return drawing_id

    return row


class State(dict):
    """In the place of Streamlit's session state."""

    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


def until(condition, seconds=20):
    """Wait for what another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def ids(view):
    return view.table["id"].to_pylist()


def pixels(url):
    kind, data = url.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"), dtype=float)


# --- the shared copy ---------------------------------------------------------------------------------------------


def test_the_newest_drawing_is_first_whenever_it_was_saved(save):
    middle, newest, oldest = save(5), save(9, label=7), save(1, label=2)
    view = Snapshot().look(patience=20)
    assert ids(view) == [newest, middle, oldest]
    assert view.table["verdict"].to_pylist() == ["right", None, "✗ wrong"]
    assert view.counts == (3, 2, 1)
    assert view.complete


def test_a_thumbnail_shows_its_drawing_small(save):
    save(1, png=drawing(x=20, y=20))
    save(2, png=drawing(x=120, y=60))
    right, left = (pixels(url) for url in Snapshot().look(patience=20).table["picture"].to_pylist())
    assert right.shape == left.shape == (28, 28)
    for small, png in ((left, drawing(x=20, y=20)), (right, drawing(x=120, y=60))):
        large = np.asarray(Image.open(io.BytesIO(png)).resize((28, 28), Image.Resampling.BOX), dtype=float)
        assert np.abs(small - large).mean() < 8


def test_a_row_that_came_without_a_thumbnail_gets_one(save):
    save(1)
    postgres.writes.run("UPDATE predictions SET thumbnail = NULL")
    (url,) = Snapshot().look(patience=20).table["picture"].to_pylist()
    assert pixels(url).shape == (28, 28)


def test_a_drawing_that_cannot_be_read_has_no_thumbnail_and_harms_no_other(db, save, prediction):
    good = save(1)
    db.save_prediction(bad := str(uuid.uuid4()), **prediction)
    table = Snapshot().look(patience=20).table
    pictures = dict(zip(table["id"].to_pylist(), table["picture"].to_pylist(), strict=True))
    assert pictures[bad] is None
    assert pictures[good]


def test_a_second_visitor_costs_no_second_read_of_the_table(db, save, monkeypatch):
    save(1)
    pages = []
    fetch_page = db.fetch_page
    monkeypatch.setattr(db, "fetch_page", lambda *a, **k: pages.append(1) or fetch_page(*a, **k))
    shared = Snapshot()
    first = shared.look(patience=20, check=True)
    second = shared.look(patience=20, check=True)
    assert len(pages) == 1
    assert second is first


def test_what_was_saved_since_is_there_at_the_next_look(db, save):
    shared = Snapshot()
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


def test_a_row_that_becomes_visible_late_is_not_missed(save):
    shared = Snapshot()
    save(1)
    shared.look(patience=20)
    late = save(2)
    half_a_minute = "UPDATE predictions SET updated_at = updated_at - interval '30 s' WHERE id = %(id)s"
    postgres.writes.run(half_a_minute, {"id": late})
    assert ids(shared.look(patience=20))[0] == late


def test_a_row_from_a_clock_that_was_fast_does_not_hide_what_follows(save):
    fast = save(1)
    tomorrow = "UPDATE predictions SET updated_at = now() + interval '1 day' WHERE id = %(id)s"
    postgres.writes.run(tomorrow, {"id": fast})
    shared = Snapshot()
    assert ids(shared.look(patience=20)) == [fast]
    two = save(2)
    assert ids(shared.look(patience=20)) == [two, fast]
    postgres.writes.run(tomorrow, {"id": two})
    shared.look(patience=20)
    three = save(3)
    assert ids(shared.look(patience=20)) == [three, two, fast]


def test_a_deleted_row_is_gone_when_a_page_is_opened(save):
    kept, deleted = save(1), save(2)
    shared = Snapshot()
    assert ids(shared.look(patience=20)) == [deleted, kept]
    postgres.writes.run("DELETE FROM predictions WHERE id = %(id)s", {"id": deleted})
    assert ids(shared.look(patience=20, check=True)) == [kept]


def test_a_deleted_row_is_gone_even_if_as_many_were_added(save):
    deleted = save(1)
    shared = Snapshot()
    assert ids(shared.look(patience=20)) == [deleted]
    postgres.writes.run("DELETE FROM predictions WHERE id = %(id)s", {"id": deleted})
    added = save(2)
    assert ids(shared.look(patience=20, check=True)) == [added]


def test_a_label_taken_back_by_hand_is_gone_when_a_page_is_opened(save):
    save(1, label=7)
    shared = Snapshot()
    assert shared.look(patience=20).counts == (1, 1, 1)
    postgres.writes.run("UPDATE predictions SET true_label = NULL, labelled_at = NULL")
    assert shared.look(patience=20, check=True).counts == (1, 0, 0)


def test_more_news_than_a_page_is_not_cut_off(save, monkeypatch):
    monkeypatch.setattr(snapshot, "PAGE", 4)
    shared = Snapshot()
    shared.look(patience=20)
    added = [save(i) for i in range(10)]
    assert ids(shared.look(patience=20)) == added[::-1]


def test_the_copy_is_never_in_many_pieces():
    one = to_arrow([(str(uuid.uuid4()), NOON, NOON, 7, 0.9, 0.0, None, None)])
    shared = Snapshot()
    for _ in range(200):
        shared._show(pa.concat_tables([shared.view.table, one]), True)
    assert shared.view.table["id"].num_chunks <= 65 and len(shared.view.table) == 200


def test_older_rows_follow_page_by_page_and_none_is_missed_or_doubled(db, save, monkeypatch):
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
    shared = Snapshot()
    shared.look(patience=20)
    until(lambda: shared.view.complete)
    view = shared.look(patience=20)
    expected = db.fetch_predictions()
    assert ids(view) == expected["id"].tolist()
    assert view.counts[1] == 1


def test_pictures_are_kept_of_the_newest_rows_only(save, monkeypatch):
    monkeypatch.setattr(snapshot, "PAGE", 4)
    monkeypatch.setattr(snapshot, "FIRST_PAGE", 4)
    monkeypatch.setattr(snapshot, "PICTURES", 8)
    for i in range(12):
        save(i)
    shared = Snapshot()
    shared.look(patience=20)
    until(lambda: shared.view.complete)
    assert [picture is not None for picture in shared.view.table["picture"].to_pylist()] == [True] * 8 + [False] * 4


def test_the_last_copy_stays_while_the_database_is_away_and_goes_on_afterwards(save, monkeypatch, server, folder):
    one = save(1)
    shared = Snapshot()
    shared.look(patience=20)
    monkeypatch.setenv("POSTGRES_HOST", str(folder / "nowhere"))
    postgres.reads.close()
    assert ids(shared.look(patience=20)) == [one]
    assert shared.problem.startswith("The database cannot be read")
    monkeypatch.setenv("POSTGRES_HOST", server["POSTGRES_HOST"])
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
        return drawing_id, when, NOON, digit, 0.3, 0.6 if digit < 3 else 0.1, label, None

    anew = {row[0]: row for row in old} | {row[0]: row for row in news}
    expected = to_arrow([whole(row) for row in anew.values()])
    assert merge(to_arrow([whole(row) for row in old]), to_arrow([whole(row) for row in news])).equals(expected)


# --- the download ------------------------------------------------------------------------------------------------


def check_download(csv, db):
    frame = pd.read_csv(csv, parse_dates=["created_at"], dtype={"true_label": "Int64"})
    table = db.fetch_predictions()
    assert frame["id"].tolist() == table["id"].tolist()
    assert frame["created_at"].tolist() == table["created_at"].tolist()
    assert frame["true_label"].equals(table["true_label"])
    assert [base64.b64decode(text) for text in frame["drawing_png_base64"]] == table["drawing"].tolist()
    for name in ("predicted_digit", "confidence", "not_a_digit", "model_version"):
        assert frame[name].tolist() == table[name].tolist()
    for name in ("updated_at", "labelled_at"):
        times = pd.to_datetime(frame[name], format="ISO8601", utc=True).astype(table[name].dtype)
        assert times.equals(table[name])
    assert np.allclose(frame[[f"p{i}" for i in range(10)]], table["probabilities"].tolist())


@pytest.mark.parametrize(("rows", "most", "parts"), [(0, None, 1), (4, None, 3), (5, None, 4), (5, 1, 6)])
def test_pandas_reads_the_parts_of_the_download_back_with_the_drawings(save, monkeypatch, db, rows, most, parts):
    """Two rows a part, and only one where that one's drawing has as many bytes as a part may have."""
    monkeypatch.setattr(export, "ROWS", 2)
    monkeypatch.setattr(export, "BYTES", most or export.BYTES)
    for i in range(rows):
        save(i // 2, digit=i, label=3 if i % 2 else None, png=drawing(x=20 + 10 * i))
    text, last, n = export.csv_part()
    read = 1
    while last:
        more, last, m = export.csv_part(last)
        text, n, read = text + more, n + m, read + 1
    assert (n, read) == (rows, parts)
    if rows:
        check_download(io.StringIO(text), db)


@pytest.mark.parametrize("last", [["2026-01-01"], ["when?", 32 * "0"], ["2026-01-01", "'; DROP"], "x", {}, [1, 2]])
def test_a_download_that_goes_on_from_nonsense_is_refused(save, last):
    save(1)
    with pytest.raises((ValueError, postgres.DatabaseError)):
        export.csv_part(last)


@pytest.mark.parametrize(("last", "trouble"), [(None, postgres.DatabaseError("away")), ("x", None)])
def test_a_download_that_cannot_go_on_says_so(monkeypatch, last, trouble):
    state = State({export.KEY: {"next": {"part": 0, "last": last}}})
    monkeypatch.setattr(export.st, "session_state", state)
    monkeypatch.setattr("db.fetch_export", lambda *_: (_ for _ in ()).throw(trouble))
    export.answer_browser()
    said = "The database cannot be read right now. Please try again later."
    assert state["history_csv_answer"] == {"part": 0, "problem": said}


# --- the views ---------------------------------------------------------------------------------------------------


def page():
    import streamlit as st

    from page.history import show_history
    from store.outbox import shared

    with st.container(key="history"):
        show_history(st.session_state.setdefault("own_ids", set()), shared())


@pytest.fixture
def open_page(db):
    """Opens the history for a visitor with these drawings of their own."""

    def run(*own_ids):
        shared = history.SNAPSHOT  # the page itself would wait a second at most
        until(lambda: shared.look(patience=30, check=True) and not shared.problem, 60)
        at = AppTest.from_function(page, default_timeout=30)
        at.session_state["own_ids"] = set(own_ids)
        until(lambda: not any("Reading" in c.value or "older" in c.value for c in at.run().caption))
        assert not at.exception
        return at

    return run


def shown(at):
    return at.dataframe[0].value


def test_an_empty_history_says_what_to_expect(open_page):
    at = open_page()
    assert not at.dataframe
    assert at.caption[0].value == "No drawings yet: yours will be the first."


def test_the_page_stays_calm_while_the_database_is_away_and_keeps_what_it_had(open_page, save, monkeypatch, folder):
    save(1)
    open_page()
    monkeypatch.setenv("POSTGRES_HOST", str(folder / "nowhere"))
    postgres.reads.close()
    at = AppTest.from_function(page, default_timeout=30)
    until(lambda: at.run().info)
    assert not at.exception
    assert at.info[0].value == "The database cannot be read right now. This comes back by itself."
    assert len(shown(at)) == 1
    monkeypatch.setattr("db.fetch_drawing", lambda drawing_id: 1 / 0)  # the visitor's answers would wait for it
    at.session_state["history_pick"] = str(uuid.uuid4())
    at.run()  # a closer look, too
    assert not at.exception
    assert len(at.info) == 2


def test_the_head_counts_and_the_filters_narrow_the_table(open_page, save):
    save(1, digit=7, label=7)
    save(2, digit=1, label=7)
    save(3, digit=7)
    save(4, digit=4, label=4)
    at = open_page()
    assert at.caption[0].value == "4 drawings · 3 labelled · 66.7 % of them read right"
    assert shown(at)["read"].tolist() == ["4", "7", "1", "7"]
    at.segmented_control(key="history_show").set_value("Mistakes").run()
    assert shown(at)[["read", "label", "verdict"]].values.tolist() == [["1", 7, "✗ wrong"]]
    at.segmented_control(key="history_show").set_value("Unlabelled").run()
    assert shown(at)["read"].tolist() == ["7"]
    at.segmented_control(key="history_show").set_value("All")
    at.selectbox(key="history_digit").set_value(7).run()
    assert shown(at)["read"].tolist() == ["7", "1", "7"]


def test_no_confidence_in_the_table_is_a_certainty(open_page, save):
    save(1, digit=7, confidence=0.9998, not_a_digit=0)
    save(2, digit=0, confidence=0.0, not_a_digit=1.0)
    save(3, digit=1, confidence=0.998, not_a_digit=0)
    assert [f"{percent:.1f}" for percent in shown(open_page())["confidence"]] == ["99.8", "99.9", "99.9"]


def test_what_the_page_turned_away_is_no_digit_in_the_table_either(open_page, save):
    save(1, digit=0, confidence=0.004, not_a_digit=0.97)
    save(2, digit=8, confidence=0.3, not_a_digit=0.6, label=8)
    save(3, digit=0, confidence=0.5, not_a_digit=0.5)  # the page still calls this a digit
    at = open_page()
    assert shown(at)["read"].tolist() == ["0", "no digit", "no digit"]
    assert shown(at)["verdict"].fillna("").tolist() == ["", "✗ wrong", ""]
    assert shown(at)["confidence"].tolist() == pytest.approx([50, 60, 97])
    assert at.caption[0].value == "3 drawings · 1 labelled · 0.0 % of them read right"
    at.selectbox(key="history_digit").set_value("No digit").run()
    assert shown(at)["read"].tolist() == ["no digit", "no digit"]
    at.selectbox(key="history_digit").set_value(8).run()  # by its label
    assert shown(at)["read"].tolist() == ["no digit"]
    at.selectbox(key="history_digit").set_value(0).run()
    assert shown(at)["read"].tolist() == ["0"]
    at.selectbox(key="history_digit").set_value("Any digit")
    at.session_state["history_pair"] = (8, 8)
    at.run()
    assert not shown(at)["read"].tolist()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("12:02", [2]),
        ("2026-03-04", [4, 3, 2, 1]),
        ("2026", [4, 3, 2, 1]),
        ("wednesday march", [4, 3, 2, 1]),
        ("4", [3]),
        ("wrong", [3]),
        ("unlabelled 7", [1]),
        ("no digit", [4]),
        ("0", []),
        ("thursday", []),
    ],
)
def test_the_search_finds_days_times_digits_and_verdicts(open_page, save, text, minutes):
    save(1, digit=7)
    save(2, digit=1, label=1)
    save(3, digit=9, label=4)
    save(4, digit=0, confidence=0.01, not_a_digit=0.98)
    at = open_page()
    at.text_input(key="history_search").set_value(text).run()
    assert not at.exception
    assert [when.minute for when in shown(at)["created_at"]] == minutes


def test_the_search_needs_no_time_zones_of_the_system(tmp_path):
    """Debian's lack the old names, such as Asia/Calcutta, that browsers use."""
    tokyo = importlib.resources.files("tzdata") / "zoneinfo/Asia/Tokyo"
    (tmp_path / "Only").mkdir()
    (tmp_path / "Only" / "Here").write_bytes(tokyo.read_bytes())
    rows = [(str(uuid.uuid4()), NOON, NOON, 7, 0.9, 0.0, None, None)]
    zoneinfo.reset_tzpath([tmp_path])
    try:
        assert len(history.search(to_arrow(rows), "21:00:00", "Only/Here")) == 1
        assert len(history.search(to_arrow(rows), "12:00:00", "Only/Here")) == 0
    finally:
        zoneinfo.reset_tzpath()


def test_a_drawing_is_found_by_the_start_of_its_number(open_page, save):
    save(1, drawing_id="aaaaaaaa-0000-4000-8000-000000000000")
    save(2, drawing_id="bbbbbbbb-0000-4000-8000-000000000000")
    at = open_page()
    at.text_input(key="history_search").set_value("AAAAaa").run()
    assert [when.minute for when in shown(at)["created_at"]] == [1]


def test_a_closer_look_shows_both_pictures_and_all_probabilities(open_page, save):
    picked = save(1, digit=7, label=1, confidence=0.75)
    at = open_page()
    at.session_state["history_pick"] = picked
    at.run()
    assert at.markdown[0].value == "Read as **7** with a confidence of **75.0 %**, labelled **1**: wrong."
    figures = next(h.value for h in at.get("html") if "<figure" in h.value)
    assert base64.b64encode(drawing()).decode() in figures
    assert "what the network saw" in figures
    assert any("7: 75.0 %" in h.value for h in at.get("html"))
    assert not at.exception
    assert not at.run().markdown  # closed, it stays closed when there is news


def test_a_closer_look_at_what_is_no_digit_calls_it_none(open_page, db, prediction):
    scribble = str(uuid.uuid4())
    db.save_prediction(scribble, **prediction | {"confidence": 0.02, "not_a_digit": 0.97, "drawing": drawing()})
    at = open_page()
    at.session_state["history_pick"] = scribble
    at.run()
    assert at.markdown[0].value == "Not taken for a digit (**97.0 %** sure that it is none), not labelled."
    db.save_label(scribble, prediction["digit"])
    at.session_state["history_pick"] = scribble
    at.run()
    assert at.markdown[0].value.endswith(f"labelled **{prediction['digit']}**: wrong.")


def test_a_closer_look_at_a_row_without_a_drawing_shows_the_rest(open_page, save):
    at = open_page()
    at.session_state["history_pick"] = save(1, digit=7, confidence=0.75, png=b"\x89PNG and no more")
    at.run()
    assert not at.exception
    assert at.markdown[0].value.startswith("Read as **7**")
    assert any("cannot be shown" in h.value and "7: 75.0 %" in h.value for h in at.get("html"))


def test_only_ones_own_drawing_can_be_labelled(open_page, save, db):
    own, foreign = save(1), save(2)
    at = open_page(own)
    at.session_state["history_pick"] = foreign
    at.run()
    assert not at.get("pills") and not at.get("button_group")[1:]
    at.session_state["history_pick"] = own
    at.run()
    at.pills[0].set_value(3).run()
    labels = db.fetch_predictions().set_index("id")["true_label"]
    assert labels[own] == 3
    assert pd.isna(labels[foreign])
    db.save_label(own, 8)  # with the buttons of the page, or on another one
    at.session_state["history_pick"] = own
    at.run()
    assert at.markdown[0].value.endswith("labelled **8**: wrong.")
    assert at.pills[0].value == 8


def test_the_server_refuses_a_label_for_a_foreign_drawing_whatever_the_browser_sends(monkeypatch):
    written = []
    monkeypatch.setattr(history.st, "session_state", {"relabel": 3})
    outbox = SimpleNamespace(put_label=lambda *label: written.append(label), wait=lambda *_: True)
    history.relabel("relabel", "foreign", {"own"}, outbox)
    assert written == []
    history.relabel("relabel", "own", {"own"}, outbox)
    assert written == [("own", 3)]


def test_times_are_the_visitors_in_the_search_and_in_the_closer_look(open_page, save, monkeypatch):
    monkeypatch.setattr(history, "time_zone", lambda: "Asia/Tokyo")
    picked = save(1)
    at = open_page()
    at.text_input(key="history_search").set_value("21:01").run()
    assert len(shown(at)) == 1
    at.session_state["history_pick"] = picked
    at.run()
    assert any("04 Mar 2026, 21:01:00 JST" in caption.value for caption in at.caption)


def test_a_table_that_changed_has_other_buttons(open_page, save):
    """A press names a row by its place: one on the older table must not pick from the newer one."""
    save(1)
    at = open_page()
    before = dict(at.dataframe[0].proto.button_click_widgets)
    save(2)
    until(lambda: len(shown(at.run())) == 2)
    assert dict(at.dataframe[0].proto.button_click_widgets) != before


def test_a_press_picks_the_row_of_the_table_it_was_shown_on(monkeypatch):
    picked = State(
        press={"row": 1, "label": "Look"}, before={"row": 1, "label": "Look"}, ages_ago={"row": 0, "label": "Look"}
    )
    monkeypatch.setattr(history.st, "session_state", picked)
    picked.history_ids = {"before": pa.chunked_array([["a", "c"]]), "press": pa.chunked_array([["a"], ["b", "c"]])}
    monkeypatch.setattr(history.st, "rerun", lambda fragment: None)
    history.pick("press")
    assert picked["history_pick"] == "b"
    picked["press"]["row"] = 3
    history.pick("press")
    assert picked["history_pick"] == "b"
    history.pick("ages_ago")
    assert picked["history_pick"] == "b"
    history.pick("before")
    assert picked["history_pick"] == "c"


def test_all_pairs_are_shown_again_whatever_else_the_message_asks_for(monkeypatch):
    state, rerun = State(history_pair=(3, 5)), []
    monkeypatch.setattr(history.st, "session_state", state)
    monkeypatch.setattr(history.st, "rerun", rerun.append)
    history.show_all_pairs()
    assert state["history_pair"] is None
    assert rerun == [["history", "insights"]]


def test_a_session_holds_the_ids_of_no_more_tables_than_a_press_may_come_from(save, open_page):
    one = save(1)
    at = open_page()
    for _ in range(history.TABLES + 1):
        at.run()
    kept = at.session_state.history_ids
    assert list(kept)[-1] == f"history-look-{at.session_state.history_sent}"
    assert [table.to_pylist() for table in kept.values()] == [[one]] * history.TABLES


def test_visitors_with_the_same_filter_share_its_rows(save):
    save(1, label=1)
    view = View(Snapshot().look(patience=20).table, True)
    mistakes = history.filtered(view, snapshot.WRONG, None, None)
    assert len(mistakes) == 1 and mistakes is history.filtered(view, snapshot.WRONG, None, None)
    assert history.filtered(view, None, None, None) is view.table
    for digit in range(10):
        history.filtered(view, None, str(digit), None)
    assert len(view.parts) <= history.PARTS


# --- in the browser ----------------------------------------------------------------------------------------------


def first_row(visitor):
    """The table's first row, with its texts as a screen reader finds them."""
    return visitor.at("history").locator("[data-testid=stDataFrame] tbody tr").first


def look(visitor, row=0):
    """Press the button of a row."""
    table = visitor.at("history").get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    expect(table.locator("tbody tr").nth(row)).to_contain_text("Look")
    visitor.page.wait_for_timeout(300)
    box = table.bounding_box()
    visitor.page.mouse.click(box["x"] + 110, box["y"] + 37 + 40 * row + 20)
    return visitor.page.get_by_role("dialog")


def test_another_visitors_drawing_and_label_show_up_without_a_reload(chromium, url, db):
    tall = {"viewport": {"width": 1280, "height": 1600}}
    with Visitor(chromium, url, **tall) as one, Visitor(chromium, url, **tall) as other:
        expect(other.at("history")).to_contain_text("No drawings yet")
        one.draw(SEVEN)
        one.answer()
        expect(other.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        one.label(7)
        expect(other.at("history")).to_contain_text("1 labelled", timeout=15_000)


def test_a_stroke_sends_nothing_of_the_history(chromium, url, db, save):
    for i in range(30):
        save(i)
    messages = []

    def listen(page):
        page.on("websocket", lambda socket: socket.on("framereceived", lambda data: messages.append(data)))

    with Visitor(chromium, url, before=listen, viewport={"width": 1280, "height": 500}) as visitor:
        expect(visitor.at("history")).to_contain_text("30 drawings")
        expect(first_row(visitor)).to_be_attached()
        sent = [ForwardMsg.FromString(m) for m in messages]
        assert any(m.delta.new_element.WhichOneof("type") == "dataframe" for m in sent)  # so that we would see it
        messages.clear()
        visitor.draw(SEVEN)
        visitor.answer()
        visitor.page.wait_for_timeout(500)
        kinds = {ForwardMsg.FromString(m).delta.new_element.WhichOneof("type") for m in messages}
        assert kinds and not kinds & {"dataframe", "vega_lite_chart"}


def test_a_stroke_goes_on_while_another_visitors_row_arrives(chromium, url, db, save):
    save(1)
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        expect(visitor.at("history")).to_contain_text("1 drawing ·")
        (stroke,) = SEVEN
        corner, mouse = visitor.page.locator(CANVAS).bounding_box(), visitor.page.mouse

        def move(points):
            for x, y in points:
                mouse.move(corner["x"] + x, corner["y"] + y)

        half = len(stroke) // 2
        move(stroke[:1])
        mouse.down()
        move(stroke[1:half])
        visitor.page.wait_for_timeout(1_000)  # a look that was on its way is over
        save(2)
        visitor.page.wait_for_timeout(5_000)  # the history looks every 3 s, but not while the pen is down
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=1)
        # A look that was on its way when the pen came down brings the row all the same.
        visitor.page.evaluate("document.dispatchEvent(new PointerEvent('pointerup'))")
        expect(visitor.at("history")).to_contain_text("2 drawings")
        assert visitor.sent == []
        move(stroke[half:])
        mouse.up()
        visitor.wait_sent(SEVEN)
        assert visitor.answer() == 7
        assert visitor.strokes_sent == 1
        seen = np.asarray(Image.open(io.BytesIO(visitor.sent[0])).convert("L"))
        assert all(seen[round(y), round(x)] > 128 for x, y in stroke)


def test_a_row_is_picked_shown_and_labelled_by_its_own_visitor(chromium, url, db):
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}, timezone_id="Asia/Tokyo") as visitor:
        visitor.draw(SEVEN)
        visitor.answer()
        visitor.clear()
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        dialog = look(visitor)
        expect(dialog).to_contain_text("not labelled")
        expect(dialog.get_by_role("img", name="28 by 28")).to_be_visible()
        dialog.get_by_role("radio", name="3", exact=True).click()
        until(lambda: db.fetch_predictions()["true_label"].fillna(-1).tolist() == [3])
        expect(dialog).to_contain_text("labelled 3")
        visitor.page.keyboard.press("Escape")
        expect(visitor.at("history")).to_contain_text("1 labelled", timeout=15_000)
        row = db.fetch_predictions().iloc[0]
        local = row["created_at"].tz_convert("Asia/Tokyo")
        expect(first_row(visitor)).to_contain_text(f"{local:%H:%M}")
        db.save_label(row["id"], 7)  # by the buttons of the page, or in another window
        dialog = look(visitor)
        expect(dialog).to_contain_text("labelled 7: right")
        expect(dialog.get_by_role("radio", name="7", exact=True)).to_be_checked()
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as stranger:
        dialog = look(stranger)
        expect(dialog).to_contain_text("labelled 7")
        expect(dialog.get_by_role("radio")).to_have_count(0)


def test_a_label_of_the_closer_look_that_waits_is_said_to_wait(chromium, url, db):
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        visitor.draw(SEVEN)
        visitor.answer()
        expect(visitor.at("notice")).to_contain_text("Saved.")
        dialog = look(visitor)
        expect(dialog).to_contain_text("not labelled")
        with contextlib.closing(psycopg2.connect(host=os.environ["POSTGRES_HOST"], user="postgres")) as locker:
            locker.cursor().execute("LOCK TABLE predictions IN SHARE MODE")  # for writers: the page goes on reading
            dialog.get_by_role("radio", name="3", exact=True).click()
            expect(dialog.get_by_role("status")).to_have_text("Saving …")
            visitor.page.keyboard.press("Escape")
            expect(visitor.at("notice")).to_contain_text("Saving …")
        expect(visitor.at("notice")).to_contain_text("Saved.")
        assert db.fetch_predictions()["true_label"].tolist() == [3]
        dialog = look(visitor)
        expect(dialog).to_contain_text("labelled 3")
        expect(dialog.get_by_role("status")).to_have_count(0)


def test_the_history_answers_even_if_the_message_also_asks_for_news(chromium, url, db):
    asked, tall = [], {"viewport": {"width": 1280, "height": 1600}}
    with Visitor(chromium, url, before=partial(ask_for_news_with_all, asked), **tall) as visitor:
        history, page = visitor.at("history"), visitor.page
        visitor.draw(SEVEN)
        visitor.answer()
        visitor.clear()
        expect(history).to_contain_text("1 drawing ·")
        expect(visitor.at("insights").get_by_test_id("stMetricValue").first).to_have_text("1")
        before = len(asked)
        while len(asked) < before + 3:  # until there is no news
            page.wait_for_timeout(100)
        dialog = look(visitor)
        expect(dialog).to_contain_text("not labelled")
        dialog.get_by_role("radio", name="3", exact=True).click()
        expect(dialog).to_contain_text("labelled 3: wrong")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(history).to_contain_text("1 labelled")
        history.get_by_role("radio", name="Unlabelled").click()
        expect(history).to_contain_text("None of them matches.")
        history.get_by_role("radio", name="Mistakes").click()
        expect(history).not_to_contain_text("None of them matches.")
        history.get_by_placeholder("Date").fill("right")
        page.keyboard.press("Enter")
        expect(history).to_contain_text("None of them matches.")
        history.get_by_placeholder("Date").fill("")
        page.keyboard.press("Enter")
        expect(history).not_to_contain_text("None of them matches.")
        history.get_by_role("combobox").click()
        page.get_by_role("option", name="5").click()
        expect(history).to_contain_text("None of them matches.")


@pytest.mark.parametrize(("width", "key"), [(1280, "Enter"), (390, "Space")])
def test_a_row_is_picked_with_the_keyboard_alone(chromium, url, save, width, key):
    for minute in range(20):
        save(minute, digit=minute % 10)
    with Visitor(chromium, url, viewport={"width": width, "height": 1300}) as visitor:
        expect(visitor.at("history")).to_contain_text("20 drawings")
        expect(first_row(visitor)).to_contain_text("Look")  # there is something to go to
        keyboard = visitor.page.keyboard
        visitor.at("history").get_by_placeholder("Date").focus()
        for _ in range(12):
            keyboard.press("Tab")
            if visitor.page.evaluate("document.activeElement.matches('.st-key-history canvas, .st-key-history td')"):
                break
        expect(visitor.page.locator("#glide-cell-0-0")).to_be_focused()  # the table hands the focus on to a cell
        keyboard.press("ArrowRight")
        for row in range(14):  # further down than is seen at first
            expect(visitor.page.locator(f"#glide-cell-1-{row}")).to_be_focused()
            keyboard.press("ArrowDown")
        visitor.page.wait_for_timeout(300)  # the table scrolls there
        keyboard.press(key)
        dialog = visitor.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Read as 5")  # the fifteenth newest
        keyboard.press("Escape")
        expect(dialog).to_have_count(0)


def test_a_key_pressed_in_the_closer_look_or_the_table_does_not_label_what_is_on_the_canvas(chromium, url, db):
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        keyboard = visitor.page.keyboard
        visitor.draw(SEVEN)
        visitor.answer()
        visitor.clear()
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        visitor.draw(SEVEN)
        assert visitor.answer() == 7
        dialog = look(visitor)
        expect(dialog).to_contain_text("not labelled")
        for key in ("1", "y", "Backspace"):
            keyboard.press(key)
        keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(visitor.page.get_by_test_id("stDialog")).to_have_count(0)  # while it fades it takes the presses
        box = visitor.at("history").get_by_test_id("stDataFrame").bounding_box()
        visitor.page.mouse.click(box["x"] + 200, box["y"] + 57)  # the cell beside the button
        visitor.page.wait_for_function("document.activeElement.closest('.st-key-history')")
        keyboard.press("5")
        visitor.at("history").get_by_placeholder("Date, time").fill("1")  # typing is as ever
        visitor.at("history").get_by_placeholder("Date, time").press("Backspace")
        expect(visitor.at("history").get_by_placeholder("Date, time")).to_have_value("")
        assert visitor.answer() == 7  # is still on the canvas
        visitor.draw([[(s[0] + 5, s[1]) for s in SEVEN[0]]])
        keyboard.press("7")
        visitor.begin()
        until(lambda: db.fetch_predictions()["true_label"].fillna(-1).tolist() == [7, -1])


def test_a_closer_look_that_has_not_the_focus_hears_escape(chromium, url, db, save):
    save(1)
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        dialog = look(visitor)
        expect(dialog).to_contain_text("not labelled")
        escape = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }))"
        visitor.page.evaluate(escape)
        expect(dialog).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_history_insights_and_closer_look_can_be_read_in_both_themes(chromium, url, db, save, scheme):
    """A dialog lies outside of the part of the page that Streamlit gives its colour scheme to."""
    save(1, label=1)
    poor = (Path(__file__).parent / "contrast.js").read_text()
    colour = "part => getComputedStyle(part).color"
    with Visitor(chromium, url, color_scheme=scheme, viewport={"width": 1280, "height": 1600}) as visitor:
        expect(visitor.at("history")).to_contain_text("1 labelled")
        expect(visitor.at("insights")).to_contain_text("Wilson")
        assert visitor.page.evaluate(poor) == []
        expect(first_row(visitor)).to_contain_text("✗ wrong")
        dialog = look(visitor)
        expect(dialog).to_contain_text("labelled 1: wrong")
        assert visitor.page.evaluate(poor) == []
        accent = visitor.page.locator(".st-key-answer_digit .digit").evaluate(colour)
        assert dialog.locator(".bar.best").evaluate(colour) == accent


def test_a_filter_does_not_break_off_a_download(chromium, url, db, save):
    save(1)
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        history = visitor.at("history")
        button = history.get_by_role("button", name="Download all as CSV")
        button.evaluate("button => { button.mark = 1 }")
        history.get_by_role("radio", name="Mistakes").click()
        expect(history).to_contain_text("None of them matches.")
        assert button.evaluate("button => button.mark") == 1  # another one would know nothing of the parts that came


def test_the_download_holds_every_row_and_the_server_never_the_file(chromium, url, db, save):
    save(1)
    postgres.writes.run("""
        INSERT INTO predictions (id, created_at, predicted_digit, confidence, probabilities, not_a_digit, drawing,
                                 model_version)
        SELECT gen_random_uuid(), created_at + i * interval '1 min', predicted_digit, confidence, probabilities,
               not_a_digit, drawing, model_version FROM predictions, generate_series(1, 2299) AS i
    """)  # three parts
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        expect(visitor.at("history")).to_contain_text("2,300 drawings", timeout=30_000)
        with visitor.page.expect_download(timeout=60_000) as download:
            visitor.page.get_by_role("button", name="Download all as CSV").click()
        assert download.value.suggested_filename == "predictions.csv"
        check_download(download.value.path(), db)
        expect(visitor.at("history")).to_contain_text("2,300 rows, with the drawings")
