"""What the history and the insights ask of the database, and of the server's memory, with many rows.

    .venv/bin/python benchmarks/queries.py                  # a database of its own with 10,000 rows; or name a number
    .venv/bin/python benchmarks/queries.py --here           # the database that the app uses, as it is
    .venv/bin/python benchmarks/queries.py --here --plans   # with the whole plans

For each query: the index that serves it, and the median of nine runs with the least and the most, in milliseconds. Then
the copy that all visitors share (snapshot.py): how long it takes to read, in seconds of the clock and of this process,
and what is asked of it afterwards.
"""

import contextlib
import os
import re
import statistics
import time
from datetime import timedelta
from pathlib import Path

from bench import arguments, begin, database


def timed(function, runs=9):
    """Run it; returns the result and 'median (least–most)' in ms."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        result = function()
        times.append(1000 * (time.perf_counter() - began))
    return result, f"{statistics.median(times):.1f} ({min(times):.1f}–{max(times):.1f})"


def queries(db, postgres, plans):
    """Print each query's time and index."""
    run = postgres.reads.run
    middle = run(
        "SELECT created_at, id FROM predictions ORDER BY created_at DESC, id DESC "
        "OFFSET (SELECT count(*) / 2 FROM predictions) LIMIT 1"
    )[2][0]
    newest = run("SELECT id, updated_at FROM predictions ORDER BY updated_at DESC LIMIT 50")[2]
    page = {"created_at": middle[0], "id": middle[1], "limit": 5000, "pictures": True}
    export = {"limit": 1000, "bytes": 3_000_000, "strokes": False, "labelled": False}
    asked = {
        "a page of 5,000 rows, from the middle": (db.PAGE, page),
        "what changed in the last minute": (
            db.CHANGED,
            {"since": newest[0][1] - timedelta(minutes=1), "id": newest[0][0], "limit": 100000},
        ),
        "50 changed rows": (db.BY_ID, {"ids": [row[0] for row in newest], "pictures": True}),
        "one drawing": ("SELECT * FROM predictions WHERE id = %(id)s", {"id": newest[0][0]}),
        "GET /news": (db.NEWS, {"late": db.LATE_SECONDS}),
        "insights: answers": (db.ANSWERS, {"no_digit_above": db.NO_DIGIT_ABOVE}),
        "insights: times": (db.TIMES, {"no_digit_above": db.NO_DIGIT_ABOVE}),
        "insights: versions": (db.VERSIONS, {"no_digit_above": db.NO_DIGIT_ABOVE}),
        "a page is opened: are all rows there?": (db.SUMMARY, {}),
        "1,000 rows of the download": (db.EXPORT, page | export),
    }
    for name, (sql, values) in asked.items():
        took = timed(lambda sql=sql, values=values: run(sql, values))[1]
        plan = "\n".join(row[0] for row in run("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + sql, values)[2])
        scans = sorted(
            set(
                re.findall(
                    r"(Index Only Scan|Index Scan|Bitmap Index Scan|Seq Scan)(?: Backward)?"
                    r"(?: using| on) (\w+)",
                    plan,
                )
            )
        )
        print(f"| {name} | {'; '.join(' '.join(scan) for scan in scans)} | {took} |")
        if plans:
            print(re.sub(r"'\{.*?\}'", "'{…}'", plan), "\n")


def memory():
    """(MB in memory now, MB at most so far)."""
    status = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+)", Path("/proc/self/status").read_text()))
    return int(status["VmRSS"]) / 1000, int(status["VmHWM"]) / 1000


def copy(db):
    """Print what the shared copy costs."""
    from streamlit import dataframe_util

    from page import filters, history
    from store import snapshot

    before, cpu, began = memory()[0], time.process_time(), time.perf_counter()
    shared = snapshot.Snapshot(db)
    first = len(shared.look(patience=60).table)
    print(f"the newest {first:,} rows: {time.perf_counter() - began:.2f} s")
    while not shared.view.complete:
        time.sleep(0.02)
    view, now, cpu = shared.view, memory(), time.process_time() - cpu
    print(f"all {len(view.table):,}: {time.perf_counter() - began:.1f} s, of which this process {cpu:.1f} s")
    print(
        f"memory: {view.table.nbytes / 1e6:.0f} MB of rows; the process grew by {now[0] - before:.0f} MB, "
        f"by at most {now[1] - before:.0f} MB while it read"
    )
    news = view.table.slice(0, 50)
    for name, function in {
        "a look, nothing new": lambda: shared.look(patience=60),
        "a look that checks all": lambda: shared.look(patience=60, check=True),
        "50 newest rows changed: merging them": lambda: snapshot.merge(view.table, news),
        "filter: mistakes": lambda: filters.filtered(snapshot.View(view.table), snapshot.WRONG, None, None),
        "filter: unlabelled": lambda: filters.filtered(snapshot.View(view.table), "none", None, None),
        "search: 2026-11": lambda: filters.search(view.table, "2026-11", "Europe/Berlin"),
        "a message of 1,000 rows": lambda: dataframe_util.convert_arrow_table_to_arrow_bytes(
            view.table.select(history.COLUMNS).slice(0, 1000)
        ),
    }.items():
        result, took = timed(function)
        print(f"{name}: {took} ms" + (f", {len(result) / 1000:.0f} kB" if isinstance(result, bytes) else ""))


def main():
    parser = arguments(__doc__, app=False)
    parser.add_argument("rows", type=int, nargs="?", default=10_000)
    parser.add_argument("--here", action="store_true", help="measure the database that the app uses")
    parser.add_argument("--plans", action="store_true", help="print the plans")
    options = begin(parser)
    with contextlib.nullcontext() if options.here else database() as environment:
        os.environ.update(environment or {})
        from seed_rows import seed_rows

        import db
        import store
        from store import postgres

        if not options.here:
            seed_rows(options.rows)
        db.build_indexes()
        print("| query | served by | ms: median (least–most) |\n|---|---|--:|")
        queries(db, postgres, options.plans)
        print()
        copy(db)
        store.stop()


if __name__ == "__main__":
    main()
