"""The page as people use it: a real Chromium, the real app in its own process, and a real database to look into."""

import io
import math
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import psycopg2
import pytest
from browser import CANVAS, ask_for_news_with_all, placed
from PIL import Image
from playwright.sync_api import expect
from streamlit.proto.BackMsg_pb2 import BackMsg

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "is_mobile": True, "has_touch": True}


def arc(x, y, rx, ry, start, end, steps=14):
    """Points on an ellipse, angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


DIGITS = {  # strokes in a square of side 1
    0: [arc(0.5, 0.5, 0.33, 0.48, -80, 285)],
    1: [[(0.5, 0.02), (0.48, 0.5), (0.47, 0.98)]],
    2: [arc(0.48, 0.27, 0.3, 0.26, -160, 35) + [(0.2, 0.95), (0.85, 0.93)]],
    3: [arc(0.45, 0.26, 0.3, 0.25, -150, 80) + arc(0.45, 0.73, 0.34, 0.25, -80, 150)],
    4: [[(0.3, 0.02), (0.15, 0.55), (0.85, 0.52)], [(0.68, 0.2), (0.62, 0.98)]],
    5: [[(0.3, 0.04), (0.26, 0.42)] + arc(0.45, 0.68, 0.32, 0.29, -110, 140), [(0.3, 0.04), (0.8, 0.03)]],
    6: [[(0.65, 0.02), (0.35, 0.3)] + arc(0.48, 0.7, 0.26, 0.27, 180, -190)],
    7: [[(0.15, 0.05), (0.85, 0.04), (0.6, 0.45), (0.42, 0.98)]],
    8: [arc(0.5, 0.25, 0.24, 0.23, 80, -260) + arc(0.5, 0.73, 0.28, 0.26, -80, 260)],
    9: [arc(0.5, 0.28, 0.27, 0.26, 20, -340) + [(0.76, 0.3), (0.7, 0.98)]],
}
PLACES = [(40, 40, 200), (20, 60, 120), (150, 30, 110), (30, 150, 110), (60, 10, 240), (90, 80, 150)]  # left, top, size
# To and fro across the canvas, down and then to the right; corners alone, as each point costs a frame.
ZIGZAG = [(30 + 220 * (i % 2), 30 + 220 * i / 12) for i in range(12)]
SCRIBBLE = [ZIGZAG, [(y, x) for x, y in ZIGZAG]]


def saved(visitor, label=None):
    """Wait until the page says that the drawing, or the last one's label, is in the table."""
    expect(visitor.at("notice")).to_have_text("Saved." if label is None else f"Saved as {label}.")


def rows(db):
    """(what was read, the true label) of every row, newest first; no label is None."""
    table = db.fetch_predictions()
    labels = table.true_label.astype(object).where(table.true_label.notna(), None)
    return list(zip(table.predicted_digit, labels, strict=True))


def draw_and_label(digits, visitor, draw, db):
    for digit in digits:
        draw(placed(DIGITS[digit], *PLACES[digit % len(PLACES)]))
        assert visitor.answer() == digit
        visitor.label(digit)
        saved(visitor, digit)
    assert rows(db) == [(digit, digit) for digit in reversed(digits)]


def test_ten_digits_drawn_with_the_mouse_at_many_sizes_and_places_are_read_labelled_and_kept(visit, db):
    visitor = visit()
    draw_and_label(range(10), visitor, visitor.draw, db)


def test_digits_drawn_with_a_finger_on_a_phone_are_read_labelled_and_kept(visit, db):
    visitor = visit(**PHONE)
    draw_and_label((2, 3, 4, 6, 7), visitor, visitor.touch, db)  # at five of the places
    assert {Image.open(io.BytesIO(png)).size for png in visitor.sent} == {(280, 280)}  # whatever the screen's pixels


def test_a_finger_can_begin_in_every_corner_of_the_canvas(visit, db):
    """The component's own toolbar, unseen on a touch screen, once swallowed what began at the upper right."""
    visitor = visit(**PHONE)
    for x, y in ((8, 8), (272, 8), (200, 12), (145, 8), (8, 272), (272, 272)):
        visitor.touch([[(x, y), (140, 140), (140, 150)]])
    assert visitor.strokes_sent == 6


