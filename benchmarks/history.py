"""How long the history takes to open, and what it costs, with 100 to 100,000 rows in the table.

    .venv/bin/python benchmarks/history.py            # or other numbers of rows: benchmarks/history.py 1000 1000000

For each number of rows: a database of its own, a fresh app process, the real page in Chromium on the same machine. The
first visitor finds a process that has read nothing yet; later visitors, each with an empty browser cache, find its copy
of the table. Times are seconds from the request of the page: `canvas` until one can draw, `history` until the newest
rows are on the screen and the table scrolls, `all rows` until it scrolls down to the oldest. `jump` is the time from a
leap to the middle of the table until rows are there. `MB sent` are all messages to the browser while the page opens,
`MB app` the memory of the app process once everything is read, and `MB a visitor` what it grows by with each who stays.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]
import psutil  # noqa: E402
from browser import CANVAS, open_browser, serve  # noqa: E402 (of tests/)
from playwright.sync_api import TimeoutError  # noqa: E402

import embedded  # noqa: E402

VISITORS = 5
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
    """Open the page in a new context. Returns the page and what was measured."""
    while True:
        opened = try_to_open(browser, url, rows)
        if opened:
            return opened
        print("the browser dropped its connections, because a network interface came or went: again", file=sys.stderr)


def try_to_open(browser, url, rows):
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    page = context.new_page()
    received = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    dropped = []
    page.on("requestfailed", lambda request: dropped.append("NETWORK_CHANGED" in (request.failure or "")))
    page.goto(url, wait_until="commit")

    def until(condition, argument=None):
        return page.wait_for_function(condition, arg=argument, timeout=120_000).json_value()

    try:
        canvas = until(f"() => document.querySelector('{CANVAS}') && performance.now() / 1000")
        history = until(READY)
        whole = until(ALL, f"{rows:,}")
    except TimeoutError:
        if not any(dropped):
            raise
        return context.close()
    megabytes = sum(received) / 1e6
    return page, until, {"canvas": canvas, "history": history, "all rows": whole, "sent": megabytes}


def jump(page, until, rows):
    """Leap to the middle of the table. Returns the seconds until rows are there."""
    box = page.locator(".st-key-history [data-testid=stDataFrame]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    began = page.evaluate("performance.now() / 1000")
    page.mouse.wheel(0, rows * 40 / 2)
    return until(AT_ROW, rows // 2 - 20) - began


def measure(browser, rows, folder):
    """Medians and spread for this number of rows."""
    host = embedded.start(folder / "pgdata")
    server = {"POSTGRES_HOST": host, "POSTGRES_PORT": "", "POSTGRES_DB": "postgres", "POSTGRES_USER": "postgres"}
    environment = server | {"POSTGRES_PASSWORD": "", "PGDATA_DIR": ""}
    subprocess.run(  # in a process of its own, so that this one holds no connection
        [sys.executable, ROOT / "benchmarks" / "seed_rows.py", str(rows)],
        check=True,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
    )
    with serve(**environment) as url:
        app = next(child for child in psutil.Process().children() if "streamlit" in " ".join(child.cmdline()))
        page, _, first = open_page(browser, url, rows)
        pages, later, jumps = [page], [], []
        memory = [app.memory_info().rss / 1e6]
        for _ in range(VISITORS):
            page, until, figures = open_page(browser, url, rows)
            jumps.append(jump(page, until, rows))
            later.append(figures)
            pages.append(page)
            memory.append(app.memory_info().rss / 1e6)
        for page in pages:
            page.context.close()
    return first, later, jumps, memory


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main():
    counts = [int(count) for count in sys.argv[1:]] or [100, 1_000, 10_000, 100_000]
    table = [
        f"First visitor of a process; then {VISITORS} later ones, median (least–most)",
        "| rows | first: canvas, history, all rows | canvas | history | history / canvas | jump | MB sent | MB app | "
        "MB a visitor |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with open_browser() as browser:
        for rows in counts:
            folder = Path(tempfile.mkdtemp(prefix="digits-"))
            folder.chmod(0o711)  # PostgreSQL's own user must reach its data
            try:
                first, later, jumps, memory = measure(browser, rows, folder)
            finally:
                embedded.stop()
                shutil.rmtree(folder)
            ratio = [figures["history"] / figures["canvas"] for figures in later]
            table.append(
                f"| {rows:,} | {', '.join(f'{first[name]:.1f}' for name in ('canvas', 'history', 'all rows'))} | "
                f"{spread([f['canvas'] for f in later])} | {spread([f['history'] for f in later])} | {spread(ratio)} | "
                f"{spread(jumps)} | {statistics.median(f['sent'] for f in later):.2f} | {memory[0]:.0f} | "
                f"{(memory[-1] - memory[0]) / VISITORS:.1f} |"
            )
            print(table[-1], flush=True)
    print("\n".join(["", *table]))


if __name__ == "__main__":
    main()
