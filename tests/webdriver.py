"""Firefox and WebKit as Debian ships them, and visitors who use the page in them.

Playwright can drive only a Firefox and a WebKit of its own making. These are driven by the W3C's own protocols: Firefox
speaks WebDriver BiDi by itself, over a websocket; WebKit speaks WebDriver, over HTTP, through WebKitGTK's driver.
"""

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from helpers import until
from websockets.sync.client import connect

CANVAS = "canvas.upper-canvas"


def find(package, *names):
    """The path of an installed program. Skips the test where there is none."""
    for name in names:
        if path := shutil.which(name) or next(map(str, Path("/usr").glob(f"lib/*/webkit2gtk-*/{name}")), None):
            return path
    pytest.skip(f"no {names[0]} is installed: sudo apt-get install {package}")


class Firefox:
    """A Firefox without a window."""

    def __init__(self, closing, folder):
        settings = {"browser.download.folderList": 2, "browser.download.dir": str(folder)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in settings.items()]
        (folder / "user.js").write_text("\n".join(lines))
        command = [find("firefox-esr", "firefox-esr", "firefox"), "--headless", "--no-remote", "--profile", str(folder)]
        start(closing, [*command, "--remote-debugging-port", "0"], HOME=str(folder))
        where = folder / "WebDriverBiDiServer.json"
        until(lambda: where.exists() and where.read_text(), otherwise=lambda: "Firefox did not start")
        port = json.loads(where.read_text())["ws_port"]
        self.socket = closing.enter_context(connect(f"ws://127.0.0.1:{port}/session", max_size=None))
        self.number = 0
        self.send("session.new", capabilities={})
        self.page = {"context": self.send("browsingContext.getTree")["contexts"][0]["context"]}

    def send(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == self.number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def open(self, url, width, height):
        self.send("browsingContext.setViewport", **self.page, viewport={"width": width, "height": height})
        self.send("browsingContext.navigate", **self.page, url=url, wait="complete")

    def evaluate(self, expression):
        answer = self.send("script.evaluate", expression=expression, target=self.page, awaitPromise=False)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def act(self, *sources):
        self.send("input.performActions", **self.page, actions=sources)

    def screenshot(self):
        return self.send("browsingContext.captureScreenshot", **self.page)["data"]


class WebKit:
    """WebKitGTK's own small browser, on a screen that nobody sees."""

    def __init__(self, closing, folder):
        package = "webkit2gtk-driver"
        driver, browser = find(package, "WebKitWebDriver"), find(package, "MiniBrowser")
        read, write = os.pipe()
        screen = [find("xvfb", "Xvfb"), "-displayfd", str(write), "-screen", "0", "1600x1200x24", "-nolisten", "tcp"]
        start(closing, screen, pass_fds=[write])
        os.close(write)
        with open(read) as answer:
            display = answer.readline().strip()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Downloads go where the folders of the desktop say.
        (folder / "user-dirs.dirs").write_text(f'XDG_DOWNLOAD_DIR="{folder}"\n')
        homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), str(folder))
        start(closing, [driver, f"--port={port}"], DISPLAY=f":{display}", GDK_BACKEND="x11", **homes)
        self.port, self.session = port, "/session"
        options = {"webkitgtk:browserOptions": {"binary": browser, "args": ["--automation"]}}
        session = until(lambda: self.begin(options), otherwise=lambda: "WebKitWebDriver did not start")
        self.session += "/" + session["sessionId"]
        closing.callback(self.send, "DELETE", "")

    def begin(self, options):
        with contextlib.suppress(ConnectionRefusedError):
            return self.send("POST", "", capabilities={"alwaysMatch": options})

    def send(self, method, path, **params):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, self.session + path, json.dumps(params) if method == "POST" else None)
            answer = connection.getresponse()
            value = json.load(answer)["value"]
        assert answer.status == 200, value
        return value

    def open(self, url, width, height):
        """No window of this browser is as narrow as a phone: there, a frame holds the page, whose style goes by it."""
        self.send("POST", "/window/rect", x=0, y=0, width=max(width, 500), height=height + 38)  # of its tool bar
        self.send("POST", "/url", url=url if width >= 500 else url + "/_stcore/health")
        if width < 500:
            style = f"position: fixed; inset: 0; width: {width}px; height: {height}px; border: 0"
            add = "const frame = document.createElement('iframe'); [frame.src, frame.style] = arguments; "
            add += "document.body.replaceChildren(frame); return frame;"
            frame = self.send("POST", "/execute/sync", script=add, args=[url, style])
            self.send("POST", "/frame", id=frame)

    def evaluate(self, expression):
        return self.send("POST", "/execute/sync", script=f"return {expression}", args=[])

    def act(self, *sources):
        self.send("POST", "/actions", actions=sources)

    def screenshot(self):
        return self.send("GET", "/screenshot")


