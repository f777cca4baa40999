"""Brings the Compose files up for real and uses them: `make up-test`, where Docker and Chromium or Chrome are.

It works beside a running deployment, under a project name of its own; the second part needs ports 80 and 443.
"""

import csv
import io
import json
import re
import shutil
import socket
import subprocess
import time

import pytest
from browser import Visitor, placed
from deployment import PASSWORD, Deployment
from helpers import png
from playwright.sync_api import expect
from test_schema import EARLY, FILL

SEVEN = placed([[(0.15, 0.05), (0.85, 0.04), (0.42, 0.98)]])
ONE = placed([[(0.5, 0.02), (0.47, 0.98)]])

pytestmark = pytest.mark.timeout(1800)  # the first build downloads PyTorch


@pytest.fixture(scope="module", autouse=True)
def image():
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.fail("docker info fails: start Docker, or let this user use it")
    deployment = Deployment("docker-compose.yml")  # its layers are those of all that follow
    deployment.compose("build")
    yield
    deployment.remove()


@pytest.fixture(scope="module")
def plain():
    deployment = Deployment("docker-compose.yml")
    deployment.up()
    yield deployment
    deployment.remove()


@pytest.fixture(scope="module")
def tls(plain):
    plain.compose("down", "--volumes")
    files = ("docker-compose.yml", "deploy/docker-compose.tls.yml")
    deployment = Deployment(*files, DOMAIN="Localhost", APP_PROCESSES="3")
    deployment.url = "https://localhost"
    deployment.up()
    yield deployment
    deployment.remove()


def visit(chromium, deployment):
    return Visitor(chromium, deployment.url, ignore_https_errors=True)


def draw_and_label(visitor, strokes):
    visitor.draw(strokes)
    visitor.label(visitor.answer())
    expect(visitor.at("notice")).to_contain_text("Saved", timeout=30_000)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.5)


def news(container):
    """What its process answers to `GET /news`."""
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8501/news').read().decode())"
    done = subprocess.run(["docker", "exec", container, "python", "-c", ask], capture_output=True, text=True)
    return json.loads(done.stdout)["news"]


def test_a_missing_password_stops_compose_with_a_sentence():
    done = Deployment("docker-compose.yml", POSTGRES_PASSWORD="").compose("up", check=False)
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD" in done.stderr and "set it in .env" in done.stderr


def test_learning_is_started_by_nobody_else_and_says_that_a_new_table_has_too_few_labels(plain):
    def learn(*words):
        return plain.compose("run", "--rm", "-T", *words)

    assert plain.compose("ps", "--all", "--services").split() == ["db", "streamlit_app"]
    assert re.search(r"^\w{12}  model\.pth: in service$", learn("learn", "--list"))
    assert learn("learn").startswith("0 labelled drawings of 0 sessions are too few to learn from")
    status = learn("--entrypoint", "cat", "learn", "/proc/self/status")
    assert re.search(r"^Uid:\s+10001\s+10001", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M)
    learn("--entrypoint", "touch", "learn", "learnt.md")
    assert learn("--entrypoint", "ls", "learn") == "learnt.md"


def test_a_prediction_and_a_label_outlive_down_and_up(plain, chromium):
    with visit(chromium, plain) as visitor:
        draw_and_label(visitor, SEVEN)
        visitor.draw(ONE)
        wait_for(lambda: plain.rows() == (2, 1))
    before = plain.sql("SELECT * FROM predictions ORDER BY id")
    (database,) = plain.containers("db")
    plain.compose("stop", "db")
    ended = subprocess.run(["docker", "inspect", "-f", "{{.State.ExitCode}}", database], capture_output=True, text=True)
    assert ended.stdout.strip() == "0" and "database system is shut down" in plain.compose("logs", "db")
    plain.compose("down")
    plain.up()
    assert plain.sql("SELECT * FROM predictions ORDER BY id") == before
    assert "not properly shut down" not in plain.compose("logs", "db")
    with visit(chromium, plain) as visitor:
        draw_and_label(visitor, ONE)
        assert not visitor.complaints
    assert plain.rows() == (3, 2)


