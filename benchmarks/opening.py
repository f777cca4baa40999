"""How long a page takes to open until one can draw on it, beside the bare page: on a first visit, and again.

    .venv/bin/python benchmarks/opening.py                 # with 100 and with 100,000 rows in the table
    .venv/bin/python benchmarks/opening.py 1000 --app DIR  # of another checkout

The app with each number of rows and the bare page run at once, each in a process of its own, and Chromium, on the same
machine, opens them in turn, eight times each: with an empty cache, and again with a full one. Seconds count from the
request of the page until its canvas is there. The first visitor of a process pays for its start, and is not counted.
Takes some two minutes.
"""

import contextlib
import statistics

from bench import BARE_PAGE, arguments, begin, database, report, serve, serve_app, spread
from browser import open_browser

VISITORS = 8
# The component's own canvas of the stroke under way; on the bare page it is in a shadow root, as the package has it.
DRAWABLE = """() => {
  const find = (root) => root?.querySelector("canvas.upper-canvas") ??
    [...(root?.querySelectorAll("*") ?? [])].some(({ shadowRoot }) => shadowRoot && find(shadowRoot));
  return find(document.querySelector(".st-key-canvas")) && performance.now() / 1000;
}"""


def open_page(context, url):
    """Seconds from the request of the page until its canvas is there."""
    page = context.new_page()
    page.goto(url, wait_until="commit")
    seconds = page.wait_for_function(DRAWABLE, timeout=120_000).json_value()
    page.close()
    return seconds


def main():
    parser = arguments(__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[100, 100_000], help="how many, one app for each")
    options = begin(parser)
    with contextlib.ExitStack() as closing:
        environment = closing.enter_context(database())
        servers = {"bare": closing.enter_context(serve(BARE_PAGE))}
        for rows in options.rows:
            servers[rows] = closing.enter_context(serve_app(options.app, environment, rows))
        browser = closing.enter_context(open_browser())
        first, again = ({name: [] for name in servers} for _ in range(2))
        for n in range(1 + VISITORS):
            for name in servers if n % 2 else reversed(servers):
                context = browser.new_context()
                seconds = open_page(context, servers[name].url), open_page(context, servers[name].url)
                context.close()
                if n:
                    first[name].append(seconds[0])
                    again[name].append(seconds[1])
    for what, times in {"a first visit": first, "again": again}.items():
        bare = times.pop("bare")
        report(f"{what}: the bare page opened, until one can draw", spread(bare, "s", 2))
        for rows, seconds in times.items():
            ratio = statistics.median(seconds) / statistics.median(bare)
            report(f"{what}: the page with {rows:,} rows; ratio", f"{spread(seconds, 's', 2)}; {ratio:.2f}")


if __name__ == "__main__":
    main()
