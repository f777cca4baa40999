"""How a section of the page asks for news, in a browser without the rest of the page."""

from types import SimpleNamespace

import pytest

from page import news
from page.scripts import STATIC


@pytest.mark.parametrize(
    ("named", "taken"),
    [("Asia/Calcutta", "Asia/Calcutta"), (None, "UTC"), ("Etc/Unknown", "UTC"), ("../../etc/passwd", "UTC"),
     ("x" * 5000, "UTC"), ("Europe", "UTC")],
)  # fmt: skip
def test_a_time_zone_that_nobody_knows_is_utc(monkeypatch, named, taken):
    monkeypatch.setattr(news.st, "context", SimpleNamespace(timezone=named))
    assert news.time_zone() == taken


@pytest.mark.parametrize(
    ("base", "address"), [("", "/news"), ("/", "/news"), ("some/where", "/some/where/news"), ("/here/", "/here/news")]
)
def test_the_address_of_a_route_is_below_that_of_the_page(monkeypatch, base, address):
    monkeypatch.setattr(news.st, "get_option", lambda name: base)
    assert news.route("news") == address


# window.told: what the server says is newest, or null where it answers with another page; window.status: of its answer;
# window.asked: when it was asked; window.sent: when Streamlit was sent a message.
SECTION = """async ([script, seen]) => {
  document.body.innerHTML =
    '<div class="st-key-canvas"><canvas></canvas></div><div class="st-key-history">History</div>';
  const { default: start } = await import("data:text/javascript," + encodeURIComponent(script));
  Object.assign(window, { told: "old", status: 200, asked: [], sent: [] });
  window.fetch = async (url) => {
    asked.push(performance.now());
    if (url !== "/news") throw new Error(url);
    const type = told === null ? "text/html" : "application/json";
    return new Response(JSON.stringify({ news: told }), { status, headers: { "Content-Type": type } });
  };
  const parentElement = document.createElement("div");
  const setTriggerValue = () => sent.push(performance.now());
  window.show = (seen) =>
    start({ data: { section: "history", seconds: 3, url: "/news", seen }, parentElement, setTriggerValue });
  window.stop = show(seen);
  window.looked = () => new Promise((resolve) => new IntersectionObserver(resolve).observe(document.body));
  await looked();  // answered after those that were there before
}"""


@pytest.fixture
def section(chromium):
    """Opens a page with one section that shows the news `seen`, with a clock that stands still."""
    page = chromium.new_page()

    def show(seen="old"):
        page.clock.install(time=0)
        page.goto("about:blank")
        page.clock.pause_at(3600)  # the clock runs until then
        page.evaluate(SECTION, [(STATIC / "news.js").read_text(), seen])
        return page

    yield show
    page.close()


def run_for(page, seconds):
    for _ in range(10 * seconds):  # in steps, between which what was asked is answered
        page.clock.run_for(100)
        page.evaluate("0")


def test_a_message_is_sent_only_when_there_is_news_and_the_question_comes_every_three_seconds(section):
    page = section()
    run_for(page, 10)
    assert page.evaluate("sent.length") == 0
    assert 3 <= page.evaluate("asked.length") <= 4
    page.evaluate("told = 'new'")
    run_for(page, 4)
    assert page.evaluate("sent.length") == 1


def test_a_section_that_is_still_being_read_is_sent_again_without_a_question(section):
    page = section(seen=None)
    run_for(page, 1)
    assert page.evaluate("sent.length") == 1  # and not again while the answer is on its way
    page.evaluate("show(null), looked()")  # older rows are still being read
    run_for(page, 1)
    assert (page.evaluate("sent.length"), page.evaluate("asked.length")) == (before := 2, 0)
    page.evaluate("show('old'), looked()")  # now it is read
    run_for(page, 9)
    assert page.evaluate("sent.length") == before
    assert page.evaluate("asked.length") >= 2


def test_nothing_is_asked_for_before_the_canvas_stands(section):
    page = section(seen=None)
    page.evaluate("window.canvas = document.querySelector('canvas'); canvas.remove()")
    run_for(page, 5)
    assert page.evaluate("sent.length") == 0
    page.evaluate("document.querySelector('.st-key-canvas').append(canvas)")
    run_for(page, 1)
    assert page.evaluate("sent.length") > 0


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_without_the_route_does_not_ask_again(section, status):
    page = section()
    page.evaluate("now => Object.assign(window, now)", {"told": None, "status": status})
    run_for(page, 20)
    assert (page.evaluate("sent.length"), page.evaluate("asked.length")) == (0, 1)


def test_a_server_that_cannot_be_reached_is_asked_again(section):
    page = section()
    page.evaluate("void (fetch = async () => { asked.push(0); throw new TypeError('Failed to fetch'); })")
    run_for(page, 10)
    assert page.evaluate("sent.length") == 0
    assert page.evaluate("asked.length") >= 3


@pytest.mark.parametrize("told", [None, "new"])
def test_a_server_that_is_busy_is_asked_again(section, told):
    """A proxy says so with a page of its own, or with JSON, which is no news either."""
    page = section()
    for status in (429, 502, 504):
        page.evaluate("now => Object.assign(window, now)", {"told": told, "status": status})
        run_for(page, 3)
    assert page.evaluate("sent.length") == 0
    page.evaluate("now => Object.assign(window, now)", {"told": "new", "status": 200})
    run_for(page, 4)
    assert page.evaluate("sent.length") > 0


@pytest.mark.parametrize(("button", "goes_on"), [(0, False), (2, True)])
def test_no_news_is_asked_for_while_the_pen_is_down_but_a_press_that_opens_a_menu_is_no_pen(section, button, goes_on):
    page = section()
    run_for(page, 5)
    before = page.evaluate("asked.length")
    page.evaluate("button => document.body.dispatchEvent(new PointerEvent('pointerdown', { button }))", button)
    run_for(page, 9)
    after = page.evaluate("asked.length")
    assert before > 0
    assert (after > before) == goes_on


def test_nothing_is_asked_after_the_section_has_gone(section):
    page = section()
    page.evaluate("stop()")
    run_for(page, 9)
    assert page.evaluate("asked.length") == 0
