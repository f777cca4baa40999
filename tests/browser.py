"""A real page in a real browser: the app in a process of its own, and visitors who draw on it with mouse or finger."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from training.strokes import dense  # noqa: E402
from utils import decode_drawing, preprocess  # noqa: E402

CANVAS = ".st-key-canvas canvas.upper-canvas:visible"
expect.set_options(timeout=30_000)  # milliseconds; a busy machine may take its time
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """The path of an installed Chromium or Chrome. Skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium or Chrome is installed: sudo apt-get install chromium")


@contextlib.contextmanager
def open_browser():
    """A running Chromium without a window."""
    flags = FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else [])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        yield browser
        browser.close()


@contextlib.contextmanager
def serve(script=ROOT / "serve.py", **environment):
    """The address of the app, served on loopback by a process of its own."""
    with start_server(script, ROOT, **environment) as (address, _):
        yield f"http://{address}"


@contextlib.contextmanager
def start_server(script, folder, **environment):
    """(host:port, process) of what `streamlit run script` serves, started in this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.address", "127.0.0.1"]
    command += ["--server.port", str(port), "--server.headless", "true"]
    process = subprocess.Popen(command, cwd=folder, env=os.environ | environment)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, f"the app ended with {process.returncode} before it answered"
                assert time.monotonic() < deadline, "the app did not answer within a minute"
                time.sleep(0.1)
        yield f"127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(30)


def placed(strokes, left=40, top=40, size=200, step=0.12):
    """Strokes in a square of side 1 → on the canvas in its pixels, with a point every `step`; each takes a frame."""
    return [[(left + size * x, top + size * y) for x, y in dense(stroke, step)] for stroke in strokes]


def ask_for_news_with_all(asked, page):
    """Have all that a visitor changes reach the app in one message with the last question for news, noted in `asked`.

    Streamlit's page sends what changes at one moment so, and has the fragment of the first change rerun alone.
    """

    def route(socket):
        server = socket.connect_to_server()

        def pass_on(message):
            request = BackMsg.FromString(message)
            rerun = request.rerun_script
            news = [state for state in rerun.widget_states.widgets if state.json_trigger_value]
            if news:
                asked.append((rerun.fragment_id, news))
            elif rerun.fragment_id and not rerun.is_auto_rerun and asked:
                rerun.fragment_id, news = asked[-1]
                rerun.widget_states.widgets.extend(news)
            server.send(request.SerializeToString())

        socket.on_message(pass_on)

    page.route_web_socket(re.compile("/_stcore/stream"), route)


def pixels(url):
    """What a data URL shows, as an array."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))


