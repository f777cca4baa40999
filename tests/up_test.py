"""Brings the Compose files up for real and uses them: `make up-test`, where Docker and Chromium or Chrome are.

It works beside a running deployment, under a project name of its own; the second part needs ports 80 and 443.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent
PASSWORD = secrets.token_hex(16)
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
SEVEN = [(80, 70), (200, 70), (130, 220)]
ONE = [(140, 60), (140, 220)]

pytestmark = pytest.mark.timeout(1800)  # the first build downloads PyTorch


class Deployment:
    """`docker compose` on these files with an environment that leaves nothing to .env."""

    def __init__(self, *files, **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.environment = os.environ | {
            "COMPOSE_FILE": ":".join(files),
            "COMPOSE_PROJECT_NAME": "digits-up-test",
            "POSTGRES_DB": "digits",
            "POSTGRES_USER": "digits",
            "POSTGRES_PASSWORD": PASSWORD,
            "BIND_ADDRESS": "127.0.0.1",
            "PORT": str(port),
            **variables,
        }

    def compose(self, *words, check=True):
        command = ["docker", "compose", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip() if check else done

    def up(self):
        self.compose("up", "--detach", "--wait", "--wait-timeout", "180")

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


@pytest.fixture(scope="module", autouse=True)
def image():
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.fail("docker info fails: start Docker, or let this user use it")
    Deployment("docker-compose.yml").compose("build")


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "no Chromium or Chrome is installed: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def plain():
    deployment = Deployment("docker-compose.yml")
    deployment.up()
    yield deployment
    deployment.compose("down", "--volumes")


@pytest.fixture(scope="module")
def tls(plain):
    plain.compose("down", "--volumes")
    deployment = Deployment("docker-compose.yml", "docker-compose.tls.yml", DOMAIN="localhost", APP_PROCESSES="3")
    deployment.url = "https://localhost"
    deployment.up()
    yield deployment
    deployment.compose("down", "--volumes")


def visit(browser, deployment):
    """A new visitor's page, with a list of what its browser complained of as `page.complaints`."""
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
    page.goto(deployment.url)
    expect(page.locator(".st-key-canvas canvas").first).to_be_visible(timeout=60_000)
    return page


def draw(page, points):
    """Draw one stroke with the mouse and return the answered digit."""
    box = page.locator(".st-key-canvas canvas").first.bounding_box()
    expect(page.locator(".st-key-answer_digit")).to_have_text(re.compile(r"^\s*$"), timeout=30_000)
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=8)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator(".st-key-answer_digit")).to_have_text(re.compile(r"\d"), timeout=30_000)
    return page.locator(".st-key-answer_digit").inner_text().strip()


def label(page, digit):
    page.locator(".st-key-true_label").get_by_role("button", name=digit).first.click()
    expect(page.locator(".st-key-notice")).to_contain_text("Saved", timeout=30_000)
    expect(page.locator(".st-key-answer_digit")).to_have_text(re.compile(r"^\s*$"), timeout=30_000)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.5)


def test_a_missing_password_stops_compose_with_a_sentence():
    done = Deployment("docker-compose.yml", POSTGRES_PASSWORD="").compose("up", check=False)
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD" in done.stderr and "set it in .env" in done.stderr


def test_a_prediction_and_a_label_outlive_down_and_up(plain, browser):
    page = visit(browser, plain)
    label(page, draw(page, SEVEN))
    draw(page, ONE)
    wait_for(lambda: plain.rows() == (2, 1))
    before = plain.sql("SELECT * FROM predictions ORDER BY id")
    plain.compose("down")
    plain.up()
    assert plain.sql("SELECT * FROM predictions ORDER BY id") == before
    page = visit(browser, plain)
    label(page, draw(page, ONE))
    assert plain.rows() == (3, 2)
    assert not page.complaints


def test_the_containers_are_as_closed_as_the_files_say(plain):
    (app,) = plain.inspect("streamlit_app")
    status = plain.compose("exec", "-T", "streamlit_app", "cat", "/proc/self/status")
    assert re.search(r"^Uid:\s+10001\s+10001", status, re.M)
    assert re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    write = plain.compose("exec", "-T", "streamlit_app", "python", "-c", "open('/app/x', 'w')", check=False)
    assert "Read-only file system" in write.stderr
    assert app["HostConfig"]["Memory"] > 0 and app["HostConfig"]["PidsLimit"] > 0
    (database,) = plain.inspect("db")
    assert not any(database["NetworkSettings"]["Ports"].values())


def test_the_password_is_in_no_log_and_no_process_list(plain):
    processes = plain.compose("top")
    assert "streamlit" in processes and "postgres" in processes
    assert PASSWORD not in processes + plain.compose("logs")


def test_the_app_finds_its_database_again_after_that_was_killed(plain, browser):
    page = visit(browser, plain)
    rows, labelled = plain.rows()
    plain.compose("kill", "db")
    label_while_away = draw(page, SEVEN)
    page.locator(".st-key-true_label").get_by_role("button", name=label_while_away).first.click()
    expect(page.locator(".st-key-notice")).to_contain_text("database", timeout=30_000)
    plain.compose("up", "--detach", "--wait")
    wait_for(lambda: plain.rows() == (rows + 1, labelled + 1))


def test_three_processes_behind_caddy_share_the_work_and_lose_and_double_nothing(tls, browser):
    assert len(tls.containers("streamlit_app")) == 3
    processes, labels = {}, 0
    while len(processes) < 3 or labels < 12:
        assert labels < 60, f"60 visitors met only {len(processes)} of 3 processes"
        page = visit(browser, tls)
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        label(page, draw(page, SEVEN))
        processes[cookies["app_process"]] = page
        labels += 1
        assert not page.complaints
    for page in processes.values():  # each keeps to its process and its session
        label(page, draw(page, ONE))
        labels += 1
    assert tls.rows() == (labels, labels)
    busy = [subprocess.run(["docker", "exec", name, "cat", "/proc/net/tcp"], capture_output=True, text=True).stdout
            for name in tls.containers("streamlit_app")]
    assert all(":1538 " in table for table in busy)  # a connection to port 5432: each of the three has saved


def test_a_visitor_of_a_process_that_died_goes_on_at_another_one(tls, browser):
    page = visit(browser, tls)
    rows, labelled = tls.rows()
    for name in tls.containers("streamlit_app")[:2]:
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)
    for _ in range(4):
        page = visit(browser, tls)
        label(page, draw(page, SEVEN))
    assert tls.rows() == (rows + 4, labelled + 4)
    tls.up()


def test_caddy_closes_what_visitors_have_no_business_with(tls, browser):
    page = visit(browser, tls)
    assert page.request.get("https://localhost/_stcore/metrics").status == 404
    assert page.request.post("https://localhost/", data=b"x" * 2_000_000).status == 413
    foreign = {"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"}
    assert page.request.get("https://localhost/_stcore/stream", headers=foreign).status == 403
    headers = page.request.get("https://localhost/").headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", 8501), timeout=5):
        pass