def test_on_a_phone_a_finger_on_the_canvas_draws_and_beside_it_scrolls(visit):
    visitor = visit(**PHONE)
    top = "document.querySelector('.st-key-canvas').getBoundingClientRect().top"
    before = visitor.page.evaluate(top)
    upward = [(140, 250 - 10 * i) for i in range(20)]
    visitor.touch([upward])
    assert visitor.page.evaluate(top) == before
    assert visitor.page.locator(CANVAS).bounding_box()["x"] >= 40  # room for a thumb
    visitor.finger([(-20, y) for _, y in upward])
    visitor.page.wait_for_function(f"{top} < {before - 100}")


def test_on_a_phone_the_menu_never_lies_over_the_canvas(visit):
    visitor = visit(**PHONE)
    menu, canvas = visitor.page.get_by_test_id("stMainMenu"), visitor.page.locator(CANVAS)
    for width in (320, 360, 390):
        resize(visitor, width, 640)
        expect(menu).to_be_visible()
        visitor.page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
        top = canvas.bounding_box()["y"]
        for distance in (20, 60, 120):
            visitor.page.mouse.move(width / 2, 400)
            visitor.page.mouse.wheel(0, distance - (top - canvas.bounding_box()["y"]))
            visitor.page.wait_for_timeout(300)
            assert canvas.bounding_box()["y"] <= top - distance  # it did scroll
            assert not over(menu.bounding_box(), canvas.bounding_box())


def resize(visitor, width, height):
    """Give the window another size, and wait until the page is laid out anew."""
    visitor.page.set_viewport_size({"width": width, "height": height})
    visitor.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert visitor.page.evaluate("innerWidth") == width


def over(one, other):
    axes = (("x", "width"), ("y", "height"))
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in axes)


TWICE = {
    "texts": """() => {
      window.texts = [...document.querySelectorAll(".stMain *")].filter((text) => !text.style.fontSize);
      const sizes = window.texts.map((text) => parseFloat(getComputedStyle(text).fontSize));
      window.texts.forEach((text, i) => text.style.setProperty("font-size", 2 * sizes[i] + "px", "important"));
    }""",
    "root": "document.documentElement.style.setProperty('font-size', '32px', 'important')",
}
ONCE = "[document.documentElement, ...(window.texts ?? [])].forEach((text) => text.style.removeProperty('font-size'))"


def test_text_at_twice_its_size_lies_over_nothing_on_a_phone(visit):
    """As a browser's setting makes it: of the texts alone; or of the page's root, by which lengths go, too."""
    visitor = visit(**PHONE)
    faults = (Path(__file__).parent / "overlaps.js").read_text()

    def enlarged(how, width, height):
        visitor.page.evaluate(ONCE)
        resize(visitor, width, height)
        visitor.page.evaluate(TWICE[how])
        visitor.page.wait_for_timeout(300)
        return visitor.page.evaluate(faults)

    def look():
        for how in TWICE:
            for size in ((390, 844), (320, 640)):
                assert enlarged(how, *size) == [], (how, size)

    look()
    visitor.draw(placed(DIGITS[5]))  # what looked last stays: all is twice its size
    assert visitor.answer() == 5
    saved(visitor)
    look()
    visitor.clear()
    visitor.draw(SCRIBBLE)
    expect(visitor.at("answer_confidence")).to_contain_text("does not look like a digit")
    look()


class Hand:
    """Touches by several fingers, each with a number."""

    def __init__(self, visitor):
        self.session = visitor.context.new_cdp_session(visitor.page)
        self.x, self.y = visitor._corner()
        self.down = {}

    def send(self, kind, points):
        points = [{"x": self.x + x, "y": self.y + y, "id": finger} for finger, (x, y) in points.items()]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def put(self, finger, point):
        self.down[finger] = point
        self.send("touchStart", self.down)

    def move(self, finger, point):
        self.down[finger] = point
        self.send("touchMove", self.down)

    def lift(self, finger):
        self.send("touchEnd", {finger: self.down.pop(finger)})

    def draw(self, finger, points, end="touchEnd"):
        self.put(finger, points[0])
        for point in points[1:]:
            self.move(finger, point)
        self.lift(finger) if end == "touchEnd" else self.send(end, {})


