"""The Compose files of this checkout, up for a test: a project, a password and a port of its own, beside all others."""

import json
import os
import secrets
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
PASSWORD = secrets.token_hex(16)


class Deployment:
    """`docker compose` on these files with an environment that leaves nothing to .env."""

    def __init__(self, *files, **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self.environment = os.environ | {
            "COMPOSE_FILE": ":".join(files),
            "COMPOSE_PROJECT_NAME": f"digits-test-{secrets.token_hex(4)}",
            "POSTGRES_DB": "digits",
            "POSTGRES_USER": "digits",
            "POSTGRES_PASSWORD": PASSWORD,
            "BIND_ADDRESS": "127.0.0.1",
            "PORT": str(port),
            **variables,
        }

    def compose(self, *words, check=True):
        command = ["docker", "compose", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=1800)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip() if check else done

    def up(self):
        self.compose("up", "--detach", "--wait", "--wait-timeout", "180")

    def remove(self):
        """Leave nothing behind: no container, no data, not even that of a service with a profile, no image."""
        self.compose("--profile", "*", "down", "--volumes", "--rmi", "local")

    def sql(self, query):
        return self.compose("exec", "-T", "db", "psql", "-U", "digits", "-d", "digits", "-Atc", query)

    def rows(self):
        """(rows, labelled rows) of the table."""
        return tuple(map(int, self.sql("SELECT count(*), count(true_label) FROM predictions").split("|")))

    def containers(self, service):
        return self.compose("ps", "--quiet", service).split()

    def inspect(self, service):
        command = ["docker", "inspect", *self.containers(service)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
