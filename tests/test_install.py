"""`make install` with a stand-in for pip: where it looks for PyTorch, and what it says meanwhile."""

import contextlib
import http.server
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy import torch_index

ROOT = Path(__file__).parent.parent
# Makes an environment whose pip writes down what it was asked for.
PYTHON = f"""#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"
mkdir -p .venv/bin
printf '#!/bin/sh\\necho "$@" > asked\\n' > .venv/bin/pip
chmod +x .venv/bin/pip
"""


@contextlib.contextmanager
def index_of_packages(status=200):
    """The address of an index on this machine, and the paths that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *words):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/whl/cpu", asked
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def silent_index():
    """The address of one that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/whl/cpu"


@pytest.fixture
def install(tmp_path):
    """Run `make install` with these settings in a new folder. Returns (what pip was asked for, what was said)."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "requirements.lock", "deploy/torch_index.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def run(*settings):
        command = [
            "env",
            "-u",
            "TORCH_INDEX",
            "-u",
            "MAKEFLAGS",
            "make",
            "--no-print-directory",
            "install",
            "PYTHON=./python",
            *settings,
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "asked").read_text(), done.stdout + done.stderr

    return run


def test_an_index_that_is_named_decides(install):
    asked, _ = install("TORCH_INDEX=https://example.org/cpu")
    assert "--extra-index-url https://example.org/cpu -r requirements-dev.txt -c requirements.lock" in asked


def test_an_index_that_is_named_as_none_leaves_the_ordinary_one(install):
    asked, said = install("TORCH_INDEX=")
    assert "index-url" not in asked and "PyTorch" not in said


def test_without_a_gpu_the_cpu_build_is_taken_if_its_index_answers(install):
    with index_of_packages() as (address, paths):
        asked, said = install(f"CPU_INDEX={address}")
    if torch_index.has_gpu():
        assert "index-url" not in asked and "An NVIDIA GPU is here" in said
    else:
        assert f"--extra-index-url {address} " in asked and f"its CPU build from {address}" in said
        assert paths == ["/whl/cpu/torch/"]


def test_every_step_says_that_it_begins_and_a_log_is_spared_the_rest(install):
    asked, said = install("TORCH_INDEX=")
    assert said.splitlines() == [
        "Making an environment in .venv",
        "Installing what requirements-dev.txt names into it; this takes some minutes",
        "The environment is ready",
    ]
    assert "--quiet --progress-bar off" in asked


def test_an_index_that_answers_is_chosen_only_without_a_gpu(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with index_of_packages() as (address, paths):
        assert torch_index.choose(address, gpu=True)[0] == "" and not paths
        assert torch_index.choose(address, gpu=False)[0] == address


@pytest.mark.parametrize("status", [404, 503])
def test_an_index_that_refuses_leaves_the_ordinary_one_and_says_so(monkeypatch, status):
    monkeypatch.setattr(sys, "platform", "linux")
    with index_of_packages(status) as (address, _):
        chosen, sentence = torch_index.choose(address, gpu=False)
    assert chosen == "" and address in sentence and "does not answer" in sentence and "more than 5 GB" in sentence


def test_an_index_that_is_silent_or_away_is_given_up_in_time():
    start = time.monotonic()
    with silent_index() as address:
        assert torch_index.why_not(address, seconds=0.3) is not None
    assert torch_index.why_not(address, seconds=3) is not None
    assert time.monotonic() - start < 3


def test_a_gpu_is_known_by_its_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not torch_index.has_gpu((str(tmp_path / "nvidia0"),))
    assert torch_index.has_gpu((str(tmp_path / "nvidia0"), str(tmp_path)))
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert torch_index.has_gpu(())