def test_a_thumb_that_rests_beside_the_canvas_holds_up_no_stroke(visit, db):
    visitor = visit(**PHONE)
    hand = Hand(visitor)
    hand.put(0, (-30, 200))
    for i, stroke in enumerate(placed(DIGITS[4]), 1):
        hand.draw(1, stroke)
        visitor.wait_sent([stroke])
        assert visitor.strokes_sent == i
    assert visitor.answer() == 4
    hand.lift(0)
    saved(visitor)
    visitor.label(4)
    saved(visitor, 4)
    assert rows(db) == [(4, 4)]


def test_a_touch_that_the_system_takes_away_ends_its_stroke(visit):
    visitor = visit(**PHONE)
    strokes = placed(DIGITS[4])
    Hand(visitor).draw(0, strokes[0], end="touchCancel")
    visitor.wait_sent(strokes[:1])
    visitor.touch(strokes[1:])
    assert visitor.answer() == 4


def test_another_button_of_the_mouse_neither_ends_nor_begins_a_stroke(visit):
    visitor = visit()
    (stroke,) = placed(DIGITS[7])
    x, y = visitor._corner()
    mouse = visitor.page.mouse
    mouse.move(x + 250, y + 250)
    for button in ("right", "middle"):
        mouse.down(button=button)
        mouse.up(button=button)
    mouse.move(x + stroke[0][0], y + stroke[0][1])
    mouse.down()
    for part, button in ((stroke[1:3], "right"), (stroke[3:5], "middle"), (stroke[5:], "left")):
        for point in part:
            mouse.move(x + point[0], y + point[1])
        if button != "left":
            mouse.down(button=button)
        mouse.up(button=button)
    visitor.wait_sent([stroke])
    assert visitor.answer() == 7
    assert visitor.strokes_sent == 1


def test_what_ends_a_drawing_closes_its_canvas_at_once(visit):
    """On a slow way the next canvas is a while in coming: what would be drawn meanwhile would be lost."""
    visitor = visit()
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    closed = visitor.page.evaluate(
        """() => {
          document.querySelector(".st-key-label-7 button").click();
          return getComputedStyle(document.querySelector("[class*=st-key-canvas-]")).pointerEvents;
        }"""
    )
    assert closed == "none"
    saved(visitor, 7)
    visitor._look()
    visitor.draw(placed(DIGITS[3]))
    assert visitor.answer() == 3


def test_every_stroke_of_a_drawing_updates_the_same_row(visit, db):
    visitor = visit()
    first, second = placed(DIGITS[4])
    visitor.draw([first])
    saved(visitor)
    before = db.fetch_predictions()
    visitor.draw([second])
    assert visitor.answer() == 4
    visitor.label(4)
    saved(visitor, 4)
    after = db.fetch_predictions()
    assert list(after.id) == list(before.id)
    assert bytes(after.drawing[0]) != bytes(before.drawing[0])
    assert after.created_at[0] == before.created_at[0]
    assert rows(db) == [(4, 4)]


def test_two_people_at_once_never_see_or_touch_each_others_drawing(visit, db):
    ann, bob = visit(), visit()
    ann.draw(placed(DIGITS[3]))
    bob.draw(placed(DIGITS[8]))
    assert (ann.answer(), bob.answer()) == (3, 8)
    ann.clear()  # must not clear Bob's
    assert bob.answer() == 8
    ann.draw(placed(DIGITS[1]))
    assert ann.answer() == 1
    bob.label(5)  # Ann's is the newest row
    ann.label(1)
    saved(ann, 1)
    saved(bob, 5)
    assert len(rows(db)) == 3 and set(rows(db)) == {(3, None), (8, 5), (1, 1)}


def test_clear_keeps_the_row_without_a_label_and_starts_the_next_drawing(visit, db):
    visitor = visit()
    visitor.draw(placed(DIGITS[0]))
    assert visitor.answer() == 0
    visitor.clear()
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7  # no trace of the 0
    visitor.label(7)
    saved(visitor, 7)
    assert rows(db) == [(7, 7), (0, None)]


def test_an_empty_canvas_has_no_answer_and_writes_no_row(visit, db):
    visitor = visit()
    expect(visitor.at("answer")).to_contain_text("Draw a digit to begin")
    expect(visitor.at("answer_digit")).to_have_text("")
    for key in ("3", "y", "Backspace"):
        visitor.page.keyboard.press(key)
    visitor.begin()  # Backspace clears even what the app does not know of yet
    for part in ("true_label", "correct", "clear", "undo"):
        for button in visitor.at(part).get_by_role("button").all():
            expect(button).to_be_disabled()
    visitor.draw(placed(DIGITS[2]))
    assert visitor.answer() == 2
    saved(visitor)
    assert rows(db) == [(2, None)]


