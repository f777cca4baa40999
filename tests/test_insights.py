"""Insights: what the database counts, and what the charts say of it."""

import itertools
import json
import re
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from browser import Visitor as Person
from helpers import NOON
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

import db as table
import store
from page import charts, insights
from page.visitor import Visitor
from store import ledger, postgres


def page():
    import streamlit as st

    import db
    import store
    from page.insights import show_insights
    from page.visitor import this_visitor

    with st.container(key="insights"):
        show_insights(this_visitor(), store.start(db).counter)


@pytest.fixture
def fill(db):
    """Puts drawings into the table: (how many, predicted digit, true label or None, confidence, hours after noon)."""

    def rows(*groups, not_a_digit=0, version="x"):
        for n, digit, label, confidence, hour in groups:
            created_at = NOON + timedelta(hours=hour)
            postgres.writes.run(
                """
                INSERT INTO predictions (id, created_at, predicted_digit, confidence, probabilities, not_a_digit,
                                         true_label, labelled_at, drawing, model_version)
                SELECT gen_random_uuid(), %(created_at)s + i * interval '1 ms', %(digit)s, %(confidence)s,
                       array_fill(0.1::float8, ARRAY[10]), %(not_a_digit)s, %(label)s::smallint,
                       CASE WHEN %(label)s IS NOT NULL THEN %(created_at)s END, '\\x89', %(version)s
                FROM generate_series(1, %(n)s) AS i
                """,
                {
                    "n": n,
                    "digit": digit,
                    "label": label,
                    "confidence": confidence,
                    "created_at": created_at,
                    "not_a_digit": not_a_digit,
                    "version": version,
                },
            )

    return rows


@pytest.fixture
def open_page():
    def run():
        counter = store.start(table).counter
        deadline = time.monotonic() + 20
        while True:
            while counter.look(patience=20) and counter.problem:
                time.sleep(0.1)  # an earlier test had the database away
            at = AppTest.from_function(page, default_timeout=30).run().run()  # opened, and scrolled to
            assert not at.exception
            if not any("Counting" in caption.value for caption in at.caption):
                return at
            assert time.monotonic() < deadline, "still counting"

    return run


def texts(at):
    return " ".join(caption.value for caption in at.caption)


def drawn_charts(at):
    """Title -> (specification, alternative text) of each chart."""
    protos = [element.proto for element in at.get("vega_lite_chart")]
    specs = [(json.loads(proto.spec), proto.alt) for proto in protos]
    return {spec["title"]: (spec, alternative) for spec, alternative in specs}


def test_an_empty_table_gives_a_sentence_and_no_chart(db, open_page):
    at = open_page()
    assert "Nothing to count yet" in texts(at)
    assert not drawn_charts(at) and not at.metric


def test_few_rows_give_sentences_instead_of_noise(fill, open_page):
    fill((3, 7, 7, 0.9, 0), (1, 7, None, 0.9, 0))
    at = open_page()
    assert [metric.value for metric in at.metric] == ["4", "3", "100.0 %"]
    assert not drawn_charts(at)
    for name in ("Confusion matrix", "Reliability", "Over time"):
        assert f"**{name}**" in texts(at)
    assert "from 20 labelled drawings on; there are 3" in texts(at)


def test_the_last_figures_stay_while_the_database_is_away(fill, open_page, monkeypatch, folder):
    fill((3, 7, 7, 0.9, 0))
    assert [metric.value for metric in open_page().metric] == ["3", "3", "100.0 %"]
    monkeypatch.setenv("POSTGRES_HOST", str(folder / "nowhere"))
    postgres.reads.close()
    store.start(table).counter.look(patience=20)
    at = AppTest.from_function(page, default_timeout=30).run().run()
    assert at.info[0].value == "The database cannot be read right now. This comes back by itself."
    assert [metric.value for metric in at.metric] == ["3", "3", "100.0 %"]


