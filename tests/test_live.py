"""What reads the database for the page, without a database."""

import itertools
import logging
from types import SimpleNamespace

import pytest

import db
from page import live


@pytest.fixture
def reader(monkeypatch):
    """A reader that fails as `reader.trouble` says, and tries again without a pause."""
    monkeypatch.setattr(live, "RETRY", 0)

    class Reader(live.Reader):
        trouble = None

        def refresh(self, check):
            if self.trouble:
                raise self.trouble

    return Reader("the reader")


def look(reader, trouble, times=5):
    """Look several times while there is this trouble."""
    reader.trouble = trouble
    for _ in range(times):
        with reader._turn:  # whether or not the database is known to be away
            reader.problem = None
        reader.look(patience=20)
    assert bool(reader.problem) == bool(trouble)


def test_each_kind_of_failure_is_logged_once_and_so_is_the_recovery(reader, caplog):
    caplog.set_level(logging.DEBUG, "page.live")
    away, full = db.DatabaseError("no server there"), db.DatabaseError("its disk is full")
    look(reader, None)
    assert caplog.messages == []
    look(reader, away)
    look(reader, full)
    look(reader, away)
    look(reader, None)
    look(reader, away)
    gone = "the reader: no server there; it is tried again"
    full = "the reader: its disk is full; it is tried again"
    assert caplog.messages == [gone, full, "the reader: read again", gone]
    assert not any(record.exc_info for record in caplog.records)


def test_a_failure_that_nobody_foresaw_is_logged_once_with_its_traceback(reader, caplog):
    look(reader, KeyError("digit"))
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError and record.levelno == logging.ERROR


@pytest.mark.parametrize(
    ("named", "taken"),
    [("Asia/Calcutta", "Asia/Calcutta"), (None, "UTC"), ("Etc/Unknown", "UTC"), ("../../etc/passwd", "UTC"),
     ("x" * 5000, "UTC"), ("Europe", "UTC")],
)  # fmt: skip
def test_a_time_zone_that_nobody_knows_is_utc(monkeypatch, named, taken):
    monkeypatch.setattr(live.st, "context", SimpleNamespace(timezone=named))
    assert live.time_zone() == taken


SECTIONS = """async (tick) => {
  document.body.innerHTML = '<div class="st-key-history">History</div><div class="st-key-insights">Insights</div>';
  const { default: start } = await import("data:text/javascript," + encodeURIComponent(tick));
  window.ticks = [];
  window.watch = (section, seconds) => {
    const setTriggerValue = () => ticks.push([section, performance.now()]);
    start({ data: { section, seconds }, parentElement: document.createElement("div"), setTriggerValue });
    const inView = new IntersectionObserver(() => {});  // answered after those that were there before
    return new Promise((resolve) => new IntersectionObserver(resolve).observe(document.body));
  };
}"""


@pytest.fixture
def page(chromium):
    """A page of two sections, of which `watch` watches one, with a clock that stands still."""
    page = chromium.new_page()
    page.clock.install(time=0)
    page.goto("about:blank")
    page.clock.pause_at(3600)  # the clock runs until then
    page.evaluate(SECTIONS, live.TICK)
    yield page
    page.close()


@pytest.mark.parametrize("after", range(0, 300, 50))
def test_two_sections_on_the_screen_take_turns(page, after):
    """They ask a second apart, and neither waits for news while the other asks again and again."""
    page.evaluate("watch('insights', 10)")
    page.clock.run_for(after)
    page.evaluate("watch('history', 3)")
    page.clock.run_for(9000)
    ticks = page.evaluate("ticks")
    asked, times = zip(*ticks, strict=True)
    assert set(asked[:2]) == set(asked[2:4]) == {"history", "insights"}
    assert all(later - earlier > 1000 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(("button", "goes_on"), [(0, False), (2, True)])
def test_no_news_is_asked_for_while_the_pen_is_down_but_a_press_that_opens_a_menu_is_no_pen(page, button, goes_on):
    page.evaluate("watch('history', 3)")
    page.clock.run_for(5000)
    before = page.evaluate("ticks.length")
    page.evaluate("button => document.body.dispatchEvent(new PointerEvent('pointerdown', { button }))", button)
    page.clock.run_for(9000)
    after = page.evaluate("ticks.length")
    assert before > 0
    assert (after > before) == goes_on
