"""What a stroke, a visitor who only looks, and nobody at all cost the server in processor time, beside the bare page.

    .venv/bin/python benchmarks/cost.py
    .venv/bin/python benchmarks/cost.py --app DIR    # of another checkout

The app and the bare page run at once, each in a process of its own, and are used in turn: twenty people who end a
stroke every two seconds (crowd.py), in four rounds of eight seconds, with their pages open before; then five who have
the page open in Chromium, the history on the screen, and do nothing. Processor time is that of the app's process with
all of its threads: the answer, the saving and the notice of it, but not the database's, the browser's and this
program's. Takes some three minutes.
"""

import contextlib
import statistics
import time

from bench import BARE_PAGE, arguments, begin, database, report, serve, serve_app
from browser import open_browser
from crowd import Crowd

PEOPLE, ROUNDS, SECONDS = 20, 4, 8
VISITORS, IDLE_SECONDS = 5, 40
SETTLE = 20  # seconds after pages were opened or left
TALL = {"viewport": {"width": 1280, "height": 1600}}  # pixels; history and insights are on the screen


def of_a_stroke(servers):
    """For each server the milliseconds of processor time that a stroke took, once for each round."""
    costs = {server: [] for server in servers}
    with contextlib.ExitStack() as closing:
        crowds = {server: closing.enter_context(contextlib.closing(Crowd([server.address]))) for server in servers}
        for n in range(1 + ROUNDS):
            for server, crowd in crowds.items():
                crowd.open(PEOPLE)
                before = server.cpu()
                strokes = len(crowd.draw(SECONDS))
                time.sleep(0.5)  # for what is saved after the answer
                if n:  # the first round is for warming up
                    costs[server].append(1000 * (server.cpu() - before) / strokes)
                if (faults := crowd.faults()) != "all right":
                    raise SystemExit(faults)
    return costs.values()


def while_idle(servers):
    """For each server the milliseconds of processor time that it takes in a second."""
    time.sleep(SETTLE)
    began, before = time.perf_counter(), [server.cpu() for server in servers]
    time.sleep(IDLE_SECONDS)
    seconds = time.perf_counter() - began
    return [1000 * (server.cpu() - cpu) / seconds for server, cpu in zip(servers, before, strict=True)]


def main():
    options = begin(arguments(__doc__))
    with database() as environment, serve_app(options.app, environment, rows=1000) as app, serve(BARE_PAGE) as bare:
        servers = app, bare
        ours, echoed = of_a_stroke(servers)
        empty = while_idle(servers)
        with open_browser() as browser:
            for server in servers:
                for _ in range(VISITORS):
                    browser.new_context(**TALL).new_page().goto(server.url)
            looked_at = while_idle(servers)
    ratios = [our / echo for our, echo in zip(ours, echoed, strict=True)]
    report(
        "processor time of the server for one stroke, saved; the same on the bare page; ratio",
        f"{statistics.median(ours):.1f} ms, {statistics.median(echoed):.1f} ms; {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}–{max(ratios):.2f})",
    )
    for what, pair in {
        "a second while nobody is there": empty,
        "each visitor who only looks adds to a second": [
            (looked - without) / VISITORS for looked, without in zip(looked_at, empty, strict=True)
        ],
    }.items():
        report(f"processor time of the server: {what}; bare page", "{:.2f} ms, {:.2f} ms".format(*pair))


if __name__ == "__main__":
    main()
