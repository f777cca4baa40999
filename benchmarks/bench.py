"""What the benchmarks share: servers and visitors of their own, made-up drawings, and how figures are written.

Speeds are compared with those of `bare_page.py`, taken in turn in the same run: the speed of a machine changes by a
factor of two from hour to hour, and their ratio much less. `--app DIR` measures the app of another checkout, say of an
older commit (`git worktree add DIR COMMIT`). Everything is on loopback and ends with the program.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg2
from PIL import Image

ROOT = Path(__file__).parent.parent
BARE_PAGE = ROOT / "benchmarks" / "bare_page.py"
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from seed_rows import GLYPHS  # noqa: E402

from store import embedded  # noqa: E402
from training.strokes import place  # noqa: E402
from utils import render_strokes  # noqa: E402


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


@dataclass(eq=False)  # each is itself: what is measured is kept by it
class Server:
    """A Streamlit server that runs."""

    address: str  # host:port
    pid: int
    environment: dict[str, str]

    @property
    def url(self):
        return f"http://{self.address}"

    def cpu(self):
        """Seconds of processor time that it has used, those of threads that have ended included."""
        return time.clock_gettime(~self.pid << 3 | 2)  # as clock_getcpuclockid(3) makes it on Linux


@contextlib.contextmanager
def serve(script, **environment):
    """The Server of this page, a process of its own with the settings of its folder."""
    from browser import start_server  # here: not every program needs a browser

    folder = ROOT if script == BARE_PAGE else script.parent
    with start_server(script, folder, **environment) as (address, process):
        yield Server(address, process.pid, environment)


def app_script(checkout):
    """What `streamlit run` takes; before there was serve.py, that was the page itself."""
    return next(checkout / name for name in ("serve.py", "app.py") if (checkout / name).exists())


@contextlib.contextmanager
def serve_app(checkout, database, rows=0):
    """The Server of this checkout's app, with a table of its own that holds so many made-up rows."""
    environment = database | {"POSTGRES_DB": f"rows_{rows}_{time.time_ns()}"}
    run_sql(database, f"CREATE DATABASE {environment['POSTGRES_DB']}")
    if rows:
        seed = [sys.executable, checkout / "benchmarks" / "seed_rows.py", str(rows)]
        subprocess.run(seed, check=True, cwd=checkout, env=os.environ | environment, stdout=subprocess.DEVNULL)
    with serve(app_script(checkout), **environment) as server:
        yield server


def run_sql(environment, statement):
    """Run one statement on the database that this environment names."""
    host, name = environment["POSTGRES_HOST"], environment["POSTGRES_DB"]
    with contextlib.closing(psycopg2.connect(host=host, user="postgres", dbname=name)) as link:
        link.autocommit = True  # CREATE DATABASE runs in no transaction
        link.cursor().execute(statement)


def drawing(rng):
    """The PNG of a wobbly digit as the canvas sends it: 280 × 280, RGBA, opaque. No two are the same."""
    strokes = [np.asarray(s) / 10 + rng.normal(0, 0.03, (len(s), 2)) for s in GLYPHS[rng.integers(10)]]
    gray = render_strokes(place(strokes, rng))
    Image.fromarray(gray).convert("RGBA").save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def arguments(doc, app=True):
    """A parser that says with --help what a benchmark measures. app: it can measure the app of another checkout."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if app:
        parser.add_argument("--app", type=Path, default=ROOT, metavar="DIR", help="the checkout to measure")
    return parser


def begin(parser):
    """The arguments, after a word on what the figures are taken on, before the benchmark adds its own load."""
    options = parser.parse_args()
    if "app" in options:
        options.app = options.app.resolve()
    print(f"{datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    return options


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
