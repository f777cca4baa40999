"""What the benchmarks share: a database and an app of their own, made-up drawings, and how figures are written."""

import argparse
import contextlib
import io
import os
import shutil
import signal
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from seed_rows import GLYPHS  # noqa: E402

from store import embedded  # noqa: E402
from training.strokes import place, render_strokes  # noqa: E402


@contextlib.contextmanager
def database():
    """The environment of an app, or of this process, that uses a new embedded server; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="digits-"))
    folder.chmod(0o711)  # PostgreSQL's own user must reach its data
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that whatever ends this, the server ends with it
    try:
        server = {"POSTGRES_HOST": embedded.start(folder / "pgdata"), "POSTGRES_DB": "postgres"}
        yield server | {"POSTGRES_USER": "postgres", "POSTGRES_PORT": "", "POSTGRES_PASSWORD": "", "PGDATA_DIR": ""}
    finally:
        embedded.stop()
        shutil.rmtree(folder)


def drawing(rng):
    """The PNG of a wobbly digit as the canvas sends it: 280 × 280, RGBA, opaque. No two are the same."""
    strokes = [np.asarray(s) / 10 + rng.normal(0, 0.03, (len(s), 2)) for s in GLYPHS[rng.integers(10)]]
    gray = render_strokes(place(strokes, rng))
    Image.fromarray(gray).convert("RGBA").save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def describe(doc):
    """Say with --help what a benchmark measures; it takes no other argument."""
    argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    conditions()


def conditions():
    """Say what the figures are taken on, before the benchmark adds its own load."""
    print(f"{datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")


def percentile(values, p):
    """The value that `p` per cent of the values do not exceed."""
    return float(np.percentile(values, p))


def spread(values, unit="ms", digits=1):
    """Median, and in brackets where the middle nine tenths lie."""
    low, middle, high = percentile(values, 5), statistics.median(values), percentile(values, 95)
    return f"{middle:,.{digits}f} {unit} ({low:,.{digits}f}–{high:,.{digits}f})"


def report(what, result):
    """Print one row of the README's table."""
    print(f"| {what} | {result} | `{Path(sys.argv[0]).name}` |", flush=True)
