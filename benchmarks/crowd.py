"""Many people who draw at once, on the app or on the bare page, over Streamlit's websocket (tests/visitor.py).

Each ends a stroke every two seconds. Every answer must be, to the letter, what the same page showed to a single visitor
for that very drawing before.
"""

import concurrent.futures
import random
import time

import numpy as np
from bench import drawing
from visitor import Visitor

EVERY = 2.0  # seconds between two strokes of a session
DRAWINGS = 40  # that all differ; two people hardly ever draw the same at once
ENOUGH = 1000  # people at most


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
        return [element.html.body or element.text.body for element, _ in self.inside("answer")]


class Crowd:
    """Sessions at these addresses, in turn. labels: every second drawing is labelled, too."""

    def __init__(self, addresses, labels=False):
        self.addresses, self.labels = addresses, labels
        self.drawers, self.errors = [], []
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
        with concurrent.futures.ThreadPoolExecutor(ENOUGH) as threads:
            runs = [threads.submit(self._session, drawer, begin, begin + settle + seconds) for drawer in self.drawers]
        return [took for run in runs for at, took in run.result() if at >= begin + settle]

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
