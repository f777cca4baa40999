"""Kill the database server and the app at random moments while people draw and label, then count what is missing.

    python tests/chaos.py --seed 1 --minutes 5

starts the real app with an embedded server in a temporary folder. With --compose it builds and starts the containers of
docker-compose.yml instead, beside whatever runs, and takes them down again with their volume.

What counts is what the page said: every drawing and label that it called saved must be in the table once, as it was
drawn. Each kill meets a change of the network in service: a row must hold what all of one network says of its drawing.
The seed fixes what is drawn and killed and in which order; what each kill hits is up to the machine.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import networks
import numpy as np
import psutil
from deployment import Deployment
from helpers import same_ink, scribble
from visitor import Visitor
from websockets.exceptions import WebSocketException

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from model import predict, read_model  # noqa: E402
from utils import decode_drawing, preprocess_gray, side_by_side_gray, to_gray  # noqa: E402

ROWS = "SELECT to_json(p) FROM predictions p"  # bytes become text: \\x and two hexadecimal digits each
PROGRESS_SECONDS = 400  # for the page to say saved again after a kill; these two only end a run that would never end
LANDING_SECONDS = 200  # for what waits to land after the last kill
CHANGE_SECONDS = 200  # for another network to be in service after a kill
MODEL = networks.MODEL.read_bytes()
SERVED = [MODEL, networks.weights(1), networks.weights(2)]  # in service one after the other, round and round
# A program of its own, as learn.py is: puts the weights that it is given into service, or model.pth if there are none.
CHANGE = """
import sys, time
from store import ledger
weights = sys.stdin.buffer.read()
version = ledger.version_of(weights) if weights else None
made = dict(parent="chaos", command="tests/chaos.py", learnt_from={}, figures={}, refusal=None)
while True:
    try:
        if weights:
            ledger.enter(weights, expected=(ledger.in_service(), ledger.tries()), **made)
        if ledger.in_service() != version:
            ledger.roll_back(version)
        break
    except ledger.DatabaseError:
        time.sleep(0.2)
"""


class App:
    """The real app on a free port of this machine."""

    def __init__(self, log, **environment):
        self.log, self.environment = log, environment
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.start()

    def start(self):
        host, port = self.address.split(":")
        options = ["--server.headless=true", f"--server.address={host}", f"--server.port={port}"]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlit", "run", str(ROOT / "serve.py"), *options],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_up(self):
        host, port = self.address.split(":")
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
                return
            time.sleep(0.2)
        raise RuntimeError(f"the app ended by itself: {Path(self.log).read_text()[-2000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, number=signal.SIGINT):
        """Ctrl-C, and wait until it is gone."""
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def server_processes(data):
    """The postgres processes whose data is in this folder, the first started first: the server, then its children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "postgres" and process.cwd() == str(data) and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process, process.ppid()))
    numbers = {process.pid for process, _ in found}
    return [process for process, _ in sorted(found, key=lambda pair: pair[1] in numbers)]


def hit(processes, number):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class Embedded:
    """What `make run` starts: the app, which starts its server."""

    kinds = ("server", "server and its children", "connection", "app", "app and server", "server paused")

    def __init__(self, folder):
        self.data = (folder / "pgdata" / "data").resolve()
        self.app = App(folder / "app.log")
        self.address = self.app.address

    def kill(self, kind, chance):
        """Kill this and bring it back. Returns whether there was anything to kill."""
        killed = kind.startswith("app")
        if killed:
            self.app.kill()
        if "server" in kind or kind == "connection":
            processes = server_processes(self.data)
            if kind == "connection":
                processes = [p for p in processes if "postgres postgres" in " ".join(p.cmdline())][:1]
            elif kind == "server":
                processes = processes[:1]
            if kind == "server paused":
                hit(processes, signal.SIGSTOP)
                time.sleep(chance.uniform(1, 12))
                hit(processes, signal.SIGCONT)
            else:
                hit(processes, signal.SIGKILL)
            killed = killed or bool(processes)
        if kind.startswith("app"):
            time.sleep(chance.uniform(0, 2))
            self.app.start()
            self.app.wait_until_up()
        return killed

    def change(self):
        """The command that runs CHANGE."""
        return [sys.executable, "-c", CHANGE], os.environ

    def log(self):
        return Path(self.app.log).read_text()

    def stop(self):
        """Stop the app. Returns what went wrong."""
        self.app.stop()
        return ["the embedded server runs on after Ctrl-C"] if server_processes(self.data) else []

    def rows(self):
        from store import postgres

        return [row for (row,) in postgres.reads.run(ROWS)[2]]


