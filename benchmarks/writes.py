"""How many drawings and labels a second reach the table, through the outbox, and what one write takes.

    .venv/bin/python benchmarks/writes.py

On an embedded server of its own, with its data on this machine's temporary folder and every write flushed to disk: the
outbox's one thread writes 300 drawings and then their 300 labels; five times. Takes some twenty seconds.
"""

import os
import time
import uuid
from datetime import UTC, datetime

import numpy as np
from bench import database, describe, drawing, report, spread

ROUNDS, DRAWINGS = 5, 300


def main():
    describe(__doc__)
    rng = np.random.default_rng(0)
    pictures = [drawing(rng) for _ in range(100)]
    row = {"digit": 7, "confidence": 0.91, "probabilities": [0.01] * 7 + [0.91, 0.01, 0.01], "not_a_digit": 0.0}
    row |= {"created_at": datetime.now(UTC), "model_version": "benchmark"}
    with database() as environment:
        os.environ.update(environment)
        import db
        from store.outbox import Outbox

        outbox = Outbox()
        inserts, labels, single = [], [], []
        for _ in range(ROUNDS):
            ids = [str(uuid.uuid4()) for _ in range(DRAWINGS)]
            began = time.perf_counter()
            for i, drawing_id in enumerate(ids):
                outbox.put_prediction(drawing_id, **row, drawing=pictures[i % len(pictures)])
            assert outbox.wait(ids, 60), outbox.problem
            inserts.append(DRAWINGS / (time.perf_counter() - began))
            began = time.perf_counter()
            for drawing_id in ids:
                outbox.put_label(drawing_id, 7)
            assert outbox.wait(ids, 60), outbox.problem
            labels.append(DRAWINGS / (time.perf_counter() - began))
        for i in range(200):
            began = time.perf_counter()
            db.save_prediction(uuid.uuid4(), **row, drawing=pictures[i % len(pictures)])
            single.append(1000 * (time.perf_counter() - began))
        rows, labelled, _ = db.fetch_summary()
        assert (rows, labelled) == (ROUNDS * DRAWINGS + 200, ROUNDS * DRAWINGS)
        outbox.close(5)
        db.close()
    report("drawings saved", spread(inserts, "/s", 0))
    report("labels saved", spread(labels, "/s", 0))
    report("one drawing saved", spread(single))


if __name__ == "__main__":
    main()
