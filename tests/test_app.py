"""The page without a browser: AppTest runs the real app.py on a real database, with drawings in the canvas's state."""

import base64
import contextlib
import gc
import inspect
import io
import json
import shutil
import struct
import threading
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from helpers import ONE, SEVEN, digit_in, given, png
from PIL import Image
from streamlit.runtime.scriptrunner_utils.exceptions import StopException
from streamlit.testing.v1 import AppTest

import db as table
import store
from page import answer, drawing
from page.visitor import Visitor
from store.outbox import Outbox

ROOT = Path(__file__).parent.parent


def url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def page(db):
    opened = AppTest.from_file(ROOT / "app.py", default_timeout=60).run()
    yield opened
    for writes in opened.session_state.visitor.tickets.values():  # would be written into the next test's table
        for ticket in writes.values():
            store.start(table).outbox.wait([ticket], 60)


def put(page, value):
    """Run the page with this value in the canvas's state, as the browser would send it."""
    page.session_state[f"canvas-{page.session_state.visitor.drawing.id}"] = value
    return page.run()


def draw(page, *strokes):
    return put(page, {"drawing": {"raw": {"objects": []}, "data": url(png(*strokes))}, "backgroundFit": None})


def html(page):
    return " ".join(element.proto.body for element in page.get("html"))


def data(page):
    """What the page gives to the component that shows the answer."""
    return given(types.SimpleNamespace(bidi_component=element.proto) for element in page.get("bidi_component"))


def digit(page):
    """The digit that the page shows, or None."""
    return digit_in(data(page))


def press(page, label):
    button = next(b for b in page.button if b.label == label)
    assert not button.disabled
    return button.click().run()


def landed(page):
    """Wait until everything that the page handed over is in the table."""
    assert store.start(table).outbox.wait(page.session_state.visitor.to_follow(), 30)


def rows(db):
    table = db.fetch_predictions()
    labels = table.true_label.astype(object).where(table.true_label.notna(), None)
    return list(zip(table.predicted_digit, labels, strict=True))


def test_an_empty_page_asks_for_a_digit_and_takes_no_label(page, db):
    assert not page.exception
    assert (data(page)["answer"], data(page)["refusal"]) == (None, "")
    buttons = {b.label: b.disabled for b in page.button}
    assert all(buttons[label] for label in [*"0123456789", "Correct", "Clear"])
    assert rows(db) == []


def test_a_drawing_is_read_shown_and_kept_as_a_grayscale_png_of_the_canvas(page, db):
    draw(page, SEVEN)
    assert digit(page) == 7
    landed(page)
    table = db.fetch_predictions()
    kept = Image.open(io.BytesIO(bytes(table.drawing[0])))
    assert (kept.size, kept.mode) == ((280, 280), "L")
    assert (np.asarray(kept) == np.asarray(Image.open(io.BytesIO(png(SEVEN))).convert("L"))).all()
    assert str(table.id[0]) in page.session_state.visitor.tickets


def test_one_stroke_is_answered_at_a_time_but_no_other_waits_until_its_row_is_saved(page, monkeypatch):
    held = []

    def noting(function, what):
        return lambda *arguments: (held.append((what, drawing.TURN.locked())), function(*arguments))[1]

    monkeypatch.setattr(answer, "show_answer", noting(answer.show_answer, "answer"))
    monkeypatch.setattr(Outbox, "wait", noting(Outbox.wait, "save"))
    draw(page, SEVEN)
    assert held == [("answer", True), ("save", False)]
    assert not drawing.TURN.locked()


def test_a_label_lands_on_its_drawing_and_an_empty_canvas_follows(page, db):
    draw(page, SEVEN)
    first = page.session_state.visitor.drawing.id
    press(page, "3")
    assert page.session_state.visitor.drawing.id != first
    assert data(page)["answer"] is None
    draw(page, ONE)
    press(page, "Correct")
    landed(page)
    assert rows(db) == [(1, 1), (7, 3)]