def test_the_database_counts_what_was_read_right_and_wrong(fill, open_page):
    fill((60, 7, 7, 0.9, 0), (30, 4, 4, 0.7, 1), (10, 4, 9, 0.6, 30), (25, 1, None, 0.99, 40))
    at = open_page()
    assert [metric.value for metric in at.metric] == ["125", "100", "90.0 %"]
    assert "between 82.6 % and 94.5 %" in texts(at)
    drawn = drawn_charts(at)
    assert set(drawn) == {
        "Confusion matrix: drawings by digit",
        "Reliability: is 90 % right nine times in ten?",
        "Accuracy by hour, with its 95 % interval",
        "Drawings by hour",
    }
    assert "9 read as 4 (10×)" in drawn["Confusion matrix: drawings by digit"][1]
    assert drawn["Reliability: is 90 % right nine times in ten?"][1].endswith(
        "at 60%, 0% right of 10; at 70%, 100% right of 30; at 90%, 100% right of 60."
    )
    assert "Mean distance to it: 21.00 %" in texts(at)  # 60 % too high, 30 % too low, 10 % too low
    assert "from 100%" in drawn["Accuracy by hour, with its 95 % interval"][1]
    assert "125 in all" in drawn["Drawings by hour"][1]
    version = store.start(table).counter.version
    store.start(table).counter.look(patience=20)
    assert store.start(table).counter.version == version  # nothing new: no visitor is sent the charts again


def test_the_hours_are_the_visitors(fill, open_page, monkeypatch):
    monkeypatch.setattr(charts, "time_zone", lambda: "Asia/Tokyo")
    fill((2, 7, None, 0.9, 0), (5, 7, None, 0.9, 4))  # 16 h in UTC is 1 h of the next day there
    assert "most on 05 Mar 2026" in drawn_charts(open_page())["Drawings by hour"][1]


def test_a_certainty_is_counted_with_the_last_tenth(db, fill):
    fill((1, 7, 7, 1.0, 0), (1, 7, 7, 0.95, 0))
    assert [(row[2], row[3]) for row in db.fetch_answers()] == [(10, 2)]


def test_the_share_of_a_cell_is_of_its_true_digit_and_the_worst_mistakes_come_first(monkeypatch):
    drawn, offered = [], []
    monkeypatch.setattr(charts, "show_chart", lambda chart, *_, **__: drawn.append(chart))
    monkeypatch.setattr(charts.st, "button", lambda text, **of: offered.append((text, of["args"][1:])))
    cells = [(7, 7, 10, 12, 12.0), (7, 1, 10, 4, 4.0), (1, 1, 10, 40, 40.0)]
    cells += [(2, 3, 10, 1, 1.0), (3, 2, 10, 2, 2.0), (4, 9, 10, 3, 3.0)]
    charts.show_confusion(Visitor(), pd.DataFrame(cells, columns=["true", "read", "bin", "n", "confidence"]), 62)
    table = drawn[0].layer[0].data if drawn[0].data is charts.alt.Undefined else drawn[0].data
    assert table.set_index(["true", "read"])["share"][7].to_dict() == {1: 0.25, 7: 0.75}
    assert offered == [("7 read as 1 (4×)", (7, 1)), ("4 read as 9 (3×)", (4, 9)), ("3 read as 2 (2×)", (3, 2))]


def test_what_was_turned_away_was_not_read_right_even_if_the_best_guess_was(fill, open_page):
    fill((20, 7, 7, 0.9, 0), (20, 4, 4, 0.9, 30))
    fill((10, 4, 4, 0.3, 0), not_a_digit=0.6)
    at = open_page()
    assert [metric.value for metric in at.metric] == ["50", "50", "80.0 %"]
    drawn = drawn_charts(at)
    assert drawn["Confusion matrix: drawings by digit"][1].startswith("Confusion matrix of 40 labelled drawings.")
    assert "Not here: 10 taken for no digit." in texts(at)
    assert "**Reliability**: from 50 labelled drawings on; there are 40" in texts(at)


