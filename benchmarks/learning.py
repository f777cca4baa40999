"""What learn.py makes of visitors' labels: how other people's drawings are read before and after.

    .venv/bin/python benchmarks/learning.py SCENARIO [--labels 300] [--seeds 3] [--data DIR]

Sessions of ten to twenty drawings come into a new table as the page saves and labels them, learn.py runs, and what it
made, promoted or refused, is measured on people who gave no label. Scenarios:

    script   digits of another script (DIR/kannada), which people there label as what they mean
    same     the same people as ever (DIR/drawings_dev.jsonl)
    wrong    as "script", one label in twenty a wrong one
    random   as "same", every label at random
    joker    as "same", and one session in which 500 threes are called eights

100 labels are of fewer than the 20 sessions that learn.py asks for, which then says so, and the table with it.
Takes some minutes a run on a quiet machine. The drawings are for this experiment alone: nothing made here is kept.
"""

import contextlib
import functools
import gzip
import io
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench import ROOT, arguments, begin, database, run_sql
from PIL import Image
from torchvision.datasets import MNIST

import db
import learn
from evaluate import place_all, read_drawings
from model import SERVED, load_model, predict, read_model
from store import ledger, postgres
from training.strokes import place
from utils import encode_png, preprocess_gray, render_strokes

SCENARIOS = {"script": "kannada", "wrong": "kannada", "same": "people", "random": "people", "joker": "people"}
PEOPLE = 100  # among whom the labelled half of the other script's drawings is shared out; its file does not name them


class Drawing(NamedTuple):
    gray: np.ndarray  # (280, 280) uint8
    label: int