def test_the_keys_label_accept_and_clear(visit, db):
    visitor = visit()
    for digit, key in ((2, "7"), (0, "y"), (4, "Backspace")):
        visitor.draw(placed(DIGITS[digit]))
        assert visitor.answer() == digit
        visitor.page.keyboard.press(key)
        visitor.begin()
    visitor.draw(placed(DIGITS[1]))
    visitor.answer()
    saved(visitor)
    assert rows(db) == [(1, None), (4, None), (0, 0), (2, 7)]


def test_one_tap_accepts_the_answer(visit, db):
    visitor = visit()
    visitor.draw(placed(DIGITS[2]))
    assert visitor.answer() == 2
    visitor.at("correct").get_by_role("button").click()
    visitor.begin()
    saved(visitor, 2)
    assert rows(db) == [(2, 2)]


def test_a_second_press_of_a_label_does_not_label_the_next_drawing(visit, db):
    visitor = visit()
    visitor.draw(placed(DIGITS[2]))
    assert visitor.answer() == 2
    visitor.at("true_label").get_by_role("button", name="2", exact=True).dblclick()
    visitor.begin()
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    saved(visitor)
    assert rows(db) == [(7, None), (2, 2)]


def test_a_stroke_that_is_still_being_drawn_when_its_drawing_ends_lands_nowhere(visit, db):
    visitor = visit()
    visitor.draw(placed(DIGITS[0]))
    assert visitor.answer() == 0
    box = visitor.page.locator(CANVAS).bounding_box()
    visitor.page.mouse.move(box["x"] + 40, box["y"] + 40)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + 200, box["y"] + 90, steps=4)
    visitor.page.keyboard.press("0")
    visitor.begin()
    visitor.page.mouse.move(box["x"] + 240, box["y"] + 200, steps=4)
    visitor.page.mouse.up()
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    saved(visitor)
    assert rows(db) == [(7, None), (0, 0)]


@pytest.mark.parametrize("context", [{}, PHONE], ids=["mouse", "finger"])
def test_a_label_pressed_at_once_after_a_stroke_takes_the_stroke_along(visit, db, context):
    """The component alone sends a stroke 200 ms after its end; the press comes 50 ms after it, from within the page."""
    visitor = visit(**context)
    first, second = placed(DIGITS[4])
    (visitor.touch if context else visitor.draw)([first])
    saved(visitor)
    visitor.page.evaluate("""() => {
      const press = () => setTimeout(() => document.querySelectorAll(".st-key-true_label button")[4].click(), 50);
      document.addEventListener("pointerup", press, { once: true, capture: true });
    }""")
    (visitor.finger if context else visitor.mouse)(second)
    visitor.begin()
    saved(visitor, 4)
    assert rows(db) == [(4, 4)]
    kept = np.asarray(Image.open(io.BytesIO(db.fetch_predictions().drawing[0])))
    assert all(kept[round(y), round(x)] > 128 for x, y in (first[3], second[-1]))


@pytest.mark.parametrize("key", ["7", "y", "Backspace"])
def test_a_key_that_ends_the_drawing_closes_its_canvas_at_once(visit, db, key):
    visitor = visit()
    press = """(options) => {
      const alone = (event) => event.stopImmediatePropagation();  // the press itself is not looked at here
      window.addEventListener("keydown", alone, { capture: true, once: true });
      document.body.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, ...options }));
      return document.querySelectorAll(".ended").length;
    }"""
    assert visitor.page.evaluate(press, {"key": key}) == 0  # there is nothing to end
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    expect(visitor.at("correct").get_by_role("button")).to_be_enabled()
    assert visitor.page.evaluate(press, {"key": key, "ctrlKey": True}) == 0
    assert visitor.page.evaluate(press, {"key": key}) == 1


