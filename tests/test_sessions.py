"""Many at once: sessions share the network and the database, and nothing else."""

import json
import random
import time

import pandas as pd
from chaos import App
from helpers import all_at_once, same_ink, scribble, until
from streamlit.proto.WidgetStates_pb2 import WidgetState
from visitor import Visitor


def labels_of(db, drawings):
    """For each PNG, the labels of the rows that hold it."""
    rows = db.fetch_predictions()
    return [[row["true_label"] for _, row in rows.iterrows() if same_ink(row["drawing"], png)] for png in drawings]


def test_a_label_lands_on_the_labellers_own_drawing_while_others_draw(db, app):
    """Both have a drawing before the first label, and who drew first labels last: "the latest" would be wrong."""
    chance = random.Random(1)
    first, second = Visitor(app.address), Visitor(app.address)
    drawings = [scribble(chance), scribble(chance)]
    first.draw(drawings[0])
    second.draw(drawings[1])
    assert first.drawing_id != second.drawing_id
    assert second.label(2)
    assert first.label(1)
    for visitor, label in ((first, "1"), (second, "2")):
        until(lambda: visitor.look_again() or visitor.saved == label)  # noqa: B023
        visitor.close()
    assert labels_of(db, drawings) == [[1], [2]]


def test_clear_touches_no_other_session_and_keeps_its_own_row_unlabelled(db, app):
    chance = random.Random(2)
    first, second = Visitor(app.address), Visitor(app.address)
    drawings = [scribble(chance), scribble(chance)]
    first.draw(drawings[0])
    second.draw(drawings[1])
    kept = second.drawing_id
    first.clear()
    second.look_again()
    assert second.drawing_id == kept
    assert second.text("answer_confidence")
    assert second.label(9)
    until(lambda: second.look_again() or second.saved == "9")
    first.close(), second.close()
    [[cleared], [labelled]] = labels_of(db, drawings)
    assert labelled == 9
    assert pd.isna(cleared)


def whole(visitor):
    """Whether canvas and buttons are there: in the middle of a run some have not been sent yet."""
    return visitor.drawing_id and visitor.inside("clear") and len(visitor.inside("true_label")) == 10


def test_rapid_clicking_never_labels_the_wrong_drawing(db, app):
    """Stroke, label, the same label again, clear: all sent before the first is answered, ten drawings in a row.

    Streamlit may take several messages as one, and then a Clear wins over the label: the row stays, without a label.
    """
    visitor, chance, drawings = Visitor(app.address), random.Random(3), []
    for digit in range(10):
        drawings.append(scribble(chance))
        old, fragment_id = visitor.drawing_id, visitor.canvas[1]
        buttons = {e.button.label: e.button.id for e, _ in visitor.inside("true_label") if e.HasField("button")}
        clear = next(e.button.id for e, _ in visitor.inside("clear") if e.HasField("button"))
        press = WidgetState(id=buttons[str(digit)], trigger_value=True)
        visitor.draw(scribble(chance)) if digit % 2 else None  # every other drawing has an earlier stroke
        visitor.send([visitor.canvas_state(drawings[-1])], fragment_id)
        visitor.send([press], fragment_id)
        visitor.send([press], fragment_id)
        if digit % 3 == 0:
            visitor.send([WidgetState(id=clear, trigger_value=True)], fragment_id)
        until(lambda: visitor.read(seconds=0.2) or visitor.drawing_id not in (old, None))  # noqa: B023
        visitor.read(seconds=0.5)
        until(lambda: whole(visitor) or visitor.read(seconds=0.2))
    until(lambda: visitor.read(seconds=0.2) or visitor.look_again() or "Saving" not in visitor.text("notice"))
    visitor.close()
    for digit, found in enumerate(labels_of(db, drawings)):
        assert len(found) <= 1
        assert all(pd.isna(label) or label == digit for label in found)
    labelled = db.fetch_predictions()["true_label"].dropna()
    assert labelled.is_unique  # no digit was given to two drawings
    assert len(labelled) >= 4  # else the test would show nothing


def asking_for_news(visitor):
    """(element, fragment_id) of what asks for news of the history."""
    return next(found for found in visitor.inside("history") if "history_news" in str(found[0]))


def news(asking, value):
    """The message that there is news, from the element of a section that asks for it."""
    events = json.dumps([{"event": "news", "value": value}])
    return WidgetState(id=f"$$STREAMLIT_INTERNAL_KEY_{asking.bidi_component.id}__events", json_trigger_value=events)


