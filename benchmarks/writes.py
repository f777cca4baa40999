"""How many drawings and labels a second reach the table, through the outbox, and what one write takes.

    .venv/bin/python benchmarks/writes.py

On an embedded server of its own, with its data on this machine's temporary folder and every write flushed to disk: the
outbox's one thread writes 300 drawings and then their 300 labels; five times. Takes some twenty seconds.
"""

import os
import time
import uuid
from datetime import UTC, datetime
from functools import partial

import numpy as np
from bench import arguments, begin, database, drawing, report, spread

ROUNDS, DRAWINGS = 5, 300


def main():
    begin(arguments(__doc__, app=False))
    rng = np.random.default_rng(0)
    pictures = [drawing(rng) for _ in range(100)]
    row = {"digit": 7, "confidence": 0.91, "probabilities": [0.01] * 7 + [0.91, 0.01, 0.01], "not_a_digit": 0.0}
    row |= {"created_at": datetime.now(UTC), "model_version": "benchmark"}
    with database() as environment:
        os.environ.update(environment)
        import db
        import store

        outbox = store.start(db).outbox
        inserts, labels, single = [], [], []
        for _ in range(ROUNDS):
            ids = [str(uuid.uuid4()) for _ in range(DRAWINGS)]
            began = time.perf_counter()
            tickets = []
            for i, drawing_id in enumerate(ids):
                write = partial(db.save_prediction, drawing_id, **row, drawing=pictures[i % len(pictures)])
                tickets.append(outbox.put(f"{drawing_id} prediction", write, new=True))
            assert outbox.wait(tickets, 60), outbox.problem
            inserts.append(DRAWINGS / (time.perf_counter() - began))
            began = time.perf_counter()
            tickets = [outbox.put(f"{i} label", partial(db.save_label, i, 7)) for i in ids]
            assert outbox.wait(tickets, 60), outbox.problem
            labels.append(DRAWINGS / (time.perf_counter() - began))
        for i in range(200):
            began = time.perf_counter()
            db.save_prediction(uuid.uuid4(), **row, drawing=pictures[i % len(pictures)])
            single.append(1000 * (time.perf_counter() - began))
        rows, labelled, _ = db.fetch_summary()
        assert (rows, labelled) == (ROUNDS * DRAWINGS + 200, ROUNDS * DRAWINGS)
        store.stop()
    report("drawings saved", spread(inserts, "/s", 0))
    report("labels saved", spread(labels, "/s", 0))
    report("one drawing saved", spread(single))


if __name__ == "__main__":
    main()
