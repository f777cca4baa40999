"""How long an answer takes while many people draw at once, and how many it takes to make everyone wait.

    .venv/bin/python benchmarks/load.py                  # 50, 100, 120, ... until the 95th percentile passes 1 s
    .venv/bin/python benchmarks/load.py 50 --seconds 60
    .venv/bin/python benchmarks/load.py 100 200 --processes 2           # sessions dealt out to two app processes
    .venv/bin/python benchmarks/load.py 100 200 --processes 2 --caddy   # by Caddy, with sticky sessions
    .venv/bin/python benchmarks/load.py 100 --url http://127.0.0.1:8080 # what runs there; several, in turn

Each session is a page of its own over Streamlit's websocket (tests/visitor.py) and ends a stroke every two seconds, on
drawings of its own; with --labels it also labels every second one, which is half as many runs of the page again.
Measured is the time from sending the drawing until digit and confidence are received. Every answer must be the one that
the model in this process gives for that very drawing, down to its ten percentages. The app, its database and this
program share the machine. Takes one to four minutes.
"""

import argparse
import contextlib
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import psutil
from bench import ROOT, conditions, database, drawing, percentile, report
from browser import serve
from visitor import Visitor

from model import load_model, predict
from page import answer
from utils import decode_drawing, preprocess

EVERY = 2.0  # seconds between two strokes of a session
DRAWINGS = 6  # of each session
SETTLE = 4.0  # seconds after the sessions are open that are not counted
LIMIT = 1.0  # seconds of the 95th percentile above which no more sessions are added
CADDY = """
{{
    admin off
    auto_https off
}}
http://{address} {{
    reverse_proxy {apps} {{
        lb_policy cookie app_process
    }}
}}
"""


class Drawer(Visitor):
    """A visitor who notes when the awaited answer is there."""

    awaited = ()

    def _show(self, path, delta):
        super()._show(path, delta)
        body = delta.new_element.html.body
        if any(part in body for part in self.awaited):
            self.answered = time.perf_counter()  # of the later part in the end

    def stroke(self, png, said):
        """Send this drawing, and read the answer. Returns the seconds it took. Raises ValueError if it is wrong."""
        state, (_, fragment_id) = self.canvas_state(png), self.canvas
        self.awaited, self.answered = (answer.digit(said), answer.confidence(said)), None
        began = time.perf_counter()
        self.rerun([state], fragment_id)
        self.awaited = ()
        shown = " ".join(element.html.body for element, _ in self.inside("answer"))
        if not all(part in shown for part in (answer.digit(said), answer.confidence(said), answer.bars(said))):
            raise ValueError(f"{self.text('answer_digit')!r} is shown, and {said.digit} was expected")
        return self.answered - began


class Load:
    """Sessions that draw, each in a thread."""

    def __init__(self, addresses, labels=False):
        self.addresses, self.labels = addresses, labels
        self.model = load_model(ROOT / "model.pth")
        self.rng = np.random.default_rng(0)
        self.threads, self.times, self.errors = [], [], []
        self.ending = threading.Event()

    def open(self, sessions):
        """Have so many sessions drawing."""
        while len(self.threads) < sessions:
            pngs = [drawing(self.rng) for _ in range(DRAWINGS)]
            drawings = [(png, predict(self.model, preprocess(decode_drawing(png)))) for png in pngs]
            visitor = Drawer(self.addresses[len(self.threads) % len(self.addresses)])
            self.threads.append(threading.Thread(target=self._session, args=(visitor, drawings)))
            self.threads[-1].start()

    def _session(self, visitor, drawings):
        with contextlib.closing(visitor):
            due = time.perf_counter() + random.uniform(0, EVERY)
            for n in range(1_000_000):
                self.ending.wait(max(0, due - time.perf_counter()))
                if self.ending.is_set():
                    return
                due = max(due + EVERY, time.perf_counter())
                try:
                    self.times.append(visitor.stroke(*drawings[n % DRAWINGS]))
                    if self.labels and n % 2 and not visitor.label(n % 10):
                        raise ValueError("the label buttons are disabled after a stroke")
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                self.errors += visitor.errors
                visitor.errors.clear()

    def close(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def caddy(addresses):
    """The address of a Caddy before these apps. As in the product's Caddyfile, a cookie keeps a session where it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.NamedTemporaryFile("w", suffix=".caddyfile") as file:
        file.write(CADDY.format(address=address, apps=" ".join(addresses)))
        file.flush()
        command = [shutil.which("caddy"), "run", "--adapter", "caddyfile", "--config", file.name]
        proxy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not reachable(address):
                if proxy.poll() is not None:
                    raise SystemExit(f"caddy ended with {proxy.returncode} before it answered")
                time.sleep(0.1)
            yield address
        finally:
            proxy.terminate()
            proxy.wait(30)


def reachable(address):
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def measure(load, sessions, seconds, where=""):
    """Report on so many sessions; returns the 95th percentile in seconds."""
    load.open(sessions)
    time.sleep(SETTLE)
    load.times, load.errors, before = [], [], cpu_seconds()
    time.sleep(seconds)
    times, errors, cpu = load.times, load.errors, cpu_seconds() - before
    middle, high = (percentile(times, p) for p in (50, 95))
    faults = f"{len(errors)} errors: {errors[0]}" if errors else "all right"
    report(
        f"{sessions} people at once{where}: drawing sent to answer received",
        f"p50 {1000 * middle:.0f} ms, p95 {1000 * high:.0f} ms; {len(times)} answers, {faults}",
    )
    if cpu:
        print(f"  {1000 * cpu / len(times):.0f} ms of the apps' processor time an answer")
    return high


def cpu_seconds():
    """Processor time that the apps have used, if they were started here."""
    apps = [child for child in psutil.Process().children() if "streamlit" in " ".join(child.cmdline())]
    return sum(sum(app.cpu_times()[:2]) for app in apps)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", type=int, nargs="*", default=[50, 100, 120, 140, 160, 200], help="how many at once")
    parser.add_argument("--seconds", type=float, default=20, help="how long each number is measured")
    parser.add_argument("--labels", action="store_true", help="label every second drawing, too")
    parser.add_argument("--processes", type=int, default=1, help="app processes to start, with one new database")
    parser.add_argument("--caddy", action="store_true", help="put Caddy before them (sudo apt-get install caddy)")
    parser.add_argument("--url", nargs="+", help="apps that run already, instead of new ones")
    options = parser.parse_args()
    if options.caddy and not shutil.which("caddy"):
        parser.error("there is no caddy: sudo apt-get install caddy")
    where = f", {options.processes} processes" if options.processes > 1 else ""
    conditions()
    with contextlib.ExitStack() as closing:
        urls = options.url
        if not urls:
            environment = closing.enter_context(database())
            urls = [closing.enter_context(serve(**environment)) for _ in range(options.processes)]
        addresses = [urlsplit(url).netloc for url in urls]
        if options.caddy:
            addresses, where = [closing.enter_context(caddy(addresses))], where + " behind Caddy"
        load = Load(addresses, options.labels)
        closing.callback(load.close)
        for sessions in options.sessions:
            if measure(load, sessions, options.seconds, where) > LIMIT:
                break


if __name__ == "__main__":
    main()
