"""How long the network's part of an answer takes, without page and browser.

    .venv/bin/python benchmarks/inference.py

On one thread, over 300 drawings that are all different: from what the browser sent to pixels (`decode`), to the 28×28
picture (`preprocess`), to the answer (`predict`), and to the PNG for the database (`encode`). Takes some ten seconds.
"""

import base64
import time

import numpy as np
from bench import ROOT, arguments, begin, drawing, report, spread

from model import load_model, predict
from utils import decode_drawing, encode_png, preprocess

DRAWINGS = 300
WARM_UP = 30  # drawings before PyTorch has made its plans


def main():
    begin(arguments(__doc__, app=False))
    rng = np.random.default_rng(0)
    model = load_model(ROOT / "model.pth")
    times = []
    for sent in [base64.b64encode(drawing(rng)) for _ in range(WARM_UP + DRAWINGS)]:
        at = [time.perf_counter()]
        rgba = decode_drawing(base64.b64decode(sent))
        at.append(time.perf_counter())
        picture = preprocess(rgba)
        at.append(time.perf_counter())
        predict(model, picture)
        at.append(time.perf_counter())
        encode_png(rgba)
        at.append(time.perf_counter())
        times.append(np.diff(at) * 1000)
    for name, column in zip(("decode", "preprocess", "predict", "encode"), np.array(times[WARM_UP:]).T, strict=True):
        report(name, spread(column, digits=2))
    report("preprocess + predict", spread(np.array(times[WARM_UP:])[:, 1:3].sum(axis=1), digits=2))


if __name__ == "__main__":
    main()