class Containers:
    """What `docker compose up` starts. Killed containers are started by it again, killed processes by Docker itself."""

    WHOLE = {"server": ["db"], "app": ["streamlit_app"], "app and server": ["streamlit_app", "db"]}
    INSIDE = {  # kind -> a container, and the user whose processes are meant: all but the container's init
        "server's processes": ("db", "postgres"),
        "app's processes": ("streamlit_app", "10001"),
        "server paused": ("db", "postgres"),  # `docker compose pause` needs a freezer, which not every kernel lends
    }
    kinds = (*WHOLE, *INSIDE)

    def __init__(self):
        self.deployment = Deployment("docker-compose.yml")
        self.address, self.compose = self.deployment.address, self.deployment.compose

    def kill(self, kind, chance):
        """Kill this and bring it back. Returns whether there was anything to kill."""
        if kind in self.WHOLE:
            self.compose("kill", "--signal=KILL", *self.WHOLE[kind])
            time.sleep(chance.uniform(0, 3))
            self.compose("up", "--detach")
            return True
        service, user = self.INSIDE[kind]
        command = "kill -KILL -1"
        if kind == "server paused":
            command = f"kill -STOP -1; sleep {chance.uniform(1, 12)}; kill -CONT -1"
        done = self.compose("exec", "-T", f"--user={user}", service, "sh", "-c", command, check=False)
        assert done.returncode in (0, 137), done.stderr  # 137: the shell ended with its container
        return True

    def change(self):
        """The command that runs CHANGE."""
        command = ["docker", "compose", "exec", "-T", "streamlit_app", "python", "-c", CHANGE]
        return command, self.deployment.environment

    def log(self):
        return self.compose("logs", "--tail=20")

    def stop(self):
        """Stop the app. Returns what went wrong."""
        self.compose("stop", "streamlit_app")
        return []

    def rows(self):
        return [json.loads(line) for line in self.deployment.sql(ROWS).splitlines()]


class Chaos:
    """Sessions that draw, things that are killed, and a ledger of what was said."""

    def __init__(self, target, seed, sessions=20):
        self.chance = random.Random(f"kills {seed}")
        self.target, self.seed, self.sessions = target, seed, sessions
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.drawings = {}  # id -> what is known of it
        self.kills = collections.Counter()
        self.changes = []  # for each time that another network was put into service, whether it was
        self.faults = []
        self.believed = 0  # how often a page said saved
        self.answers = []  # seconds from a stroke to the end of its rerun

    def run(self, seconds, pause=(1.0, 8.0), kinds=None):
        """Draw and kill for so many seconds, wait until all has landed, stop the app. Returns the report."""
        threads = [threading.Thread(target=self._session, args=(n,)) for n in range(self.sessions)]
        for thread in threads:
            thread.start()
        kinds = kinds or self.target.kinds
        try:
            self._wait_for_progress()
            deadline, order = time.monotonic() + seconds, self.chance.sample(kinds, len(kinds))
            while time.monotonic() < deadline or order:  # every round of kinds is finished
                time.sleep(self.chance.uniform(*pause))
                order = order or self.chance.sample(kinds, len(kinds))
                with self._change():
                    time.sleep(self.chance.uniform(0, 0.5))
                    self.kills[order[-1]] += self.target.kill(order.pop(), self.chance)
                self._wait_for_progress()
        finally:
            self.ending.set()
            for thread in threads:
                thread.join()
            self.faults += self.target.stop()
        return self._check()

    @contextlib.contextmanager
    def _change(self):
        """Put the next network into service meanwhile. Where the app is killed in Compose, so may be who does that."""
        weights = SERVED[(len(self.changes) + 1) % len(SERVED)]
        command, environment = self.target.change()
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE) as process:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(weights if weights is not MODEL else b"")
                process.stdin.close()
            try:
                yield
                process.wait(CHANGE_SECONDS)
            finally:
                process.kill()
                self.changes.append(process.wait() == 0)

    def _wait_for_progress(self):
        """Let some drawings be called saved before the next kill, or the end: what was killed is back, and in use."""
        enough, deadline = self.believed + self.sessions // 2, time.monotonic() + PROGRESS_SECONDS
        while self.believed < enough:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no drawing is saved any more: {self.target.log()[-2000:]}")
            time.sleep(0.1)

    def _session(self, number):
        chance = random.Random(f"session {number} {self.seed}")
        while not self.ending.is_set():
            mine = []  # of this connection: what the page says of saving is about these
            try:
                visitor = Visitor(self.target.address)
            except (OSError, WebSocketException):
                self.ending.wait(chance.uniform(0.2, 2))  # the app is down, or on its way up
                continue
            with contextlib.closing(visitor):
                try:
                    while not self.ending.is_set():
                        self._draw(visitor, chance, mine)
                    self._wait_until_saved(visitor, mine)
                except Exception as error:
                    if self.ending.is_set():  # before that, what is killed explains it
                        self.faults.append(f"session {number}: {type(error).__name__}: {error}")
            self.faults += [f"session {number}: the page showed: {error}" for error in visitor.errors]

    def _draw(self, visitor, chance, mine):
        drawing = {"strokes": [], "said": -1, "label": None, "label_said": False}
        with self.lock:
            self.drawings[visitor.drawing_id] = drawing
        mine.append(drawing)
        for _ in range(chance.randint(1, 3)):
            drawing["strokes"].append(scribble(chance))
            began = time.monotonic()
            visitor.draw(drawing["strokes"][-1])
            self.answers.append(time.monotonic() - began)
            self._believe(visitor, mine)
        if chance.random() < 0.7:
            drawing["label"] = chance.randrange(10)
            if not visitor.label(drawing["label"]):
                self.faults.append("the label buttons were disabled after a stroke")
        else:
            visitor.clear()
        self._believe(visitor, mine)
        self.ending.wait(chance.uniform(0, 0.5))

    def _believe(self, visitor, mine):
        """When the page says saved, it says so of all that this session has done."""
        if visitor.saved:
            self.believed += 1
            for drawing in mine:
                drawing["said"] = len(drawing["strokes"]) - 1
                drawing["label_said"] = drawing["label"] is not None
            mine[:] = mine[-1:]

    def _wait_until_saved(self, visitor, mine):
        deadline = time.monotonic() + LANDING_SECONDS
        while visitor.text("notice") and not visitor.saved:  # after Clear, it has nothing to say once all is saved
            if time.monotonic() > deadline:
                raise TimeoutError(f"still not saved: {visitor.text('notice')!r}")
            time.sleep(0.5)
            visitor.look_again()
            self._believe(visitor, mine)

    def _check(self):
        rows = self.target.rows()
        ids = {row["id"] for row in rows}
        lost, wrong, broken = [], [], []
        models = {networks.version(weights): network(weights) for weights in SERVED}
        for drawing_id, drawing in self.drawings.items():
            if drawing["said"] >= 0 and drawing_id not in ids:
                lost.append(f"{drawing_id}: no row")
        for row in rows:
            drawing_id, label = row["id"], row["true_label"]
            drawing = self.drawings.get(drawing_id)
            if drawing is None:
                broken.append(f"{drawing_id}: nobody drew it")
                continue
            stored = bytes.fromhex(row["drawing"].removeprefix("\\x"))
            if not any(same_ink(stored, png) for png in drawing["strokes"][max(0, drawing["said"]) :]):
                lost.append(f"{drawing_id}: an older stroke than the one that was called saved")
            if label != drawing["label"] and (drawing["label_said"] or label is not None):
                wrong.append(f"{drawing_id}: label {label}, given {drawing['label']}")
            if not said_by(models.get(row["model_version"]), stored, row):
                broken.append(f"{drawing_id}: not what all of model {row['model_version']} says of it")
        said = [d for d in self.drawings.values() if d["said"] >= 0]
        return {
            "kills": sum(self.kills.values()),
            "killed": dict(self.kills),
            "models changed": sum(self.changes),
            "rows of each model": dict(collections.Counter(row["model_version"] for row in rows)),
            "drawings": len(self.drawings),
            "rows": len(rows),
            "rows twice": len(rows) - len(ids),
            "drawings called saved": len(said),
            "labels called saved": sum(d["label_said"] for d in said),
            "lost": lost,
            "wrong labels": wrong,
            "half-written rows": broken,
            "other faults": self.faults,
            "strokes": len(self.answers),
        }


