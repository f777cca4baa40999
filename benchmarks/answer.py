"""How long the answer takes in a browser, against a page that only holds the same canvas and echoes it.

    .venv/bin/python benchmarks/answer.py

Both pages run at once, each in a process of its own with the same settings, and Chromium draws on them in turn
(stroke.py): from the moment the mouse button is up until the page shows the answer (or the echo) to this stroke. On the
bare page that includes the component's own wait of 200 ms, which ours cuts short (canvas.py). The browser runs on the
same machine. Takes some minute.
"""

import statistics

from bench import ROOT, database, describe, report, spread
from browser import open_browser, serve
from stroke import compare


def main():
    describe(__doc__)
    bare_page = ROOT / "benchmarks" / "bare_page.py"
    with database() as environment, serve(**environment) as app, serve(bare_page) as bare, open_browser() as browser:
        ours, echoed = compare(browser, app, bare)
    report("end of a stroke to the answer on the page", spread(ours, digits=0))
    report("the same on a bare page: only the canvas, and its ink as a number", spread(echoed, digits=0))
    report("ratio of the two medians", f"{statistics.median(ours) / statistics.median(echoed):.2f}")


if __name__ == "__main__":
    main()
