"""How long the page takes to open, and what it costs, with 100 to 100,000 rows in the table.

    .venv/bin/python benchmarks/history.py            # or other numbers of rows: benchmarks/history.py 1000 1000000

For each number of rows: a table and a fresh app process of its own, and the real page in Chromium on the same machine.
The first visitor finds a process that has read nothing yet; five later ones, each with an empty browser cache, find its
copy of the table. Seconds count from the request of the page: `canvas` until one can draw, `history` until the newest
rows are on the screen and the table scrolls. With the largest number also: until the first visitor's table scrolls down
to the oldest row, from a leap to the middle of the table until rows are there, the memory of the app process and what
each visitor who stays adds, and strokes drawn in turn on this page and on one with ten rows, with the history on the
screen (stroke.py). Takes some three minutes.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from urllib.parse import urlsplit

import psutil
import psycopg2
from bench import ROOT, conditions, database, report, spread
from browser import CANVAS, open_browser, serve
from playwright.sync_api import TimeoutError
from stroke import compare

VISITORS = 5
DRAWABLE = CANVAS.removesuffix(":visible")  # which browsers do not know
TALL = {"viewport": {"width": 1280, "height": 1600}}  # pixels; the history is on the screen
FIRST_ROW = "document.querySelector('.st-key-history [data-testid=stDataFrame] canvas tbody tr')"
READY = f"() => {FIRST_ROW}?.innerText.includes(':') && performance.now() / 1000"
ALL = (
    "(n) => document.querySelector('.st-key-history')?.innerText.includes(n + ' drawings · ') && "
    "!document.querySelector('.st-key-history').innerText.includes('reading older') && performance.now() / 1000"
)
AT_ROW = (
    f"(n) => Number({FIRST_ROW}?.ariaRowIndex) > n && {FIRST_ROW}.innerText.includes(':') && performance.now() / 1000"
)


@contextlib.contextmanager
def app(server, rows):
    """The address of a fresh app whose table holds so many made-up rows."""
    environment = server | {"POSTGRES_DB": f"rows_{rows}"}
    with contextlib.closing(psycopg2.connect(host=server["POSTGRES_HOST"], user="postgres", dbname="postgres")) as link:
        link.autocommit = True
        link.cursor().execute(f"CREATE DATABASE rows_{rows:d}")
    seed = [sys.executable, ROOT / "benchmarks" / "seed_rows.py", str(rows)]
    subprocess.run(seed, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL)
    with serve(**environment) as url:
        yield url


def open_page(browser, url, rows):
    """Open the page as a new visitor. Returns it, `until` (waits for a condition in it) and the seconds it took."""
    for _ in range(5):
        page = browser.new_context(**TALL).new_page()
        dropped = []
        page.on("requestfailed", lambda r, dropped=dropped: dropped.append("NETWORK_CHANGED" in (r.failure or "")))

        def until(condition, argument=None, page=page):
            return page.wait_for_function(condition, arg=argument, timeout=120_000).json_value()

        page.goto(url, wait_until="commit")
        try:
            canvas = until(f"() => document.querySelector('{DRAWABLE}') && performance.now() / 1000")
            return page, until, {"canvas": canvas, "history": until(READY), "all": until(ALL, f"{rows:,}")}
        except TimeoutError:
            if not any(dropped):
                raise
            page.context.close()
    raise TimeoutError("the browser dropped its connections five times, because network interfaces came or went")


def leap(page, until, rows):
    """Scroll to the middle of the table. Returns the seconds until rows are there."""
    box = page.locator(".st-key-history [data-testid=stDataFrame]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    began = page.evaluate("performance.now() / 1000")
    page.mouse.wheel(0, rows * 40 / 2)
    return until(AT_ROW, rows // 2 - 20) - began


def freeze(page):
    """Let this visitor stay, but without work: a real one's browser shares no cores with the next one's."""
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": "frozen"})


def megabytes(url):
    """What the app at this address holds in memory."""
    port = str(urlsplit(url).port)
    return next(child for child in psutil.Process().children() if port in child.cmdline()).memory_info().rss / 1e6


def measure(browser, url, rows):
    """Report how the page opens. Returns what else was seen: the first visitor's seconds, leaps, memory."""
    page, _, first = open_page(browser, url, rows)
    freeze(page)
    opened, leaps, memory = [(page, first)], [], [megabytes(url)]
    for _ in range(VISITORS):
        page, until, seconds = open_page(browser, url, rows)
        opened.append((page, seconds))
        memory.append(megabytes(url))
        leaps.append(leap(page, until, rows))
        freeze(page)
    for page, _ in opened:
        page.context.close()
    canvas, history = (spread([seconds[part] for _, seconds in opened[1:]], "s") for part in ("canvas", "history"))
    report(
        f"page opened with {rows:,} rows: to a canvas, to a history that scrolls",
        f"{canvas}, {history}; first visitor {first['canvas']:.1f} s, {first['history']:.1f} s",
    )
    return first, leaps, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[100, 10_000, 100_000], help="how many")
    counts = sorted(parser.parse_args().rows)
    conditions()
    with database() as server, open_browser() as browser:
        for rows in counts[:-1]:
            with app(server, rows) as url:
                measure(browser, url, rows)
        rows = counts[-1]
        with app(server, rows) as url, app(server, 10) as small:
            first, leaps, memory = measure(browser, url, rows)
            many, few = compare(browser, url, small, visitors=5, **TALL)
    report(f"the same, until all {rows:,} rows are read for the first visitor", f"{first['all']:.1f} s")
    report(f"leap to the middle of {rows:,} rows until they are there", spread(leaps, "s"))
    report(
        f"memory of the app with {rows:,} rows; each visitor adds",
        f"{memory[0]:,.0f} MB; {(memory[-1] - memory[0]) / VISITORS:.1f} MB",
    )
    report(
        f"a stroke's answer with {rows:,} rows over one with ten: ratio of the medians",
        f"{statistics.median(many) / statistics.median(few):.2f} ({spread(many, digits=0)}, {spread(few, digits=0)})",
    )


if __name__ == "__main__":
    main()
