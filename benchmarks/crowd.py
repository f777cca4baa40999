"""Many people who draw at once, on the app or on the bare page, over Streamlit's websocket (tests/visitor.py).

Each ends a stroke every two seconds and, where asked to, asks for live answers meanwhile, as static/live.js does. Every
answer to a stroke must be, to the letter, what the same page showed to a single visitor for that very drawing before.
"""

import concurrent.futures
import contextlib
import http.client
import random
import threading
import time

import numpy as np
from bench import drawing
from helpers import given
from visitor import Visitor

EVERY = 2.0  # seconds between two strokes of a session
DRAWINGS = 40  # that all differ; two people hardly ever draw the same at once
ENOUGH = 1000  # people at most
ASKING = 0.1  # seconds between two live questions of a session, one under way
PAUSES = (0.1, 0.8)  # seconds after a 503, at first and at most


class Drawer(Visitor):
    """A visitor who notes when the answer came."""

    answered = 0.0

    def _show(self, path, delta):
        super()._show(path, delta)
        if any(self.blocks.get(path[:n]) == "answer" for n in range(1, len(path))):
            self.answered = time.perf_counter()

    def stroke(self, png):
        """Send this drawing and read all that follows. Returns the seconds until the whole answer was received."""
        state, (_, fragment_id) = self.canvas_state(png), self.canvas
        began = time.perf_counter()
        self.rerun([state], fragment_id)
        return self.answered - began

    @property
    def answer(self):
        elements = [element for element, _ in self.inside("answer")]
        return given(elements).get("answer") or [element.text.body for element in elements]


class Crowd:
    """Sessions at these addresses, in turn. labels: every second drawing is labelled, too; live: live answers, too."""

    def __init__(self, addresses, labels=False, live=False):
        self.addresses, self.labels, self.live = addresses, labels, live
        self.drawers, self.errors = [], []
        self.asked = {200: 0, 503: 0}  # live questions by the status of their answer
        self.seconds = 0.0  # that they were asked for
        rng = np.random.default_rng(0)
        self.drawings = [drawing(rng) for _ in range(DRAWINGS)]
        self.open(1)
        self.answers = [self._answer(png) for png in self.drawings]

    def _answer(self, png):
        self.drawers[0].stroke(png)
        return self.drawers[0].answer

    def open(self, people):
        while len(self.drawers) < people:
            self.drawers.append(Drawer(self.addresses[len(self.drawers) % len(self.addresses)]))

    def draw(self, seconds, settle=0.0):
        """Have all draw for so long. Returns the seconds that each answer took, but of the first `settle` seconds."""
        begin = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(ENOUGH) as threads, self._asking(threads):
            runs = [threads.submit(self._session, drawer, begin, begin + settle + seconds) for drawer in self.drawers]
            return [took for run in runs for at, took in run.result() if at >= begin + settle]

    @contextlib.contextmanager
    def _asking(self, threads):
        """Inside, each session asks for live answers, if this crowd does."""
        over, began = threading.Event(), time.perf_counter()
        asking = [threads.submit(self._ask, drawer.address, over) for drawer in self.drawers if self.live]
        yield
        over.set()
        for statuses in (future.result() for future in asking):
            for status in statuses:
                self.asked[status] += 1
        self.seconds += time.perf_counter() - began

    def _ask(self, address, over):
        """The status of every answer until it is over."""
        statuses, pause, n = [], 0, random.randrange(DRAWINGS)
        with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            while not over.wait(max(pause, ASKING)):
                n = (n + 1) % DRAWINGS
                connection.request("POST", "/answer", self.drawings[n], {"Content-Type": "image/png"})
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
                pause = 0 if answer.status == 200 else min(2 * pause or PAUSES[0], PAUSES[1])
        return statuses

    def live_answers(self):
        """What came of the live questions, in words."""
        answered, refused = self.asked[200], self.asked[503]
        a_second = answered / self.seconds / len(self.drawers)
        return f"{a_second:.1f} a second; {answered} answers, {refused} times 503"

    def _session(self, drawer, begin, end):
        times, n, due = [], random.randrange(DRAWINGS), begin + random.uniform(0, EVERY)
        while due < end:
            time.sleep(max(0, due - time.perf_counter()))
            at, n = time.perf_counter(), (n + 1) % DRAWINGS
            try:
                times.append((at, drawer.stroke(self.drawings[n])))
                if drawer.answer != self.answers[n]:
                    raise ValueError(f"{drawer.answer} is shown, and {self.answers[n]} was expected")
                if self.labels and n % 2 and not drawer.label(n % 10):
                    raise ValueError("the label buttons are disabled after a stroke")
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.errors += drawer.errors
            drawer.errors.clear()
            due = max(due + EVERY, time.perf_counter())
        return times

    def faults(self):
        """What went wrong since this was last asked, in words."""
        errors, self.errors = self.errors, []
        return f"{len(errors)} errors: {errors[0]:.200}" if errors else "all right"

    def close(self):
        for drawer in self.drawers:
            drawer.close()