def test_a_filter_that_comes_in_one_message_with_a_press_is_heard_as_well(db, app):
    """As on a phone: to leave the search field with a tap on Clear is one message, which reruns one fragment."""
    visitor = Visitor(app.address)
    visitor.draw(scribble(random.Random(4)))
    until(lambda: visitor.look_again() or visitor.saved)
    asking, fragment_id = asking_for_news(visitor)

    def said(text):
        return any(text in element.markdown.body for element, _ in visitor.inside("history"))

    until(lambda: visitor.rerun([news(asking, 1)], fragment_id) or said("1 drawing ·"))
    field = next(e.text_input.id for e, _ in visitor.inside("history") if e.HasField("text_input"))
    clear = next(e.button.id for e, _ in visitor.inside("clear") if e.HasField("button"))
    old = visitor.drawing_id
    states = [WidgetState(id=field, string_value="right"), WidgetState(id=clear, trigger_value=True)]
    visitor.rerun(states, visitor.canvas[1])
    until(lambda: said("None of them matches.") or visitor.read(seconds=0.2), 20)
    visitor.close()
    assert visitor.drawing_id != old


def test_news_that_come_while_a_press_is_taken_do_not_have_the_page_forget_it(db, app):
    """Streamlit reruns what the callbacks of the later message ask for, and what the earlier ones asked for no more."""
    visitor, chance = Visitor(app.address), random.Random(6)
    for pause in range(0, 40, 2):
        visitor.draw(scribble(chance))
        asking, fragment_id = asking_for_news(visitor)
        clear = next(e.button.id for e, _ in visitor.inside("clear") if e.HasField("button"))
        press = [visitor.canvas_state(scribble(chance)), WidgetState(id=clear, trigger_value=True)]
        old = visitor.drawing_id
        visitor.send(press, visitor.canvas[1])
        time.sleep(pause / 1000)
        visitor.send([news(asking, pause)], fragment_id)
        until(lambda: visitor.read(seconds=0.2) or visitor.drawing_id not in (old, None), 20)  # noqa: B023
        until(lambda: whole(visitor) or visitor.read(seconds=0.2))
    visitor.close()


SLOW = """
import time
from streamlit.runtime import app_session
request = app_session.AppSession.request_rerun
def later(session, state):
    time.sleep(0.2)  # the server's only thread: nothing of what the run before says goes out meanwhile
    request(session, state)
app_session.AppSession.request_rerun = later
"""


def test_what_a_run_said_is_shown_even_if_the_next_message_comes_as_it_ends(db, server, tmp_path):
    """Streamlit alone drops what a run has said that is over and not yet sent, when the next one begins."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    app = App(tmp_path / "app.log", PYTHONPATH=str(tmp_path), **server)
    try:
        app.wait_until_up()
        visitor, chance = Visitor(app.address), random.Random(7)
        for i in range(3):
            visitor.draw(scribble(chance))
            old, (asking, fragment_id) = visitor.drawing_id, asking_for_news(visitor)
            clear = next(e.button.id for e, _ in visitor.inside("clear") if e.HasField("button"))
            visitor.send([WidgetState(id=clear, trigger_value=True)], visitor.canvas[1])
            visitor.send([news(asking, i)], fragment_id)
            until(lambda: visitor.read(seconds=0.2) or visitor.drawing_id not in (old, None), 20)  # noqa: B023
            until(lambda: whole(visitor) or visitor.read(seconds=0.2))
        visitor.close()
    finally:
        app.process.kill()
        app.process.wait()


def test_twenty_sessions_at_once_get_twenty_answers_and_twenty_rows(db, app):
    """More sessions than connections to the database, all drawing and labelling at the same time."""
    failures, drawings = [], {}

    def session(number):
        try:
            visitor, chance = Visitor(app.address), random.Random(f"session {number}")
            for _ in range(2):
                png = scribble(chance)
                visitor.draw(png)
                assert visitor.text("answer_confidence")
                drawings[visitor.drawing_id] = (number % 10, png)
                assert visitor.label(number % 10)
            until(lambda: visitor.look_again() or visitor.saved)
            visitor.close()
        except Exception as error:
            failures.append(error)

    all_at_once(session, [(number,) for number in range(20)])
    assert failures == []
    rows = db.fetch_predictions().set_index("id")
    assert sorted(rows.index) == sorted(drawings)
    for drawing_id, (label, png) in drawings.items():
        assert rows.loc[drawing_id, "true_label"] == label
        assert same_ink(rows.loc[drawing_id, "drawing"], png)
