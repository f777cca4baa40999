"""How long the history takes until it scrolls, and what it costs, with 100 to 100,000 rows in the table.

    .venv/bin/python benchmarks/scrolling.py            # or other numbers of rows: benchmarks/scrolling.py 1000 1000000

For each number of rows: a table and a fresh app process of its own, and the real page in Chromium on the same machine.
The first visitor finds a process that has read nothing yet; five later ones, each with an empty browser cache, find its
copy of the table. Seconds count from the request of the page until the newest rows are on the screen and the table
scrolls (until one can draw: opening.py). With the largest number also: until the first visitor's table scrolls down
to the oldest row, from a leap to the middle of the table until rows are there, the memory of the app process and what
each visitor who stays adds, and strokes drawn in turn on this page and on one with ten rows, with the history on the
screen (answering.py). Takes some three minutes.
"""

import statistics

import psutil
from answering import compare
from bench import arguments, begin, database, report, serve_app, spread
from browser import open_browser
from playwright.sync_api import TimeoutError

VISITORS = 5
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
            return page, until, {"history": until(READY), "all": until(ALL, f"{rows:,}")}
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


def megabytes(app):
    """What this app holds in memory."""
    return psutil.Process(app.pid).memory_info().rss / 1e6


def measure(browser, app, rows):
    """Report how the page opens. Returns what else was seen: the first visitor's seconds, leaps, memory."""
    page, _, first = open_page(browser, app.url, rows)
    freeze(page)
    opened, leaps, memory = [(page, first)], [], [megabytes(app)]
    for _ in range(VISITORS):
        page, until, seconds = open_page(browser, app.url, rows)
        opened.append((page, seconds))
        memory.append(megabytes(app))
        leaps.append(leap(page, until, rows))
        freeze(page)
    for page, _ in opened:
        page.context.close()
    report(
        f"page opened with {rows:,} rows, until its history scrolls",
        f"{spread([seconds['history'] for _, seconds in opened[1:]], 's')}; first visitor {first['history']:.1f} s",
    )
    return first, leaps, memory


def main():
    parser = arguments(__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[100, 10_000, 100_000], help="how many")
    options = begin(parser)
    *counts, rows = sorted(options.rows)
    with database() as environment, open_browser() as browser:
        for few in counts:
            with serve_app(options.app, environment, few) as app:
                measure(browser, app, few)
        with serve_app(options.app, environment, rows) as app, serve_app(options.app, environment, 10) as small:
            first, leaps, memory = measure(browser, app, rows)
            many, ten = compare(browser, app.url, small.url, visitors=5, **TALL)
    report(f"the same, until all {rows:,} rows are read for the first visitor", f"{first['all']:.1f} s")
    report(f"leap to the middle of {rows:,} rows until they are there", spread(leaps, "s"))
    report(
        f"memory of the app with {rows:,} rows; each visitor adds",
        f"{memory[0]:,.0f} MB; {(memory[-1] - memory[0]) / VISITORS:.1f} MB",
    )
    report(
        f"a stroke's answer with {rows:,} rows over one with ten: ratio of the medians",
        f"{statistics.median(many) / statistics.median(ten):.2f} ({spread(many, digits=0)}, {spread(ten, digits=0)})",
    )


if __name__ == "__main__":
    main()