def test_the_app_ends_by_itself_when_it_is_stopped_with_a_download_under_way(plain):
    (app,) = plain.containers("streamlit_app")
    with socket.create_connection(plain.address.split(":"), timeout=10) as reader:
        reader.sendall(b"GET /predictions.csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.recv(1).startswith(b"H")
        plain.compose("stop", "streamlit_app")
    ended = subprocess.run(["docker", "inspect", "-f", "{{.State.ExitCode}}", app], capture_output=True, text=True)
    assert ended.stdout.strip() in {"0", "143"}, "it did not end within its grace period"
    plain.up()


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


def test_the_app_finds_its_database_again_after_that_was_killed(plain, chromium):
    rows, labelled = plain.rows()
    with visit(chromium, plain) as visitor:
        plain.compose("kill", "db")
        visitor.draw(SEVEN)
        visitor.label(visitor.answer())
        expect(visitor.at("notice")).to_contain_text("database", timeout=30_000)
        plain.compose("up", "--detach", "--wait")
        expect(visitor.at("notice")).to_contain_text("Saved", timeout=60_000)
    assert plain.rows() == (rows + 1, labelled + 1)


def test_a_table_of_an_early_release_is_brought_up_to_date_with_every_row(plain, chromium):
    plain.compose("down", "--volumes")
    plain.compose("up", "--detach", "--wait", "db")
    plain.sql(EARLY)
    plain.sql(FILL)
    before = plain.sql("SELECT * FROM predictions ORDER BY id")
    plain.up()
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'predictions' AND indexdef LIKE '%not_a_digit%'"
    wait_for(lambda: plain.sql(indexes) == "2")
    now = plain.sql("SELECT * FROM predictions ORDER BY id").splitlines()
    assert [row.removesuffix("|||") for row in now] == before.splitlines()  # of what came since, a row knows nothing
    rows, labelled = plain.rows()
    with visit(chromium, plain) as visitor:
        draw_and_label(visitor, SEVEN)
    assert plain.rows() == (rows + 1, labelled + 1)


def test_three_processes_behind_caddy_share_the_work_and_lose_and_double_nothing(tls, chromium):
    assert len(tls.containers("streamlit_app")) == 3
    labels, at = 0, {}  # at: the process, as Caddy's cookie names it -> one of its visitors
    while len(at) < 3 or labels < 12:
        assert labels < 60, f"60 visitors met only {len(at)} of 3 processes"
        visitor = visit(chromium, tls)
        draw_and_label(visitor, SEVEN)
        labels += 1
        assert not visitor.complaints
        cookies = {cookie["name"]: cookie["value"] for cookie in visitor.context.cookies()}
        if at.setdefault(cookies["app_process"], visitor) is not visitor:
            visitor.context.close()
    for visitor in at.values():  # each is still in its session
        draw_and_label(visitor, ONE)
        labels += 1
        visitor.context.close()
    assert tls.rows() == (labels, labels)
    for process in tls.containers("streamlit_app"):
        sockets = subprocess.run(["docker", "exec", process, "cat", "/proc/net/tcp"], capture_output=True, text=True)
        assert ":1538 " in sockets.stdout, "an app process without a connection to port 5432 has saved nothing"


def test_visitors_of_processes_that_died_go_on_at_another_one(tls, chromium):
    rows, labelled = tls.rows()
    visitors = [visit(chromium, tls) for _ in range(4)]
    for process in tls.containers("streamlit_app")[:2]:
        subprocess.run(["docker", "kill", process], check=True, capture_output=True)
    for visitor in visitors:
        visitor.open(tls.url)
        draw_and_label(visitor, SEVEN)
        visitor.context.close()
    assert tls.rows() == (rows + 4, labelled + 4)
    tls.up()


def test_programs_get_all_rows_and_the_same_news_from_every_process(tls, chromium):
    with visit(chromium, tls) as visitor:
        draw_and_label(visitor, SEVEN)
        answer = visitor.page.request.get("https://localhost/predictions.csv")
        rows = list(csv.DictReader(io.StringIO(answer.text())))
    assert answer.headers["content-type"].startswith("text/csv") and "gzip" not in answer.headers["content-encoding"]
    assert "attachment" in answer.headers["content-disposition"]
    assert len(rows) == tls.rows()[0] > 0
    processes = tls.containers("streamlit_app")
    wait_for(lambda: len({news(process) for process in processes}) == 1)  # an answer may be a second old
    assert news(processes[0]) != "away"
    log = tls.compose("logs", "caddy")
    assert '"uri":"/predictions.csv"' in log and '"uri":"/news"' not in log and '"uri":"/answer"' not in log


def test_caddy_closes_what_visitors_have_no_business_with(tls, chromium):
    page = visit(chromium, tls).page
    assert page.request.get("https://localhost/_stcore/metrics").status == 404
    assert page.request.put("https://localhost/_stcore/upload_file/a/b", data=b"x" * 2_000_000).status == 405
    assert page.request.post("https://localhost/news").status == 405
    assert page.request.post("https://localhost/answer/", data=b"x").status == 405
    asked = {"data": png(SEVEN[0]), "headers": {"Content-Type": "image/png"}}
    assert page.request.post("https://localhost/answer", **asked).json()["digit"] == 7
    asked["headers"]["Origin"] = "https://evil.example"
    assert page.request.post("https://localhost/answer", **asked).status == 403
    for origin in ("https://evil.example", "http://localhost", "https://localhost.evil.example"):
        foreign = {"Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket"}
        assert page.request.get("https://localhost/_stcore/stream", headers=foreign).status == 403
    headers = page.request.get("https://localhost/").headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    script = page.locator("script[type=module]").first.get_attribute("src")
    assert page.request.get(f"https://localhost/{script}").headers["content-encoding"] == "gzip"
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", 8501), timeout=5):
        pass