class Visitor:
    """One person with the page open. Points are in the canvas's own pixels, 0 to 280."""

    def __init__(self, browser, url, before=lambda page: None, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints = []  # what the browser's console complains about
        self.key = "st-key-canvas-"  # of the canvas now on the page
        self.sent = []  # the PNG of every drawing that the canvas sent to the app
        self.page.on("console", lambda m: m.type == "error" and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("websocket", lambda socket: socket.on("framesent", self._frame))
        before(self.page)
        self.open(url)

    def open(self, url):
        """Open the page; again if Chromium hung up, as it does when a network interface comes or goes (containers)."""
        for _ in range(5):
            self.complaints.clear()
            self.page.goto(url, timeout=120_000)
            if not any("ERR_NETWORK_CHANGED" in text for text in self.complaints):
                break
        self._look()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def _frame(self, payload):
        message = BackMsg.FromString(payload if isinstance(payload, bytes) else payload.encode())
        for state in message.rerun_script.widget_states.widgets:
            ours = self.key.removeprefix("st-key-") in state.id  # earlier canvases' states may come along
            value = json.loads(state.json_value or "{}") if ours else {}
            if drawing := value.get("drawing"):
                self.sent.append(base64.b64decode(drawing["data"].split(",", 1)[1]))
                self.strokes_sent = len(drawing["raw"]["objects"])
                self.raw = drawing["raw"]  # the strokes, as Fabric.js describes them

    def _look(self):
        """Find the canvas and the class that its key gives it. Every drawing has its own."""
        expect(self.page.locator(CANVAS)).to_be_visible(timeout=60_000)
        # The one before it may stay, hidden, until the next stroke, if the page looked for news at that moment.
        holder = self.page.locator("[class*=st-key-canvas-]:visible")
        self.key = re.search(r"st-key-canvas-[\w-]+", holder.get_attribute("class"))[0]
        self.strokes = self.strokes_sent = 0  # on the canvas now, and in what it sent last

    def at(self, key):
        """The part of the page with this key; the one of "correct" goes on with the digit that it stands for."""
        return self.page.locator("[class*=st-key-correct-]" if key == "correct" else f".st-key-{key}")

    def draw(self, strokes):
        """Draw with the mouse, and wait until the canvas has sent the drawing."""
        for stroke in strokes:
            self.mouse(stroke)
        self.wait_sent(strokes)

    def mouse(self, points):
        """Press the mouse's button, move it and let go."""
        self.press(points)
        self.page.mouse.up()

    def press(self, points, wait=0):
        """The same without letting go. wait: milliseconds at each point."""
        x0, y0 = self._corner()
        self.page.mouse.move(x0 + points[0][0], y0 + points[0][1])
        self.page.mouse.down()
        for x, y in points[1:]:
            self.page.mouse.move(x0 + x, y0 + y)
            if wait:
                self.page.wait_for_timeout(wait)

    def touch(self, strokes):
        """Draw with a finger, and wait until the canvas has sent the drawing."""
        for stroke in strokes:
            self.finger(stroke)
        self.wait_sent(strokes)

    def finger(self, points):
        """Put a finger on the screen, move it and lift it. The visitor's context needs has_touch=True."""
        x0, y0 = self._corner()
        session = self.context.new_cdp_session(self.page)
        for i, (x, y) in enumerate(points):
            kind = "touchMove" if i else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x0 + x, "y": y0 + y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        session.detach()

    def _corner(self):
        canvas = self.page.locator(CANVAS)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        return box["x"], box["y"]

    def wait_sent(self, strokes):
        """Wait until the canvas has sent these strokes, after what was on it before."""
        self.strokes += len(strokes)
        self._until(lambda: self.strokes_sent >= self.strokes, f"the canvas did not send {self.strokes} strokes")

    def answer(self):
        """The digit on the page, once that answers what the canvas sent last: each stroke is answered by itself."""
        sent = preprocess(decode_drawing(self.sent[-1]))[0, 0].numpy()
        expected = (sent * 255).astype(np.uint8)  # the page shows what the network saw after the digit
        answered = self.page.locator(".answer[aria-busy=false]")  # by what stays, not while the pen was down
        self._until(
            lambda: answered.count() and np.array_equal(self._seen(), expected), "the last stroke was not answered"
        )
        expect(self.at("answer_digit")).to_have_text(re.compile("^[0-9]$"))
        return int(self.at("answer_digit").inner_text())

    def _until(self, condition, otherwise):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, otherwise
            self.page.wait_for_timeout(20)

    def _seen(self):
        """(28, 28) uint8, what the page says that the network saw."""
        return pixels(self.at("answer").locator("img").get_attribute("src"))

    def label(self, digit):
        """Press the button of this digit, and wait for the empty canvas."""
        self.at("true_label").get_by_role("button", name=str(digit), exact=True).click()
        self.begin()

    def clear(self):
        """Press Clear, and wait for the empty canvas."""
        self.at("clear").get_by_role("button").click()
        self.begin()

    def begin(self):
        """Wait for the empty canvas of the next drawing."""
        expect(self.at("true_label").get_by_role("button", name="0", exact=True)).to_be_disabled()
        expect(self.at("answer_digit")).to_have_text("")
        expect(self.page.locator(f".{self.key}:visible")).to_have_count(0)
        self._look()