def network(weights):
    return read_model(weights, networks.sha256(weights), "chaos")


def said_by(model, png, row):
    """Whether the row holds what this model says of the drawing in it."""
    if model is None or (picture := preprocess_gray(gray := to_gray(decode_drawing(png)))) is None:
        return False
    prediction = predict(model, picture, side_by_side_gray(gray))
    said = [prediction.digit, *prediction.probabilities, prediction.not_a_digit]
    return np.allclose(said, [row["predicted_digit"], *row["probabilities"], row["not_a_digit"]], rtol=0, atol=1e-5)


def bad(report):
    """What is wrong in a report, empty if nothing is."""
    names = ("rows twice", "lost", "wrong labels", "half-written rows", "other faults")
    return {name: report[name] for name in names if report[name]}


@contextlib.contextmanager
def embedded():
    with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        folder.chmod(0o711)
        os.environ |= {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")}
        yield Embedded(folder)


@contextlib.contextmanager
def containers():
    target = Containers()
    try:
        target.compose("build")
        target.deployment.up()
        yield target
    finally:
        target.remove()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", default="1")
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--sessions", type=int, default=20)
    options.add_argument("--compose", action="store_true", help="the containers of docker-compose.yml")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))  # and everything is taken down
    with containers() if chosen.compose else embedded() as target:
        chaos = Chaos(target, chosen.seed, chosen.sessions)
        report = chaos.run(60 * chosen.minutes)
    for name, value in report.items():
        print(f"{name + ':':24}", len(value) if isinstance(value, list) else value)
    for name, value in bad(report).items():
        print(name, *(value[:20] if isinstance(value, list) else [value]), sep="\n  ")
    times = sorted(chaos.answers) or [0]
    print(f"{'stroke to answer:':24} median {times[len(times) // 2]:.3f} s, slowest {times[-1]:.3f} s")
    sys.exit(bool(bad(report)))


if __name__ == "__main__":
    main()