ENDED = [
    drawing.show_drawing,
    drawing.read_canvas,
    drawing.keep_drawing,
    drawing.end_drawing,
    Visitor.label,
]
ENDED += [drawing.show_labels, drawing.show_notice, drawing.notice, answer.show_answer, Visitor.put]


def lines_of(function):
    """(code, number) of each line of a function that may be run."""
    code = inspect.unwrap(function).__code__
    return [(code, line) for line in sorted({line for *_, line in code.co_lines() if line})]


@contextlib.contextmanager
def run_ended_at(code, line):
    """The next run that comes to this line is ended there, as Streamlit ends a run whose visitor has sent a message."""
    ended = []

    def trace(frame, event, argument):
        if frame.f_code is code and event == "line" and frame.f_lineno == line and not ended:
            ended.append(line)
            raise StopException
        return trace if frame.f_code is code or event == "call" else None

    threading.settrace(trace)
    try:
        yield ended
    finally:
        threading.settrace(None)


@pytest.mark.parametrize("function", ENDED, ids=lambda function: function.__name__)
def test_a_run_that_is_ended_at_any_line_leaves_the_old_drawing_or_the_new_one(page, db, function):
    """At each line in turn: a stroke whose run is ended there, and a press of a label whose run is ended there."""
    expected, ends = [], 0
    for number, (code, line) in enumerate(lines_of(function)):
        label = number % 10
        with run_ended_at(code, line) as at_stroke:
            draw(page, SEVEN)
        page.run()  # the next message has the canvas with it again
        assert digit(page) == 7
        before = page.session_state.visitor.drawing.id
        with run_ended_at(code, line) as at_press:
            press(page, str(label))
        page.run()
        if page.session_state.visitor.drawing.id == before:  # the press was not taken: the drawing is there as it was
            assert at_press and page.session_state.visitor.drawing.reading
            press(page, str(label))
        assert not page.exception
        expected.append((7, label))
        ends += len(at_stroke) + len(at_press)
    landed(page)
    assert rows(db) == expected[::-1]
    assert ends


def test_a_drawing_that_is_refused_while_the_page_looks_is_not_called_saved(page, monkeypatch):
    waiting = Visitor.waiting

    def refused_now(visitor):
        found = waiting(visitor)
        for writes in visitor.tickets.values():
            writes["prediction"].state = "lost"
        return found

    monkeypatch.setattr(Visitor, "waiting", refused_now)
    draw(page, SEVEN)
    assert "1 of your drawings could not be saved." in html(page) and "Saved." not in html(page)


def test_correct_means_the_digit_that_was_seen_when_it_was_pressed(page, db):
    """A stroke that comes in one message with the press, and makes another digit of it, was not seen."""
    draw(page, ONE)
    assert digit(page) == 1
    both = {"drawing": {"data": url(png(SEVEN))}, "backgroundFit": None}
    page.session_state[f"canvas-{page.session_state.visitor.drawing.id}"] = both
    press(page, "Correct")
    landed(page)
    assert rows(db) == [(7, 1)]


def test_clear_keeps_the_drawing_without_a_label(page, db):
    press(draw(page, SEVEN), "Clear")
    landed(page)
    assert rows(db) == [(7, None)]


def test_a_rerun_without_a_new_stroke_writes_nothing(page, db):
    draw(page, SEVEN)
    landed(page)
    before = db.fetch_predictions().updated_at[0]
    page.run()
    landed(page)
    assert list(db.fetch_predictions().updated_at) == [before]


def test_a_stroke_that_arrives_together_with_the_label_belongs_to_the_labelled_drawing(page, db):
    draw(page, ONE)
    both = {"drawing": {"data": url(png(SEVEN))}, "backgroundFit": None}
    page.session_state[f"canvas-{page.session_state.visitor.drawing.id}"] = both
    press(page, "7")
    landed(page)
    assert rows(db) == [(7, 7)]