def start(closing, command, pass_fds=(), **environment):
    """Start a program that ends with the test."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | environment, pass_fds=pass_fds, **quiet)
    closing.callback(process.wait, 30)
    closing.callback(process.terminate)


@contextlib.contextmanager
def open_browser(kind):
    """A running browser, and the folder into which it downloads."""
    with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
        with contextlib.ExitStack() as closing:
            browser = kind(closing, Path(folder))
            browser.folder = Path(folder)
            yield browser


class Visitor:
    """One person with the page open. Points are in the canvas's own pixels, 0 to 280."""

    def __init__(self, browser, url, width=1280, height=900):
        self.browser = browser
        browser.open(url, width, height)
        self.key = None
        self._look()

    def evaluate(self, script, *arguments):
        """What the body of a function returns that is run in the page."""
        call = f"(function () {{ {script} }}).apply(null, {json.dumps(arguments)})"
        text = self.browser.evaluate(f"JSON.stringify([{call}])")
        return json.loads(text)[0]

    def screenshot(self, path):
        Path(path).write_bytes(base64.b64decode(self.browser.screenshot()))

    def text(self, key):
        return self.evaluate("return document.querySelector('.st-key-' + arguments[0])?.innerText.trim() ?? null", key)

    def box(self, selector):
        """[left, top, width, height] of the one such part that can be seen, in view; None without it."""
        return self.evaluate(
            """const parts = [...document.querySelectorAll(arguments[0])].filter((part) => part.checkVisibility());
            if (parts.length !== 1) return null;
            parts[0].scrollIntoViewIfNeeded?.() ?? parts[0].scrollIntoView({ block: "nearest" });
            const { left, top, width, height } = parts[0].getBoundingClientRect();
            return [left, top, width, height];""",
            selector,
        )

    def mouse(self, points, pause=0):
        """Press the mouse's button, move it over these points of the window and let go. pause: milliseconds at each."""
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": pause} for x, y in points]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        self.browser.act(mouse | {"actions": [moves[0], down, *moves[1:], up]})

    def click(self, selector):
        left, top, width, height = until(lambda: self.box(selector), otherwise=lambda: f"there is no {selector}")
        self.mouse([(left + width / 2, top + height / 2)])

    def draw(self, strokes):
        """Draw with the mouse."""
        left, top, *_ = self.box(f".{self.key} {CANVAS}")
        for stroke in strokes:
            self.mouse([(left + x, top + y) for x, y in stroke])

    def wait_for(self, key, text):
        """Wait until a part of the page says just this, and not only while a pen was down."""
        stays = "return !document.querySelector('.answer[aria-busy=true]')"
        says = lambda: self.text(key) == text and self.evaluate(stays)  # noqa: E731
        until(says, otherwise=lambda: f"{key} says {self.text(key)!r}, not {text!r}")

    def label(self, digit):
        """Press the button of this digit, and wait for the empty canvas."""
        self.click(f".st-key-label-{digit} button:enabled")
        self.begin()

    def clear(self):
        """Press Clear, and wait for the empty canvas."""
        self.click(".st-key-clear button:enabled")
        self.begin()

    def begin(self):
        """Wait for the empty canvas of the next drawing."""
        self.wait_for("answer_digit", "")
        self._look()

    def _look(self):
        """Find the canvas that is not the one before, and the class that its key gives it."""

        def key():
            return self.evaluate(
                """const canvas = [...document.querySelectorAll("[class*=st-key-canvas-]")]
                  .find((holder) => holder.checkVisibility() && holder.querySelector(arguments[0]));
                return canvas?.className.match(/st-key-canvas-[\\w-]+/)[0] ?? null;""",
                CANVAS,
            )

        self.key = until(lambda: (found := key()) != self.key and found, otherwise=lambda: "there is no new canvas")
