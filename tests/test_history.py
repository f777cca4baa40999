"""The history: what a visitor is shown of the table, without a browser and in a real one."""

import base64
import contextlib
import importlib.resources
import io
import os
import uuid
import zoneinfo
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psycopg2
import pyarrow as pa
import pytest
from browser import CANVAS, ask_for_news_with_all, placed
from browser import Visitor as Person
from helpers import NOON, SEVEN, given, png, until
from PIL import Image
from playwright.sync_api import expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.testing.v1 import AppTest

import db as table
import store
from page import closer_look, filters, history
from page.visitor import Visitor
from store import postgres, snapshot
from store.snapshot import Snapshot, View, to_arrow
from store.table import HistoryRow

STROKES = placed([[(0.15, 0.05), (0.85, 0.04), (0.42, 0.98)]])


# --- the views ---------------------------------------------------------------------------------------------------


def page():
    import streamlit as st

    import db
    import store
    from page.closer_look import show_asked
    from page.history import show_history
    from page.visitor import this_visitor

    beside = store.start(db)
    show_asked(this_visitor(), beside.snapshot, beside.outbox)
    with st.container(key="history"):
        show_history(this_visitor(), beside.snapshot, beside.outbox)


@pytest.fixture
def open_page(db):
    """Opens the history for a visitor with these drawings of their own."""

    def run(*own_ids):
        shared = store.start(table).snapshot  # the page itself would wait a second at most
        until(lambda: shared.look(patience=30, check=True) and not shared.problem, 60)
        at = AppTest.from_function(page, default_timeout=30)
        at.session_state["visitor"] = Visitor(tickets={drawing_id: {} for drawing_id in own_ids})
        until(lambda: not any("Reading" in c.value or "older" in c.value for c in at.run().caption))
        assert not at.exception
        return at

    return run


def shown(at):
    return at.dataframe[0].value


def look_at(at, drawing_id):
    at.session_state["visitor"].look = drawing_id
    return at.run()


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
    look_at(at, str(uuid.uuid4()))  # a closer look, too
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
    at.session_state["visitor"].pair = (8, 8)
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


def test_however_many_words_are_looked_for_the_times_are_written_out_once(monkeypatch):
    asked, times_of = [], filters.times_of
    monkeypatch.setattr(filters, "times_of", lambda *given: asked.append(given) or times_of(*given))
    rows = to_arrow([HistoryRow(str(uuid.uuid4()), NOON, NOON, 7, 0.9, 0.0, None, None)], table.thumbnail)
    found = filters.search(rows, "2026 wednesday 12:00 12 20 7", "UTC")
    assert found.equals(rows) and len(asked) == 1


def test_the_search_needs_no_time_zones_of_the_system(tmp_path):
    """Debian's lack the old names, such as Asia/Calcutta, that browsers use."""
    tokyo = importlib.resources.files("tzdata") / "zoneinfo/Asia/Tokyo"
    (tmp_path / "Only").mkdir()
    (tmp_path / "Only" / "Here").write_bytes(tokyo.read_bytes())
    rows = to_arrow([HistoryRow(str(uuid.uuid4()), NOON, NOON, 7, 0.9, 0.0, None, None)], table.thumbnail)
    zoneinfo.reset_tzpath([tmp_path])
    try:
        assert len(filters.search(rows, "21:00:00", "Only/Here")) == 1
        assert len(filters.search(rows, "12:00:00", "Only/Here")) == 0
    finally:
        zoneinfo.reset_tzpath()


def test_a_drawing_is_found_by_the_start_of_its_number(open_page, save):
    save(1, drawing_id="aaaaaaaa-0000-4000-8000-000000000000")
    save(2, drawing_id="bbbbbbbb-0000-4000-8000-000000000000")
    at = open_page()
    at.text_input(key="history_search").set_value("AAAAaa").run()
    assert [when.minute for when in shown(at)["created_at"]] == [1]


def bars(at):
    """What the ten bars of a closer look are made of."""
    return given((SimpleNamespace(bidi_component=e.proto) for e in at.get("bidi_component")), "bars")["answer"]


