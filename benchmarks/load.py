"""How long an answer takes while many people draw at once, and how many it takes to make everyone wait.

    .venv/bin/python benchmarks/load.py                  # 50, 100, 120, ... until the 95th percentile passes 1 s
    .venv/bin/python benchmarks/load.py 50 --seconds 60
    .venv/bin/python benchmarks/load.py 20 50 --live      # each also asks for live answers, in turn with rounds without
    .venv/bin/python benchmarks/load.py 100 200 --processes 2           # sessions dealt out to two app processes
    .venv/bin/python benchmarks/load.py 100 200 --processes 2 --caddy   # by Caddy, with sticky sessions
    .venv/bin/python benchmarks/load.py 100 --url http://127.0.0.1:8080 # what runs there; several, in turn

Each person is a session of Streamlit's websocket that ends a stroke every two seconds (crowd.py); with --labels every
second drawing is labelled, too, which is half as many runs of the page again. Measured is the time from sending the
drawing until its whole answer is received. As many people draw on the bare page, in turn with the app, in the same
minutes. The apps, their database and this program share the machine. Takes one to five minutes.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from urllib.parse import urlsplit

from bench import BARE_PAGE, app_script, arguments, begin, database, percentile, report, serve
from crowd import Crowd

ROUNDS = 2  # in turn with the bare page
SETTLE = 3.0  # seconds of each round that are not counted
LIMIT = 1.0  # seconds of the 95th percentile above which no more people are added
CADDY = """
{{
    admin off
    auto_https off
}}
http://{address} {{
    reverse_proxy {apps} {{
        lb_policy cookie app_process
    }}
}}
"""


@contextlib.contextmanager
def caddy(addresses):
    """The address of a Caddy before these apps. As in the product's Caddyfile, a cookie keeps a session where it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.NamedTemporaryFile("w", suffix=".caddyfile") as file:
        file.write(CADDY.format(address=address, apps=" ".join(addresses)))
        file.flush()
        command = [shutil.which("caddy"), "run", "--adapter", "caddyfile", "--config", file.name]
        proxy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not reachable(address):
                if proxy.poll() is not None:
                    raise SystemExit(f"caddy ended with {proxy.returncode} before it answered")
                time.sleep(0.1)
            yield address
        finally:
            proxy.terminate()
            proxy.wait(30)


def reachable(address):
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def measure(crowds, people, seconds, where=""):
    """Report on so many people; returns the app's 95th percentile in seconds. crowds: the app's, the bare page's."""
    times = [], [], []
    for crowd in crowds:
        crowd.open(people)
    for _ in range(ROUNDS):
        for n, crowd in enumerate(crowds):
            times[n].extend(crowd.draw(seconds / ROUNDS, SETTLE))
    highs = []
    kinds = [f"{people} people {what}" for what in (f"at once{where}", "on the bare page", f"with live answers{where}")]
    for n, what in enumerate(kinds[: len(crowds)]):
        middle, high = (percentile(times[n], p) for p in (50, 95))
        highs.append(high)
        report(
            f"{what}: drawing sent to answer received",
            f"p50 {1000 * middle:.0f} ms, p95 {1000 * high:.0f} ms; {len(times[n])} answers, {crowds[n].faults()}",
        )
    report(f"{people} people at once{where}: ratio of the two p95", f"{highs[0] / highs[1]:.1f}")
    for crowd in crowds[2:]:
        report(f"{people} people{where}: live answers of each", crowd.live_answers())
        report(f"{people} people{where}: ratio of the p95 with live answers and without", f"{highs[2] / highs[0]:.2f}")
    return highs[0]


def main():
    parser = arguments(__doc__)
    parser.add_argument("people", type=int, nargs="*", default=[50, 100, 120, 140, 160, 200], help="how many at once")
    parser.add_argument("--seconds", type=float, default=20, help="how long each number is measured, on either page")
    parser.add_argument("--labels", action="store_true", help="label every second drawing, too")
    parser.add_argument("--live", action="store_true", help="ask for live answers, too, in turn with rounds without")
    parser.add_argument("--processes", type=int, default=1, help="app processes to start, with one new database")
    parser.add_argument("--caddy", action="store_true", help="put Caddy before them (sudo apt-get install caddy)")
    parser.add_argument("--url", nargs="+", help="apps that run already, instead of new ones")
    options = begin(parser)
    if options.caddy and not shutil.which("caddy"):
        parser.error("there is no caddy: sudo apt-get install caddy")
    where = f", {options.processes} processes" if options.processes > 1 else ""
    with contextlib.ExitStack() as closing:
        addresses = [urlsplit(url).netloc for url in options.url or ()]
        if not addresses:
            environment = closing.enter_context(database())
            apps = [serve(app_script(options.app), **environment) for _ in range(options.processes)]
            addresses = [closing.enter_context(app).address for app in apps]
        if options.caddy:
            addresses, where = [closing.enter_context(caddy(addresses))], where + " behind Caddy"
        bare = closing.enter_context(serve(BARE_PAGE))
        crowds = [Crowd(addresses, options.labels), Crowd([bare.address])]
        crowds += [Crowd(addresses, options.labels, live=True)] if options.live else []
        for crowd in crowds:
            closing.callback(crowd.close)
        for people in options.people:
            if measure(crowds, people, options.seconds, where) > LIMIT:
                break


if __name__ == "__main__":
    main()
