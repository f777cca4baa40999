"""A real page in a real browser: the app in a process of its own, and visitors who draw on it with mouse or finger."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg

ROOT = Path(__file__).parent.parent
CANVAS = ".st-key-canvas canvas.upper-canvas"
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
def serve(script=ROOT / "app.py", **environment):
    """The address of the app, served on loopback by a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.address", "127.0.0.1"]
    command += ["--server.port", str(port), "--server.headless", "true"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)
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
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def placed(strokes, left=40, top=40, size=200):
    """Strokes in a square of side 1 → on the canvas, in its pixels."""
    return [[(left + size * x, top + size * y) for x, y in stroke] for stroke in strokes]


class Visitor:
    """One person with the page open. Points are in the canvas's own pixels, 0 to 280."""

    def __init__(self, browser, url, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints = []  # what the browser's console and the network complain about
        self.sent = []  # the PNG of every drawing that the canvas sent to the app
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"{request.url} {request.failure}"))
        self.page.on("websocket", lambda socket: socket.on("framesent", self._frame))
        self.page.goto(url)
        expect(self.page.locator(CANVAS)).to_be_visible(timeout=30_000)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def _frame(self, payload):
        message = BackMsg.FromString(payload if isinstance(payload, bytes) else payload.encode())
        for state in message.rerun_script.widget_states.widgets:
            drawing = json.loads(state.json_value or "{}").get("drawing") if state.json_value else None
            if drawing and drawing.get("data"):
                png = base64.b64decode(drawing["data"].split(",", 1)[1])
                if png not in self.sent[-1:]:
                    self.sent.append(png)

    def at(self, key):
        """The part of the page with this container key."""
        return self.page.locator(f".st-key-{key}")

    def draw(self, strokes, wait=True):
        """Draw with the mouse, and wait until the canvas has sent the drawing."""
        x0, y0 = self._corner()
        before = len(self.sent)
        for stroke in strokes:
            self.page.mouse.move(x0 + stroke[0][0], y0 + stroke[0][1])
            self.page.mouse.down()
            for x, y in stroke[1:]:
                self.page.mouse.move(x0 + x, y0 + y)
            self.page.mouse.up()
        if wait:
            self._until_sent(before)

    def touch(self, strokes):
        """Draw with a finger. The visitor's context needs has_touch=True."""
        x0, y0 = self._corner()
        before = len(self.sent)
        session = self.context.new_cdp_session(self.page)
        for stroke in strokes:
            for i, (x, y) in enumerate(stroke):
                kind = "touchMove" if i else "touchStart"
                points = [{"x": x0 + x, "y": y0 + y}]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        session.detach()
        self._until_sent(before)

    def _corner(self):
        canvas = self.page.locator(CANVAS)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        return box["x"], box["y"]

    def _until_sent(self, before):
        deadline = time.monotonic() + 10
        while len(self.sent) == before:
            assert time.monotonic() < deadline, "the canvas sent nothing"
            self.page.wait_for_timeout(20)

    def answer(self):
        """The digit on the page, once there is one."""
        expect(self.at("answer_digit")).to_have_text(digits)
        return int(self.at("answer_digit").inner_text())

    def label(self, digit):
        """Press the button of this digit, and wait for the empty canvas."""
        button = self.at("true_label").get_by_role("button", name=str(digit), exact=True)
        button.click()
        expect(button).to_be_disabled()

    def clear(self):
        self.at("clear").get_by_role("button").click()
        expect(self.at("answer_digit")).to_have_text("")