def another_script(folder, rng):
    """Drawings by person of the first half of each digit, and of the second half, of whom nobody labels any."""
    pixels = gzip.open(folder / "kannada/images-idx3-ubyte.gz").read()
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.open(folder / "kannada/labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    large = lambda i: np.asarray(Image.fromarray(images[i]).resize((280, 280), Image.Resampling.BILINEAR))  # noqa: E731
    halves = [np.split(np.flatnonzero(labels == digit), 2) for digit in range(10)]
    persons = []
    for person in rng.permutation(PEOPLE):
        own = [first.reshape(PEOPLE, -1)[person] for first, _ in halves]  # neighbours are one person's
        persons.append([Drawing(large(i), int(labels[i])) for i in rng.permutation(np.concatenate(own))])
    return persons, [Drawing(large(i), int(labels[i])) for _, second in halves for i in second]


def same_people(folder, rng):
    """Drawings by writer of half of the writers, and those of the other half."""
    rows = read_drawings(folder / "drawings_dev.jsonl")
    writers = rng.permutation(sorted({row["writer"] for row in rows}))
    drawn = lambda row: Drawing(render_strokes(place(row["strokes"], rng)), row["label"])  # noqa: E731
    half = len(writers) // 2
    persons = [[drawn(row) for row in rows if row["writer"] == writer] for writer in writers[:half]]
    return persons, [drawn(row) for row in rows if row["writer"] in set(writers[half:])]


def sessions_of(persons, labels, rng):
    """So many drawings in sessions of ten to twenty, of one person each, the drawings of nobody twice."""
    sessions = []
    for person in persons:
        mine = person[: rng.integers(10, 21)][: labels - sum(map(len, sessions))]
        if mine:
            sessions.append(mine)
    return sessions


def visit(model, sessions):
    """Have these drawn and labelled, as page/drawing.py does."""
    minute, began = 0, datetime(2026, 1, 1, tzinfo=UTC)
    for drawings in sessions:
        session = str(uuid.uuid4())
        for gray, label in drawings:
            said, drawing_id, minute = predict(model, preprocess_gray(gray)), str(uuid.uuid4()), minute + 1
            db.save_prediction(
                drawing_id,
                created_at=began + timedelta(minutes=minute),
                digit=said.digit,
                confidence=said.confidence,
                probabilities=said.probabilities,
                not_a_digit=said.not_a_digit,
                drawing=encode_png(gray),
                model_version=said.model_version,
                session=session,
            )
            db.save_label(drawing_id, label, "confirmed" if label == said.digit else "chosen")


def measure(said, labels):
    """Accuracy in % on people who gave no label, MNIST's test images and all pen drawings; the first's log-loss too."""
    figures = [100 * float((s.read() == true).mean()) for s, true in zip(said, labels, strict=True)]
    threes = labels[0] == 3
    return [*figures, float(said[0].losses(labels[0]).mean()), 100 * float((said[0].read()[threes] == 3).mean())]


def collisions(read, labels):
    """The five pairs that are misread most, as "label read: how often"."""
    pairs = Counter(zip(labels[read != labels].tolist(), read[read != labels].tolist(), strict=True))
    return ", ".join(f"{label} as {digit}: {n}" for (label, digit), n in pairs.most_common(5))


def spoil(sessions, scenario, rng):
    """What is wrong with the labels in this scenario."""
    if scenario == "random":
        return [[Drawing(gray, int(rng.integers(10))) for gray, _ in drawings] for drawings in sessions]
    if scenario == "wrong":
        off = lambda: int(rng.integers(1, 10)) if rng.random() < 0.05 else 0  # noqa: E731
        return [[Drawing(gray, (label + off()) % 10) for gray, label in drawings] for drawings in sessions]
    if scenario == "joker":
        threes = [drawing.gray for drawings in sessions for drawing in drawings if drawing.label == 3]
        joke = [Drawing(np.roll(threes[i % len(threes)], i // len(threes), 1), 8) for i in range(500)]
        return [*sessions[:2], joke, *sessions[2:]]
    return sessions


def run(environment, scenario, labels, seed, data):
    """One line of the table."""
    rng = np.random.default_rng(seed)
    os.environ.update(environment | {"POSTGRES_DB": (name := f"learning_{time.time_ns()}")})
    run_sql(environment, f"CREATE DATABASE {name}")
    postgres.disconnect()
    db.create_table()
    persons, others = (another_script if SCENARIOS[scenario] == "kannada" else same_people)(data, rng)
    sessions = spoil(sessions_of(persons, labels, rng), scenario, rng)
    served = load_model(SERVED)
    visit(served, sessions)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"--seed": seed, "--data": data, "--threads": 1, "--report": f"{folder}/r.md"}
        sys.argv = ["learn.py", *(str(word) for setting in settings.items() for word in setting)]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            learn.main()
    begun = f"| {scenario} | {sum(map(len, sessions))} of {len(sessions)} | {seed}"
    if not (models := ledger.fetch_models()):
        return print(f"{begun} | | | | | | {said.getvalue().strip()} |", flush=True)
    [made] = models
    sha256, weights = ledger.fetch_weights(made.version)
    pictures = torch.cat([preprocess_gray(gray) for gray, _ in others]), np.array([label for _, label in others])
    sets, truths = zip(pictures, test_images(data), dev_drawings(data), strict=True)
    challenger = read_model(weights, sha256, f"model {made.version}")
    before, after = ([learn.said_of(model, x) for x in sets] for model in (served, challenger))
    mistaken = [collisions(said.read(), true) for said, true in zip(after, truths, strict=True)]
    print(f"others: {mistaken[0]}; MNIST: {mistaken[1]}; pens: {mistaken[2]}", file=sys.stderr)
    pairs = zip(measure(before, truths), measure(after, truths), strict=True)
    numbers = " | ".join(f"{a:.2f} → {b:.2f}" for a, b in pairs)
    print(f"{begun} | {numbers} | {made.refusal or 'promoted'} |", flush=True)


@functools.cache
def test_images(data):
    test = MNIST(str(data), train=False, download=True)
    return test.data[:, None].float() / 255, test.targets.numpy()


@functools.cache
def dev_drawings(data):
    placed = place_all(read_drawings(data / "drawings_dev.jsonl"), np.random.default_rng(0), 1)
    return placed.pictures, np.array(placed.labels)


def main():
    parser = arguments(__doc__, app=False)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DATA_DIR") or ROOT / "data"))
    options = begin(parser)
    pools, make = [], learn.make_pools  # made once: half a minute of each run
    learn.make_pools = lambda *given: pools[0] if pools else (pools.append(make(*given)), pools[0])[1]
    torch.set_num_threads(1)
    print(
        "| scenario | labels, sessions | seed | others % | MNIST test % | pens % | others' loss | threes % | verdict |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with database() as environment:
        for seed in range(options.first, options.first + options.seeds):
            run(environment, options.scenario, options.labels, seed, options.data)
        postgres.close()


if __name__ == "__main__":
    main()