def test_a_closer_look_shows_both_pictures_and_all_probabilities(open_page, save):
    picked = save(1, digit=7, label=1, confidence=0.75)
    at = open_page()
    look_at(at, picked)
    assert at.markdown[0].value == "Read as **7** with a confidence of **75.0 %**, labelled **1**: wrong."
    figures = next(h.value for h in at.get("html") if "<figure" in h.value)
    assert base64.b64encode(png(SEVEN)).decode() in figures
    assert "what the network saw" in figures
    assert bars(at)["probabilities"][7] == 0.75
    assert not at.exception
    assert not at.run().markdown  # closed, it stays closed when there is news


def test_a_closer_look_at_what_is_no_digit_calls_it_none(open_page, db, prediction):
    scribble = str(uuid.uuid4())
    db.save_prediction(scribble, **prediction | {"confidence": 0.02, "not_a_digit": 0.97, "drawing": png(SEVEN)})
    at = open_page()
    look_at(at, scribble)
    assert at.markdown[0].value == "Not taken for a digit (**97.0 %** sure that it is none), not labelled."
    db.save_label(scribble, prediction["digit"])
    look_at(at, scribble)
    assert at.markdown[0].value.endswith(f"labelled **{prediction['digit']}**: wrong.")


def test_a_closer_look_at_a_row_without_a_drawing_shows_the_rest(open_page, save):
    at = open_page()
    look_at(at, save(1, digit=7, confidence=0.75, drawing=b"\x89PNG and no more"))
    assert not at.exception
    assert at.markdown[0].value.startswith("Read as **7**")
    assert any("cannot be shown" in h.value for h in at.get("html"))
    assert bars(at)["probabilities"][7] == 0.75


def test_only_ones_own_drawing_can_be_labelled(open_page, save, db):
    own, foreign = save(1), save(2)
    at = open_page(own)
    look_at(at, foreign)
    assert not at.get("pills") and not at.get("button_group")[1:]
    look_at(at, own)
    at.pills[0].set_value(3).run()
    labels = db.fetch_predictions().set_index("id")["true_label"]
    assert labels[own] == 3
    assert pd.isna(labels[foreign])
    db.save_label(own, 8)  # with the buttons of the page, or on another one
    look_at(at, own)
    assert at.markdown[0].value.endswith("labelled **8**: wrong.")
    assert at.pills[0].value == 8


def test_the_server_refuses_a_label_for_a_foreign_drawing_whatever_the_browser_sends(monkeypatch):
    put = []
    visitor, outbox = Visitor(tickets={"own": {}}), SimpleNamespace(put=lambda key, *_, **__: put.append(key), wait=any)
    outbox.wait = lambda tickets, seconds: True
    monkeypatch.setattr(closer_look.st, "session_state", {"relabel": 3})
    monkeypatch.setattr(closer_look.st, "rerun", lambda fragment: None)
    closer_look.relabel(visitor, "foreign", "relabel", outbox)
    assert put == []
    closer_look.relabel(visitor, "own", "relabel", outbox)
    assert put == ["own label"]


def test_times_are_the_visitors_in_the_search_and_in_the_closer_look(open_page, save, monkeypatch):
    for module in (history, closer_look):
        monkeypatch.setattr(module, "time_zone", lambda: "Asia/Tokyo")
    picked = save(1)
    at = open_page()
    at.text_input(key="history_search").set_value("21:01").run()
    assert len(shown(at)) == 1
    look_at(at, picked)
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
    presses = {"press": {"row": 1}, "before": {"row": 1}, "ages_ago": {"row": 0}}
    monkeypatch.setattr(history.st, "session_state", presses)
    monkeypatch.setattr(history.st, "rerun", lambda fragment: None)
    visitor = Visitor(tables={"before": pa.chunked_array([["a", "c"]]), "press": pa.chunked_array([["a"], ["b", "c"]])})
    history.pick(visitor, "press")
    assert visitor.look == "b"
    presses["press"]["row"] = 3
    history.pick(visitor, "press")
    assert visitor.look == "b"
    history.pick(visitor, "ages_ago")
    assert visitor.look == "b"
    history.pick(visitor, "before")
    assert visitor.look == "c"


