"""Fill the table with made-up drawings, to see the app and its queries with many rows.

    .venv/bin/python benchmarks/seed_rows.py 100000

writes into the database that the app uses (.env, or the embedded server). Most rows are labelled, and the confidence is
honest: of all rows at 90 %, nine in ten are right. The drawings are a few hundred pictures, over and over.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
import db  # noqa: E402
from store import postgres  # noqa: E402
from training.strokes import dense, place  # noqa: E402
from utils import encode_png, render_strokes  # noqa: E402

PICTURES = 300
BATCH = 2_000  # rows a statement: within the time limit of a write on a busy machine, too
GLYPHS = [  # strokes of each digit, in a square of side 10
    [[(5, 0), (2, 2), (1, 5), (2, 8), (5, 10), (8, 8), (9, 5), (8, 2), (5, 0)]],
    [[(3, 2), (5, 0), (5, 10)]],
    [[(1, 2), (4, 0), (8, 1), (8, 4), (1, 10), (9, 10)]],
    [[(1, 1), (5, 0), (8, 2), (7, 4), (4, 5), (8, 6), (8, 9), (4, 10), (1, 9)]],
    [[(6, 0), (1, 7), (9, 7)], [(7, 3), (7, 10)]],
    [[(8, 0), (2, 0), (2, 4), (6, 4), (8, 6), (8, 9), (4, 10), (1, 9)]],
    [[(6, 0), (3, 3), (2, 7), (4, 10), (7, 9), (7, 6), (4, 5), (2, 7)]],
    [[(1, 0), (9, 0), (5, 10)]],
    [[(5, 5), (2, 3), (3, 0), (7, 0), (8, 3), (2, 7), (3, 10), (7, 10), (8, 7), (5, 5)]],
    [[(8, 3), (5, 5), (2, 3), (4, 0), (7, 0), (8, 3), (6, 10)]],
]
ROWS = """
    INSERT INTO predictions (id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit,
                             true_label, labelled_at, drawing, model_version, thumbnail, strokes, session, label_source)
    SELECT gen_random_uuid(), at, at, read, confidence, (
               SELECT array_agg(CASE WHEN d = read THEN confidence ELSE (0.999 - confidence) / 9 END ORDER BY d)
               FROM generate_series(0, 9) AS d),
           0.001, label, CASE WHEN label IS NOT NULL THEN at END, drawing, 'made up', thumbnail, strokes,
           gen_random_uuid(), CASE WHEN label IS NOT NULL THEN 'chosen' END
    FROM (
        SELECT at, confidence, digits[pick] AS digit, drawings[pick] AS drawing, thumbnails[pick] AS thumbnail,
               strokes[pick]::jsonb AS strokes,
               CASE WHEN random() < confidence THEN digits[pick]
                    ELSE (digits[pick] + 1 + floor(random() * 9)::int) %% 10 END AS read,
               CASE WHEN random() < 0.7 THEN digits[pick] END AS label
        FROM (
            SELECT %(first)s + i * %(step)s AS at, 0.999 - 0.6 * random() ^ 20 AS confidence,
                   1 + floor(random() * cardinality(%(digits)s))::int AS pick,
                   %(digits)s AS digits, %(drawings)s AS drawings, %(thumbnails)s AS thumbnails,
                   %(strokes)s AS strokes
            FROM generate_series(0, %(n)s - 1) AS i
        ) AS picked
    ) AS drawn
"""


def pictures(rng):
    """Digits, and for each the strokes of a drawing of it that is like no other, and their PNG."""
    digits = rng.integers(0, 10, PICTURES)
    wobbly = [[np.asarray(s) / 10 + rng.normal(0, 0.03, (len(s), 2)) for s in GLYPHS[digit]] for digit in digits]
    placed = [[np.round(dense(s.tolist(), 4), 1).tolist() for s in place(strokes, rng)] for strokes in wobbly]
    return digits.tolist(), placed, [encode_png(render_strokes(strokes)) for strokes in placed]


def seed_rows(n, days=90, progress=lambda done: None):
    """Insert `n` rows, spread evenly over the last `days` days."""
    db.create_table()
    digits, strokes, drawings = pictures(np.random.default_rng(0))
    values = {"digits": digits, "drawings": drawings, "thumbnails": [db.thumbnail(png) for png in drawings]}
    values["strokes"] = [json.dumps(each) for each in strokes]
    now, step = postgres.reads.run("SELECT now(), %(days)s * interval '1 day' / %(n)s", {"days": days, "n": n})[2][0]
    for done in range(0, n, BATCH):
        first = now - (n - done) * step
        postgres.writes.run(ROWS, values | {"first": first, "step": step, "n": min(BATCH, n - done)})
        progress(min(n, done + BATCH))
    postgres.reads.run("VACUUM ANALYZE predictions")  # as the server does by itself, some minutes after so many rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", help="how many")
    parser.add_argument("--days", type=float, default=90, help="over how many days, up to now")
    options = parser.parse_args()
    if options.rows is None:
        return parser.print_help()
    began = time.monotonic()
    seed_rows(options.rows, options.days, lambda done: print(f"\r{done:,} rows", end="", flush=True))
    print(f" in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