def test_a_french_keyboards_digits_label_by_their_place_and_only_where_others_do(visit, db):
    """They type signs. Streamlit's shortcuts go by the place of a key, unless they know its sign, as they do the '."""
    press = """([on, key, keyCode, repeat]) => {
      for (const name of ["keydown", "keyup"]) {
        const event = new KeyboardEvent(name, { key, keyCode, repeat, bubbles: true });
        document.querySelector(on).dispatchEvent(event);
      }
      return document.querySelectorAll(".ended").length;
    }"""
    visitor = visit()
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    vain = [(".st-key-history", "(", 53, False), ("body", "(", 53, True), ("body", "'", 52, False)]
    assert [visitor.page.evaluate(press, [*key]) for key in vain] == [0, 0, 0]
    assert visitor.page.evaluate(press, ["body", "\u00e9", 50, False]) == 1
    visitor.begin()
    saved(visitor, 2)
    assert rows(db) == [(7, 2)]


def test_a_key_that_is_held_down_labels_one_drawing(visit, db):
    visitor = visit()
    visitor.draw(placed(DIGITS[7]))
    visitor.page.keyboard.down("2")
    visitor.begin()
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    visitor.page.keyboard.down("2")  # down already: it repeats
    visitor.page.wait_for_timeout(500)
    assert visitor.answer() == 7
    saved(visitor)
    assert rows(db) == [(7, None), (7, 2)]


def test_a_stroke_that_reaches_the_app_after_the_label_lands_nowhere(visit, db):
    """The message with the second stroke is held on the wire until the label was given and the next drawing begun."""
    held = []

    def hold(page):
        page.route_web_socket(re.compile("/_stcore/stream"), route)

    def route(socket):
        server = socket.connect_to_server()

        def pass_on(message):
            (held.append if holding and not held and is_stroke(message) else server.send)(message)

        socket.on_message(pass_on)
        held.append(server.send)

    holding = False
    visitor = visit(before=hold)
    send = held[-1]  # of the last connection, if the page had to be opened more than once
    held.clear()
    first, second = placed(DIGITS[4])
    visitor.draw([first])
    saved(visitor)
    holding = True
    visitor.mouse(second)
    while not held:
        visitor.page.wait_for_timeout(50)
    visitor.label(4)
    saved(visitor, 4)
    send(held[0])
    visitor.page.wait_for_timeout(500)
    expect(visitor.at("answer_digit")).to_have_text("")
    assert rows(db) == [(4, 4)]  # the press of the label had brought the stroke with it
    holding = False
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    saved(visitor)
    assert rows(db) == [(7, None), (4, 4)]


def is_stroke(message):
    """Whether this message to the app comes from the canvas: no clock sent it, and no button was pressed."""
    request = BackMsg.FromString(message).rerun_script
    pressed = any(state.trigger_value or state.json_trigger_value for state in request.widget_states.widgets)
    return bool(request.fragment_id) and not request.is_auto_rerun and not pressed


def test_a_stroke_is_answered_even_if_its_message_also_asks_for_news_of_the_history(visit, db):
    asked = []
    visitor = visit(before=partial(ask_for_news_with_all, asked))
    while not asked:
        visitor.page.wait_for_timeout(100)
    visitor.draw(placed(DIGITS[7]))
    assert visitor.answer() == 7
    saved(visitor)


def test_a_scribble_is_not_called_a_digit_and_still_takes_a_label(visit, db):
    visitor = visit()
    visitor.draw(SCRIBBLE)
    expect(visitor.at("answer_confidence")).to_contain_text("does not look like a digit")
    expect(visitor.at("answer_digit")).to_have_text("")
    expect(visitor.at("correct").get_by_role("button")).to_be_disabled()
    visitor.label(8)
    saved(visitor, 8)
    assert [label for _, label in rows(db)] == [8]


def test_what_had_to_wait_is_said_to_be_saved_without_a_touch(visit, db):
    visitor = visit()
    locker = psycopg2.connect(host=os.environ["POSTGRES_HOST"], user="postgres", dbname="postgres")
    locker.cursor().execute("LOCK TABLE predictions IN SHARE MODE")  # for writers: the page goes on reading
    visitor.draw(placed(DIGITS[7]))
    expect(visitor.at("notice")).to_contain_text("Saving …")
    locker.close()
    saved(visitor)