def test_all_pairs_are_shown_again_whatever_else_the_message_asks_for(monkeypatch):
    visitor, rerun = Visitor(pair=(3, 5)), []
    monkeypatch.setattr(history.st, "rerun", rerun.append)
    history.show_all_pairs(visitor)
    assert visitor.pair is None
    assert rerun == [["history", "insights"]]


def test_a_session_holds_the_ids_of_no_more_tables_than_a_press_may_come_from(save, open_page):
    one = save(1)
    at = open_page()
    for _ in range(history.TABLES + 1):
        at.run()
    visitor = at.session_state.visitor
    assert list(visitor.tables)[-1] == f"history-look-{visitor.tables_sent}"
    assert [ids.to_pylist() for ids in visitor.tables.values()] == [[one]] * history.TABLES


def test_the_one_row_that_is_left_has_a_button_for_those_without_a_mouse(open_page, save):
    save(1, drawing_id="aaaaaaaa-0000-4000-8000-000000000000")
    save(2, digit=3, drawing_id="bbbbbbbb-0000-4000-8000-000000000000")
    save(3, digit=3)
    at = open_page()
    at.selectbox(key="history_digit").set_value(3).run()
    assert not any(button.label == "Look at this drawing" for button in at.button)
    assert any(caption.value == "2 of them are shown. If one is left, a button opens it." for caption in at.caption)
    at.text_input(key="history_search").set_value("bbbb").run()
    next(button for button in at.button if button.label == "Look at this drawing").click().run()
    assert at.markdown[0].value.startswith("Read as **3**")


def test_visitors_with_the_same_filter_share_its_rows(db, save):
    save(1, label=1)
    view = View(Snapshot(db).look(patience=20).table, True)
    mistakes = filters.filtered(view, snapshot.WRONG, None, None)
    assert len(mistakes) == 1 and mistakes is filters.filtered(view, snapshot.WRONG, None, None)
    assert filters.filtered(view, None, None, None) is view.table
    for digit in range(10):
        filters.filtered(view, None, str(digit), None)
    assert len(view.filtered) <= filters.FILTERS


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
    with Person(chromium, url, **tall) as one, Person(chromium, url, **tall) as other:
        expect(other.at("history")).to_contain_text("No drawings yet")
        one.draw(STROKES)
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

    with Person(chromium, url, before=listen, viewport={"width": 1280, "height": 500}) as visitor:
        expect(visitor.at("history")).to_contain_text("30 drawings")
        expect(first_row(visitor)).to_be_attached()
        sent = [ForwardMsg.FromString(m) for m in messages]
        assert any(m.delta.new_element.WhichOneof("type") == "dataframe" for m in sent)  # so that we would see it
        visitor.page.route("**/news", lambda route: route.abort())  # the row that the stroke makes is news, in its time
        messages.clear()
        visitor.draw(STROKES)
        visitor.answer()
        visitor.page.wait_for_timeout(500)
        kinds = {ForwardMsg.FromString(m).delta.new_element.WhichOneof("type") for m in messages}
        assert kinds and not kinds & {"dataframe", "vega_lite_chart"}


def test_a_stroke_goes_on_while_another_visitors_row_arrives(chromium, url, db, save):
    save(1)
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        expect(visitor.at("history")).to_contain_text("1 drawing ·")
        (stroke,) = STROKES
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
        visitor.wait_sent(STROKES)
        assert visitor.answer() == 7
        assert visitor.strokes_sent == 1
        seen = np.asarray(Image.open(io.BytesIO(visitor.sent[0])).convert("L"))
        assert all(seen[round(y), round(x)] > 128 for x, y in stroke)