def test_two_sessions_share_no_drawing(page, db):
    other = AppTest.from_file(ROOT / "app.py", default_timeout=60).run()
    draw(page, SEVEN)
    other.run()
    assert data(other)["answer"] is None
    draw(other, ONE)
    press(page, "7")
    landed(page)
    landed(other)
    assert sorted(rows(db), key=str) == [(1, None), (7, 7)]


def test_an_emptied_canvas_has_no_answer_and_keeps_the_row(page, db):
    draw(page, SEVEN)
    draw(page)
    assert data(page)["answer"] is None
    landed(page)
    assert rows(db) == [(7, None)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    """A PNG of a few bytes that claims 13,000 × 13,000 pixels."""
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


WHOLE = png(SEVEN)
HOSTILE = {
    "text": "drawing",
    "number": 7,
    "list": [1, 2, 3],
    "drawing is text": {"drawing": "x"},
    "drawing is a list": {"drawing": [1]},
    "data is a number": {"drawing": {"data": 7}},
    "data is a list": {"drawing": {"data": [url(WHOLE)]}},
    "not a data URL": {"drawing": {"data": "https://example.com/7.png"}},
    "a script": {"drawing": {"data": "<script>alert(7)</script>"}},
    "another type": {"drawing": {"data": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}},
    "not base64": {"drawing": {"data": "data:image/png;base64,§§§"}},
    "nothing": {"drawing": {"data": "data:image/png;base64,"}},
    "not a PNG": {"drawing": {"data": url(b"seven")}},
    "cut off": {"drawing": {"data": url(WHOLE[: len(WHOLE) // 2])}},
    "bomb": {"drawing": {"data": url(bomb())}},
    "background fit": {"drawing": {"data": url(WHOLE)}, "backgroundFit": {"x": 1}},
    "background fit is text": {"backgroundFit": "x"},
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_drawing_gets_one_sentence_and_no_row(page, db, value):
    put(page, value)
    assert not page.exception
    assert "again" in data(page)["refusal"] or "can be read" in data(page)["refusal"]
    assert "<script" not in data(page)["refusal"]
    draw(page, SEVEN)  # and the page goes on
    assert digit(page) == 7
    landed(page)
    assert rows(db) == [(7, None)]


@pytest.mark.parametrize("value", [{}, {"drawing": None}, {"drawing": {}}, {"drawing": {"data": None}}])
def test_no_drawing_at_all_is_an_empty_canvas(page, db, value):
    put(page, value)
    assert not page.exception
    assert (data(page)["answer"], data(page)["refusal"]) == (None, "")
    assert rows(db) == []


@pytest.mark.parametrize(("size", "mode"), [(28, "RGBA"), (840, "RGBA"), (280, "L"), (280, "RGB"), (280, "1")])
def test_a_picture_of_another_size_or_mode_gets_an_answer(page, size, mode):
    scaled = [(x * size / 280, y * size / 280) for x, y in SEVEN]
    put(page, {"drawing": {"data": url(png(scaled, size=size, mode=mode))}})
    assert not page.exception
    assert data(page)["answer"]


@pytest.mark.parametrize("stroke", [[(140, 140), (140, 141)], [(-50, 140), (20, 140)], [(500, 500), (600, 600)]])
def test_a_dot_or_a_stroke_that_leaves_the_canvas_breaks_nothing(page, stroke):
    draw(page, stroke)
    assert not page.exception


def test_a_visitor_who_draws_faster_than_drawings_can_be_kept_is_told_so(page, db):
    while page.session_state.visitor.allowance.take():
        pass
    draw(page, SEVEN)
    assert "Not saved." in html(page)
    press(page, "7")
    assert "faster than drawings can be kept" in data(page)["refusal"]
    landed(page)
    assert rows(db) == []


def test_two_digits_side_by_side_are_named_whatever_the_whole_is_read_as(page, db):
    draw(page, [(60, 70), (60, 210)], [(130, 80), (220, 80), (165, 210)])
    assert data(page)["answer"]["parts"] == [1, 7]
    landed(page)
    assert len(rows(db)) == 1
    press(page, "7")
    draw(page, SEVEN)
    assert data(page)["answer"]["parts"] == []


def test_what_is_no_digit_cannot_be_accepted(page, db):
    zigzag = [(40 + 200 * (i % 2), 40 + 16 * i) for i in range(13)]
    draw(page, zigzag, [(y, x) for x, y in zigzag])
    assert digit(page) is None and data(page)["answer"]
    assert all(button.disabled for button in page.button if button.label == "Correct")
    landed(page)
    assert [label for _, label in rows(db)] == [None]


def test_a_lost_drawing_is_said_until_the_next_is_drawn_which_is_saved_and_said_so(page, db, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(db, "MAX_DRAWING_BYTES", 100)
        assert "1 of your drawings could not be saved." in html(draw(page, SEVEN))
    press(page, "7")
    assert "1 of your drawings could not be saved." in html(page) and "Saved as 7." not in html(page)
    draw(page, ONE)
    landed(page)
    assert "Saved." in html(page.run()) and "could not" not in html(page)
    press(page, "1")
    landed(page)
    assert "Saved as 1." in html(page.run())
    assert rows(db) == [(1, 1)]


def test_what_is_saved_of_the_last_drawing_follows_a_label_given_in_the_closer_look(page, db):
    draw(page, SEVEN)
    landed(page)
    press(page, "7")
    landed(page)
    page.session_state.visitor.look = str(db.fetch_predictions().id[0])
    page.run()
    page.pills[0].set_value(1).run()
    landed(page)
    assert "Saved as 1." in html(page.run())
    assert rows(db) == [(7, 1)]


def test_clearing_streamlits_caches_leaves_no_reader_of_the_table_behind(page):
    """Any browser may ask for that. A reader left behind keeps a thread and a copy of the table."""
    before = [thread for thread in threading.enumerate() if thread.name in ("the history", "the insights")]
    st.cache_resource.clear()
    page.run()
    assert not page.exception
    after = [thread for thread in threading.enumerate() if thread.name in ("the history", "the insights")]
    assert after == before


def test_clearing_streamlits_caches_takes_nothing_more_out_of_garbage_collection(page):
    """What is frozen is never freed: with the caches cleared again and again, all that sessions leave would pile up."""
    before = gc.get_freeze_count()
    st.cache_resource.clear()
    page.run()
    assert not page.exception
    assert 0 < gc.get_freeze_count() <= before


@pytest.mark.parametrize("damage", [None, b"not a model"])
def test_a_missing_or_damaged_model_is_said_in_one_sentence_with_the_command_that_makes_one(
    tmp_path, db, damage, monkeypatch
):
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path)
    for folder in (".streamlit", "page"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "model.json", tmp_path)
    if damage:
        (tmp_path / "model.pth").write_bytes(damage)
    monkeypatch.setattr("model.SERVED", tmp_path / "model.pth")
    page = AppTest.from_file(tmp_path / "app.py", default_timeout=60).run()
    assert not page.exception
    assert [error.value.count("python train.py") for error in page.error] == [1]
    assert str(tmp_path) not in page.error[0].value
    assert not page.button


def test_the_settings_keep_details_from_visitors_and_limit_what_they_send():
    import tomllib

    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert settings["client"]["showErrorDetails"] == "none"
    assert settings["server"]["enableXsrfProtection"] and settings["server"]["enableCORS"]
    assert settings["server"]["fileWatcherType"] == "none"
    assert not settings["browser"]["gatherUsageStats"]
    largest = json.dumps({"raw": {"objects": [[["Q", 139.123, 139.123, 140.123, 140.123]] * 10_000]}})
    assert len(largest) < settings["server"]["maxWidgetStateSize"] * 1_000_000
    assert settings["server"]["maxMessageSize"] <= 10 and settings["server"]["maxUploadSize"] == 1