def test_nothing_but_what_was_turned_away_gives_no_chart_of_answers(fill, open_page):
    fill((60, 4, 4, 0.3, 0), not_a_digit=0.6)
    at = open_page()
    assert [metric.value for metric in at.metric] == ["60", "60", "0.0 %"]
    assert not drawn_charts(at)


def test_every_chart_has_a_title_titled_axes_and_a_text_alternative(fill, open_page):
    fill((60, 7, 7, 0.9, 0), (30, 4, 4, 0.7, 30))
    fill((5, 7, 7, 0.9, 31), version="y")

    def titles(spec):
        layers = spec.get("layer", [spec])
        for channel in ("x", "y"):
            found = {layer["encoding"][channel].get("title") for layer in layers if channel in layer["encoding"]}
            assert found - {None}, f"{spec['title']}: no title on {channel}"

    drawn = drawn_charts(open_page())
    assert len(drawn) == 5
    for spec, alternative in drawn.values():
        titles(spec)
        assert len(alternative) > 30


VERSIONS = "Accuracy by version, with its 95 % interval"


def test_versions_are_compared_in_the_order_in_which_they_first_answered(fill, open_page):
    fill((30, 7, 7, 0.9, 5), (10, 7, 1, 0.9, 6), version="0a6ac98cef83")
    fill((18, 7, 7, 0.9, 2), version="77aa88bb99cc")
    fill((2, 7, 7, 0.9, 3), version="77aa88bb99cc", not_a_digit=0.6)
    fill((5, 7, None, 0.9, 0), version="without labels")
    at = open_page()
    spec, words = drawn_charts(at)[VERSIONS]
    assert words == (
        "Accuracy by version of the network: 77aa88b from 04 Mar 2026, 90.0% of 20 right (69.9% to 97.2%); "
        "0a6ac98 from 04 Mar 2026, 75.0% of 40 right (59.8% to 85.8%)."
    )
    named = spec["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    assert named.index("77aa88b") < named.index("0a6ac98")
    assert "Each version answered other drawings" in texts(at)


def test_one_version_is_compared_with_nothing(fill, open_page):
    fill((60, 7, 7, 0.9, 0))
    fill((60, 7, None, 0.9, 1), version="without labels")
    at = open_page()
    assert drawn_charts(at) and VERSIONS not in drawn_charts(at)
    assert "version" not in texts(at)


def test_versions_with_few_labels_are_not_compared_yet(fill, open_page):
    fill((18, 7, 7, 0.9, 0))
    fill((1, 7, 7, 0.9, 1), version="y")
    at = open_page()
    assert VERSIONS not in drawn_charts(at)
    assert "**Accuracy by version**: from 20 labelled drawings on; there are 19." in texts(at)


def test_a_version_has_answered_from_the_visitors_own_day_on(fill, open_page, monkeypatch):
    monkeypatch.setattr(charts, "time_zone", lambda: "Asia/Tokyo")
    fill((20, 7, 7, 0.9, 0))
    fill((20, 7, 7, 0.9, 4), version="y")  # 16 h in UTC is 1 h of the next day there
    words = drawn_charts(open_page())[VERSIONS][1]
    assert "x from 04 Mar 2026" in words and "y from 05 Mar 2026" in words


def test_of_many_versions_the_last_are_compared(fill, open_page):
    for i in range(charts.VERSIONS + 2):
        fill((2, 7, 7, 0.9, i), version=f"v{i:02d}")
    at = open_page()
    words = drawn_charts(at)[VERSIONS][1]
    assert "v01 " not in words
    assert all(f"v{i:02d} from" in words for i in range(2, charts.VERSIONS + 2))
    assert "The last 12 of 14 versions." in texts(at)


def test_a_chart_of_versions_has_room_for_each_and_names_it(chromium, url, fill):
    """Two that begin alike are apart."""

    def middle(part):
        box = part.bounding_box()
        return box["y"] + box["height"] / 2

    fill((30, 7, 7, 0.9, 0), (10, 7, 1, 0.9, 0), version="0a6ac98cef83")
    fill((30, 7, 7, 0.9, 0), version="0a6ac98ffff3")
    fill((30, 7, 7, 0.9, 0), version="77aa88bb99cc")
    with Person(chromium, url, viewport={"width": 360, "height": 4000}) as visitor:
        chart = visitor.at("insights").locator("[data-testid=stVegaLiteChart] svg").last
        expect(chart.locator(".mark-symbol path")).to_have_count(3)
        dots = [middle(dot) for dot in chart.locator(".mark-symbol path").all()]
        assert min(later - one for one, later in itertools.pairwise(dots)) > 30
        names = chart.locator(".role-axis-label text")
        expect(names.filter(has_text="0a6ac98from 04 Mar 2026")).to_have_count(2)
        assert abs(middle(names.filter(has_text="77aa88bfrom 04 Mar 2026")) - dots[2]) < 4


def test_what_became_of_the_latest_network_is_said_in_plain_words(fill, open_page, make_model, monkeypatch):
    fill((3, 7, 7, 0.9, 0))
    assert "network" not in texts(open_page())
    version = make_model(b"better")
    postgres.writes.run("UPDATE models_in_service SET since = '2026-12-03 16:00Z'")
    assert texts(open_page()).endswith(
        f"The latest network that learned from these labels, {version[:7]}, has been in service since 3 December 2026."
    )
    ledger.roll_back(None)
    postgres.writes.run("UPDATE models_in_service SET since = '2026-12-05 01:00Z' WHERE how = 'rolled back'")
    went = "went into service on 3 December 2026 and was rolled back on 5 December 2026."
    assert texts(open_page()).endswith(went)
    monkeypatch.setattr(insights, "time_zone", lambda: "Asia/Tokyo")
    assert "service on 4 December 2026 and was rolled back on 5 December" in texts(open_page())
    make_model(b"worse", refusal="not better beyond chance (p 0.21, level 0.05)")
    said = r"was made on \d+ \w+ 20\d\d and did not go into service: not better beyond chance \(p 0.21, level 0.05\)\.$"
    assert re.search(said, texts(open_page()))


def test_a_refusal_is_shown_as_it_was_written(chromium, url, fill, make_model):
    fill((3, 7, 7, 0.9, 0))
    refusal = "p < 0.05 of ~3 and ~4 drawings, a*b*c, `x`, $1 and $2, [a](b), :red[c] and read_right_a"
    make_model(b"worse", refusal=refusal)
    with Person(chromium, url, viewport={"width": 1280, "height": 2400}) as visitor:
        expect(visitor.at("insights")).to_contain_text(f"did not go into service: {refusal}.")


def test_a_picked_cell_filters_the_history_and_a_second_press_shows_all(monkeypatch):
    state, reruns, visitor = {}, [], Visitor()
    monkeypatch.setattr(charts.st, "session_state", state)
    monkeypatch.setattr(charts.st, "rerun", reruns.append)
    state["chart"] = {"selection": {"cell": [{"true": 9, "read": 4}]}}
    charts.pick_cell(visitor, "chart")
    assert visitor.pair == (9, 4)
    state["chart"] = {"selection": {"cell": []}}
    charts.pick_cell(visitor, "chart")
    assert visitor.pair is None
    assert reruns == [["history", "insights"]] * 2


def test_a_click_on_a_cell_shows_its_drawings_in_the_history(chromium, url, fill):
    fill((20, 7, 7, 0.9, 0), (3, 4, 9, 0.6, 0), (2, 9, 4, 0.6, 0))
    with Person(chromium, url, viewport={"width": 1280, "height": 2400}) as visitor:
        history = visitor.at("history")
        cell_path = "path[aria-label*='true label: 9'][aria-label*='read as: 4']"
        visitor.at("insights_confusion_0").locator(cell_path).click(force=True)  # the number in it lies over it
        expect(history).to_contain_text("3 of them are shown.")
        row = history.locator("[data-testid=stDataFrame] tbody tr").first
        expect(row).to_contain_text("✗ wrong")
        history.get_by_role("button", name="Only 9 read as 4").click()
        expect(history).to_contain_text("25 drawings")
        expect(history).not_to_contain_text("are shown")
        visitor.at("insights_confusion_1").locator(cell_path).click(force=True)  # the same one again
        expect(history).to_contain_text("3 of them are shown.")
        visitor.at("insights_mistakes").get_by_role("button", name="4 read as 9 (2×)").press("Enter")
        expect(history).to_contain_text("2 of them are shown.")


def test_charts_come_when_they_are_scrolled_to_and_hold_up_nothing_before(chromium, url, fill):
    fill((60, 7, 7, 0.9, 0), (30, 4, 4, 0.7, 30))
    # So low that what is asked for below the screen (300 pixels) ends above the insights, without the history, too.
    with Person(chromium, url, viewport={"width": 1280, "height": 240}) as visitor:
        expect(visitor.at("history")).to_contain_text("90 drawings")
        expect(visitor.at("history").locator("tbody tr").first).to_be_attached()
        visitor.page.wait_for_timeout(2_000)
        charts = visitor.at("insights").locator("[data-testid=stVegaLiteChart]")
        expect(charts).to_have_count(0)
        visitor.at("insights").scroll_into_view_if_needed()
        expect(charts).to_have_count(4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_of_the_charts_can_be_read(chromium, url, fill, scheme):
    """Each digit is read right in another share of its drawings, and else as the next one."""
    for digit in range(10):
        fill((2 * digit + 1, digit, digit, 0.9, 0))
        fill((19 - 2 * digit, (digit + 1) % 10, digit, 0.6, 24 * 17), version="y")
    with Person(chromium, url, color_scheme=scheme, viewport={"width": 360, "height": 4000}) as visitor:
        charts = visitor.at("insights").locator("[data-testid=stVegaLiteChart] svg")
        expect(charts).to_have_count(5)
        visitor.page.wait_for_timeout(500)
        assert charts.locator("text:visible").count() > 60
        assert visitor.page.evaluate((Path(__file__).parent / "contrast.js").read_text()) == []


@pytest.mark.parametrize(("days", "unit"), [(1, "hour"), (20, "day"), (300, "week"), (2000, "month")])
def test_the_periods_fit_the_span_and_lose_nothing(days, unit):
    times = pd.DataFrame({"start": pd.date_range(NOON, periods=24 * days + 1, freq="h")})
    times = times.assign(n=2, labelled=1, right=1)
    found, periods = charts.by_period(times, "America/New_York")
    assert found == unit
    assert 2 <= len(periods) <= 110
    assert periods["n"].sum() == times["n"].sum()


def test_a_day_begins_at_the_visitors_midnight():
    times = pd.DataFrame({"start": pd.date_range(NOON, periods=24 * 5, freq="h"), "n": 1, "labelled": 0, "right": 0})
    _, periods = charts.by_period(times, "Asia/Tokyo")  # noon in UTC is 21 h there
    assert periods["n"].tolist() == [3, 24, 24, 24, 24, 21]


@pytest.mark.parametrize(("zone", "offset"), [("Asia/Kolkata", 330), ("Asia/Kathmandu", 345), ("UTC", 0)])
def test_an_hour_begins_with_the_visitors_own(fill, db, zone, offset):
    local = [10 * 60 + 1, 10 * 60 + 25, 10 * 60 + 59, 11 * 60 + 1]  # minutes of the day
    fill(*((1, 7, None, 0.9, (minute - offset) / 60 - 12) for minute in local))
    times = pd.DataFrame(sorted(db.fetch_times()), columns=["start", "n", "labelled", "right"])
    unit, periods = charts.by_period(times, zone)
    assert unit == "hour"
    assert periods["period"].dt.strftime("%H:%M").tolist() == ["10:00", "11:00"]
    assert periods["n"].tolist() == [3, 1]