def test_a_row_is_picked_shown_and_labelled_by_its_own_visitor(chromium, url, db, save):
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}, timezone_id="Asia/Tokyo") as visitor:
        visitor.draw(STROKES)
        visitor.answer()
        visitor.clear()
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        dialog = look(visitor)
        expect(dialog).to_contain_text("not labelled")
        expect(dialog.get_by_role("img", name="28 by 28")).to_be_visible()
        save(5)  # news meanwhile
        expect(visitor.at("history")).to_contain_text("2 drawings", timeout=15_000)
        dialog.get_by_role("radio", name="3", exact=True).click()
        until(lambda: db.fetch_predictions()["true_label"].dropna().tolist() == [3])
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
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as stranger:
        dialog = look(stranger)
        expect(dialog).to_contain_text("labelled 7")
        expect(dialog.get_by_role("radio")).to_have_count(0)


def test_a_label_of_the_closer_look_that_waits_is_said_to_wait(chromium, url, db):
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        visitor.draw(STROKES)
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
        expect(visitor.at("notice")).to_contain_text("Saved as 3.")
        assert db.fetch_predictions()["true_label"].tolist() == [3]
        dialog = look(visitor)
        expect(dialog).to_contain_text("labelled 3")
        expect(dialog.get_by_role("status")).to_have_count(0)


def test_the_history_answers_even_if_the_message_also_asks_for_news(chromium, url, db):
    asked, tall = [], {"viewport": {"width": 1280, "height": 1600}}
    with Person(chromium, url, before=partial(ask_for_news_with_all, asked), **tall) as visitor:
        history, page = visitor.at("history"), visitor.page
        visitor.draw(STROKES)
        visitor.answer()
        visitor.clear()
        expect(history).to_contain_text("1 drawing ·")
        expect(visitor.at("insights").get_by_test_id("stMetricValue").first).to_have_text("1")
        page.wait_for_timeout(1_000)  # no news any more: it comes with what follows
        assert asked
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
def test_a_closer_look_is_reached_with_the_keyboard_alone(chromium, url, save, width, key):
    for minute in range(20):
        save(minute, digit=minute % 10, drawing_id=f"{minute:08d}-0000-4000-8000-000000000000")
    with Person(chromium, url, viewport={"width": width, "height": 1300}) as visitor:
        expect(visitor.at("history")).to_contain_text("20 drawings")
        keyboard = visitor.page.keyboard
        visitor.at("history").get_by_placeholder("Date").focus()
        keyboard.type("00000005")
        keyboard.press("Enter")
        button = visitor.at("history").get_by_role("button", name="Look at this drawing")
        expect(button).to_be_visible()
        for _ in range(5):
            keyboard.press("Tab")
            if button.evaluate("button => button === document.activeElement"):
                break
        keyboard.press(key)
        dialog = visitor.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Read as 5")
        keyboard.press("Escape")
        expect(dialog).to_have_count(0)


def test_a_key_pressed_in_the_closer_look_or_the_table_does_not_label_what_is_on_the_canvas(chromium, url, db):
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        keyboard = visitor.page.keyboard
        visitor.draw(STROKES)
        visitor.answer()
        visitor.clear()
        expect(visitor.at("history")).to_contain_text("1 drawing ·", timeout=15_000)
        visitor.draw(STROKES)
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
        visitor.draw([[(s[0] + 5, s[1]) for s in STROKES[0]]])
        keyboard.press("7")
        visitor.begin()
        until(lambda: db.fetch_predictions()["true_label"].fillna(-1).tolist() == [7, -1])


def test_a_closer_look_that_has_not_the_focus_hears_escape(chromium, url, db, save):
    save(1)
    with Person(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
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
    with Person(chromium, url, color_scheme=scheme, viewport={"width": 1280, "height": 1600}) as visitor:
        expect(visitor.at("history")).to_contain_text("1 labelled")
        expect(visitor.at("insights")).to_contain_text("Wilson")
        assert visitor.page.evaluate(poor) == []
        expect(first_row(visitor)).to_contain_text("✗ wrong")
        dialog = look(visitor)
        expect(dialog).to_contain_text("labelled 1: wrong")
        assert visitor.page.evaluate(poor) == []
        accent = visitor.page.locator(".st-key-answer_digit").evaluate(colour)
        assert dialog.locator(".bar.best").evaluate(colour) == accent