def test_on_a_phone_canvas_answer_all_label_buttons_and_the_notice_are_on_the_screen_at_once(visit):
    visitor = visit(**PHONE | {"viewport": {"width": 360, "height": 740}})
    visitor.touch(placed(DIGITS[5]))
    assert visitor.answer() == 5
    saved(visitor)
    labels = visitor.at("true_label").get_by_role("button").all()
    assert len(labels) == 10
    buttons = [*labels, *(visitor.at(part).get_by_role("button") for part in ("clear", "undo", "correct"))]
    for width, height in ((360, 740), (390, 844)):
        resize(visitor, width, height)
        for part in [visitor.at("canvas"), visitor.at("answer_digit"), visitor.at("notice"), *buttons]:
            box = part.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            assert box["y"] >= 0 and box["y"] + box["height"] <= height
        assert all(button.bounding_box()["height"] >= 44 for button in buttons)  # CSS pixels, for a thumb


def test_nothing_jumps_between_empty_answered_doubtful_and_labelled(visit):
    visitor = visit()

    def places(width):
        resize(visitor, width, 900)
        keys = ("canvas", "answer", "true_label", "correct", "clear", "undo", "notice", "history")
        boxes = {key: visitor.at(key).first.bounding_box() for key in keys}
        ends = [boxes[key]["x"] + boxes[key]["width"] for key in ("correct", "true_label", "history")]
        assert max(ends) - min(ends) < 1  # at one edge
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == width
        return {key: (box["x"], box["y"]) for key, box in boxes.items()}

    def everywhere():
        return {width: places(width) for width in (360, 768, 1280)}

    visitor.page.evaluate("document.fonts.ready")
    empty = everywhere()
    assert empty[360] != empty[768] != empty[1280]  # each is laid out in its own way
    visitor.draw(placed(DIGITS[5]))
    visitor.answer()
    saved(visitor)
    assert everywhere() == empty
    visitor.clear()
    visitor.draw(SCRIBBLE)
    expect(visitor.at("answer_confidence")).to_contain_text("does not look like a digit")
    assert everywhere() == empty
    visitor.label(3)
    saved(visitor, 3)
    assert everywhere() == empty


def test_every_text_can_be_read_on_what_is_behind_it(visit):
    visitor = visit(color_scheme="dark")
    poor = (Path(__file__).parent / "contrast.js").read_text()
    brightness = "parseInt(getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/\\d+/))"

    def look():
        for scheme, seen in (("dark", f"{brightness} < 64"), ("light", f"{brightness} > 192")):
            visitor.page.emulate_media(color_scheme=scheme)
            visitor.page.wait_for_function(seen)
            visitor.page.wait_for_timeout(300)  # a change of colour may be a soft one
            assert visitor.page.evaluate(poor) == [], scheme

    look()
    visitor.draw(placed(DIGITS[2]))
    visitor.answer()
    look()
    visitor.clear()
    visitor.draw(SCRIBBLE)
    expect(visitor.at("answer_confidence")).to_contain_text("does not look like a digit")
    look()


def test_a_screen_reader_finds_the_canvas_the_answer_and_every_button_and_the_focus_is_seen(visit):
    visitor = visit()
    # What changes in a region that was there before is told.
    parts = {"answer": visitor.at("answer").locator("[role=status]"), "notice": visitor.at("notice")}
    regions = {name: part.element_handle() for name, part in parts.items()}
    for digit in (7, 2):
        visitor.draw(placed(DIGITS[digit]))
        assert visitor.answer() == digit
        saved(visitor)
        for region, told in ((regions["answer"], f"Read as {digit}: "), (regions["notice"], "Saved.")):
            assert region.evaluate("region => region.isConnected && region.role") == "status"
            assert told in region.text_content()
        if digit == 7:
            visitor.clear()
    levels = visitor.page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(heading => heading.tagName)")
    assert levels[:3] == ["H1", "H2", "H2"]  # none is left out on the way down
    said = visitor.at("drawing").aria_snapshot()
    for part in ["Canvas: draw a digit here", "status:", 'img "What the network saw"', "Probability of each digit. 0"]:
        assert part in said
    for name in ["Clear", "Undo", "Correct", *"0123456789"]:
        button = visitor.at("drawing").get_by_role("button", name=name, exact=True)
        expect(button).to_have_text(name)
        button.focus()
        visitor.page.keyboard.press("Shift")  # the browser shows the focus to those who use the keyboard
        assert button.evaluate("b => getComputedStyle(b).outline").endswith("solid 3px")
