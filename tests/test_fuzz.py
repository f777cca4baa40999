"""A short run of the fuzzing, and what it must never find again. The long form is a command: python tests/fuzz.py"""

import json
import logging
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fuzz
import psutil
import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from visitor import Visitor, scribble

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_line_for_each_damaged_png(caplog):
    caplog.set_level(logging.CRITICAL)


def test_whatever_is_sent_as_a_drawing_is_read_empty_or_refused_in_words():
    outcomes, grown = fuzz.run_payloads(random.Random(2), 300)
    assert set(outcomes) == {"read", "empty", "refused"}
    assert grown < fuzz.MEMORY


def test_whatever_db_is_called_with_it_does_or_refuses(db):
    outcomes, grown = fuzz.run_calls(random.Random(3), 500)
    assert set(outcomes) >= {"done", "ValueError", "NoSuchDrawing"}
    assert not {fuzz.FAULT, fuzz.OWN_ERROR} & set(outcomes)
    assert grown < fuzz.MEMORY


def test_a_hostile_client_gets_no_traceback_and_a_decent_visitor_does_not_notice(db, folder):
    outcomes, grown, shown = fuzz.run_messages(random.Random(4), 60, folder)
    assert outcomes["decent drawings labelled and saved"] == 10
    assert not {fuzz.FAULT, fuzz.OWN_ERROR} & set(outcomes)
    assert grown < fuzz.MEMORY
    assert not [text for text in shown if "redacted" not in text]  # Streamlit's own words, without the reason
    assert "MemoryError" not in (folder / "app.log").read_text(errors="replace")


class Emptied:
    """A visitor whose page a hostile run has left without a canvas."""

    canvas, elements, errors = None, {}, []
    socket = SimpleNamespace(send=lambda message: None)

    def __init__(self, *_):
        pass

    def read(self, seconds):
        pass

    def close(self):
        pass


def test_a_page_that_lost_what_messages_are_made_of_is_no_fault_of_anybodys(monkeypatch):
    monkeypatch.setattr(fuzz, "Visitor", Emptied)
    fuzz.attack("nowhere", random.Random(5), 200, outcomes := {})
    assert set(outcomes) == {"sent", fuzz.NOT_NOW}


def test_faults_of_the_app_and_errors_of_the_program_are_told_apart_and_the_run_goes_on(monkeypatch, capsys):
    def stumble(*_):
        raise RuntimeError("of its own")

    monkeypatch.setattr(fuzz, "hostile_message", stumble)
    monkeypatch.setattr(fuzz, "Visitor", Emptied)
    fuzz.attack("nowhere", random.Random(6), 3, outcomes := {})
    assert outcomes == {fuzz.OWN_ERROR: 3}
    assert capsys.readouterr().err.count("RuntimeError: of its own") == 1  # the first of its kind

    def break_down(png):
        raise ZeroDivisionError("of the app")

    monkeypatch.setattr(fuzz, "try_payload", break_down)
    outcomes, _ = fuzz.run_payloads(random.Random(7), 5)
    assert outcomes == {fuzz.FAULT: 5}


@pytest.mark.parametrize("drawing", ["not base64!", "QUJD", "A" * 900_000, 7, [], {"data": 1}])
def test_a_canvas_value_that_is_no_drawing_is_refused_in_words_and_writes_no_row(db, app, drawing):
    visitor = Visitor(app.address)
    data = "data:image/png;base64," + drawing if isinstance(drawing, str) else drawing
    state = WidgetState(
        id=visitor.canvas[0].bidi_component.id,
        json_value=json.dumps({"drawing": {"raw": {}, "data": data}, "backgroundFit": None}),
    )
    visitor.rerun([state], visitor.canvas[1])
    assert "draw again" in visitor.text("answer_confidence")
    assert visitor.text("answer_digit") == ""
    assert visitor.errors == []
    assert len(db.fetch_predictions()) == 0
    visitor.draw(scribble(random.Random(5)))  # and the next drawing is answered as ever
    while not visitor.saved:
        visitor.look_again()
    visitor.close()
    assert len(db.fetch_predictions()) == 1


def test_the_linter_refuses_values_pasted_into_sql():
    code = 'def find(name):\n    return run(f"SELECT * FROM predictions WHERE id = {name}")\n'
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", "db.py", "-"]
    checked = subprocess.run(command, input=code, capture_output=True, text=True, cwd=ROOT)
    assert "S608" in checked.stdout


def test_a_picture_of_huge_claims_costs_no_memory():
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        assert fuzz.try_payload(fuzz.raw_png(13_000, 13_000, 8, 6, 0, b"")) == "refused"
        assert fuzz.try_payload(fuzz.raw_png(1120, 1120, 8, 6, 0, fuzz.zlib.compress(bytes(10**7)))) in (
            "refused",
            "empty",
        )
    assert psutil.Process().memory_info().rss - before < fuzz.MEMORY
