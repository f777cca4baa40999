"""The address of a drawing: it opens the closer look, for everybody, and once."""

import contextlib
import os

import psycopg2
import pytest
from browser import CANVAS, placed
from helpers import until
from playwright.sync_api import expect
from test_browser import DIGITS
from test_history import Person, look

TALL = {"viewport": {"width": 1280, "height": 1600}}


def opened(visitor):
    """Whether the page's address names a drawing."""
    return "drawing=" in visitor.page.url


@contextlib.contextmanager
def locked(mode):
    """The table, held by somebody else: SHARE stops writers, ACCESS EXCLUSIVE readers, too."""
    with contextlib.closing(psycopg2.connect(host=os.environ["POSTGRES_HOST"], user="postgres")) as locker:
        locker.cursor().execute(f"LOCK TABLE predictions IN {mode} MODE")
        yield


def go(visitor, drawing_id):
    """Go to this address in the same session, as back and forward do."""
    script = "id => { history.pushState({}, '', `?drawing=${id}`); dispatchEvent(new PopStateEvent('popstate')); }"
    visitor.page.evaluate(script, drawing_id)


def test_an_address_opens_the_closer_look_and_no_rerun_opens_it_again(chromium, url, db, save):
    drawing_id = save(1, digit=3, label=5)
    save(2)
    with Person(chromium, f"{url}/?drawing={drawing_id}", viewport={"width": 1280, "height": 500}) as visitor:
        dialog = visitor.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Read as 3")  # while the history is below the screen
        expect(dialog.get_by_label("Address of this drawing")).to_have_value(f"{url}/?drawing={drawing_id}")
        visitor.page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        until(lambda: not opened(visitor) or visitor.page.wait_for_timeout(50))
        visitor.page.keyboard.press("Backspace")  # reruns the page
        visitor.begin()
        visitor.draw(placed(DIGITS[7]))
        visitor.answer()
        visitor.label(7)
        visitor.at("history").scroll_into_view_if_needed()
        expect(visitor.at("history")).to_contain_text("3 drawings", timeout=15_000)
        expect(dialog).to_have_count(0)
        visitor.open(visitor.page.url)
        visitor.page.wait_for_timeout(1000)
        expect(dialog).to_have_count(0)


def test_a_look_from_the_history_has_its_address_and_back_and_forward_do_no_harm(chromium, url, db, save):
    drawing_id = save(1, digit=3)
    with Person(chromium, url, **TALL) as visitor:
        dialog = look(visitor)
        expect(dialog).to_contain_text("Read as 3")
        until(lambda: visitor.page.url.endswith(f"?drawing={drawing_id}") or visitor.page.wait_for_timeout(50))
        visitor.page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        until(lambda: not opened(visitor) or visitor.page.wait_for_timeout(50))
        visitor.page.go_back()
        expect(dialog).to_contain_text("Read as 3")
        visitor.page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        dialog = look(visitor)  # the same one again
        expect(dialog).to_contain_text("Read as 3")
        assert not visitor.complaints


@pytest.mark.parametrize(
    ("drawing_id", "words"),
    [
        ("seven", "This address names no drawing"),
        ("'; DROP TABLE predictions; --", "This address names no drawing"),
        ("%00<img src=x>", "This address names no drawing"),
        ("1b4e28ba-2fa1-4ad2-8f3a-0305e82c3301", "no longer in the table"),
        ("urn:uuid:1b4e28ba-2fa1-4ad2-8f3a-0305e82c3301", "no longer in the table"),
        ("\u0661" * 32, "no longer in the table"),  # digits to Python alone
    ],
)
def test_an_address_that_names_no_drawing_says_so(chromium, url, db, drawing_id, words):
    with Person(chromium, f"{url}/?drawing={drawing_id}", **TALL) as visitor:
        expect(visitor.page.get_by_role("dialog")).to_contain_text(words)
        visitor.page.keyboard.press("Escape")
        visitor.draw(placed(DIGITS[7]))
        assert visitor.answer() == 7


def test_a_drawing_that_waits_to_be_saved_says_so_to_its_visitor_and_to_others(chromium, url, db):
    with Person(chromium, url, **TALL) as visitor, locked("SHARE"):
        drawing_id = visitor.key.removeprefix("st-key-canvas-")
        visitor.draw(placed(DIGITS[7]))
        assert visitor.answer() == 7
        go(visitor, drawing_id.upper())
        expect(visitor.page.get_by_role("dialog").get_by_role("status")).to_have_text("Saving …")
        with Person(chromium, f"{url}/?drawing={drawing_id}", **TALL) as stranger:
            expect(stranger.page.get_by_role("dialog")).to_contain_text("still waits to be saved")


def test_an_address_whose_drawing_cannot_be_read_says_so_until_it_can(chromium, url, db, save):
    drawing_id, away = save(1, digit=3), contextlib.ExitStack()
    with away:
        away.enter_context(locked("ACCESS EXCLUSIVE"))
        with Person(chromium, f"{url}/?drawing={drawing_id}", **TALL) as visitor:
            dialog = visitor.page.get_by_role("dialog")
            expect(dialog).to_contain_text("cannot be read right now")
            away.close()
            expect(dialog).to_contain_text("Read as 3", timeout=30_000)


def test_a_look_that_is_asked_for_while_a_pen_is_down_waits_for_the_end_of_the_stroke(chromium, url, db, save):
    drawing_id = save(1, digit=3)
    with Person(chromium, url, **TALL) as visitor:
        dialog, (stroke,) = visitor.page.get_by_role("dialog"), placed(DIGITS[7])
        half, corner = len(stroke) // 2, visitor.page.locator(CANVAS).bounding_box()
        visitor.press(stroke[:half])
        go(visitor, drawing_id)
        visitor.page.wait_for_timeout(1000)
        expect(dialog).to_have_count(0)
        for x, y in stroke[half:]:
            visitor.page.mouse.move(corner["x"] + x, corner["y"] + y)
        visitor.page.mouse.up()
        expect(dialog).to_contain_text("Read as 3")
        assert visitor.answer() == 7


@pytest.mark.parametrize("secure", [True, False])
def test_the_address_can_be_copied(chromium, url, db, save, secure):
    drawing_id = save(1, digit=3)

    def plain_http(page):
        page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")

    before = {} if secure else {"before": plain_http}
    with Person(chromium, f"{url}/?drawing={drawing_id}", **TALL, **before) as visitor:
        visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
        dialog = visitor.page.get_by_role("dialog")
        dialog.get_by_role("button", name="Copy address").press("Enter")
        expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
        assert visitor.page.evaluate("navigator.clipboard.readText()") == f"{url}/?drawing={drawing_id}"
        expect(dialog.get_by_role("button", name="Copied")).to_be_focused()


def test_the_address_fits_a_phone_and_moves_nothing_on_the_page(chromium, url, db, save):
    drawing_id, places = save(1, digit=3), "() => document.querySelector('.st-key-history').getBoundingClientRect().y"
    with Person(chromium, url, viewport={"width": 360, "height": 740}) as visitor:
        before = visitor.page.evaluate(places)
        visitor.open(f"{url}/?drawing={drawing_id}")
        dialog = visitor.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Read as 3")
        button = dialog.get_by_role("button", name="Copy address")
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["height"] >= 44
        assert dialog.get_by_label("Address of this drawing").bounding_box()["width"] > 100
        assert visitor.page.evaluate(places) == before
