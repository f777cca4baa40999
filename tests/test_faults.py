"""What the page has called saved is in the table, whatever happens; what is not saved is said, kept and tried again.

The long form of the first test is a command: python tests/chaos.py --seed 1 --minutes 5
"""

import functools
import os
import random
import signal
import subprocess
import uuid
from pathlib import Path

import networks
import psutil
import psycopg2
import pytest
from browser import Visitor as Person
from browser import placed
from chaos import App, Chaos, Embedded, bad, hit, server_processes
from helpers import scribble, until
from playwright.sync_api import expect
from visitor import Visitor

import db
from store import embedded, ledger, postgres
from store.outbox import Outbox

PLANTED = "planted-Pa55word"


@pytest.fixture
def own_server(folder, monkeypatch):
    """The folder of a server of this test's own, which it may kill; `db` and new programs use it by its socket."""
    data = folder / "pgdata"
    settings = {"HOST": embedded.start(data), "PORT": "", "DB": "postgres", "USER": "postgres", "PASSWORD": ""}
    for name, value in settings.items():
        monkeypatch.setenv(f"POSTGRES_{name}", value)
    monkeypatch.setattr(postgres, "reads", postgres.Pool(3, 1))
    monkeypatch.setattr(postgres, "writes", postgres.Pool(2, 1))
    monkeypatch.setattr(postgres, "GRACE_SECONDS", 0.5)
    yield data
    hit(server_processes(data / "data"), signal.SIGCONT)
    postgres.disconnect()
    embedded._held.pop(data).close()
    embedded._run("pg_ctl", "stop", "-m", "immediate", data=data / "data")


@pytest.fixture
def box(own_server):
    box = Outbox(db.create_table, db.is_full, first_delay=0.05, max_delay=0.2)
    yield box
    box.close(20)


def put(box, prediction, drawing_id=None):
    """Have a row saved under this id, or a new one. Returns its ticket."""
    drawing_id = drawing_id or str(uuid.uuid4())
    write = functools.partial(db.save_prediction, drawing_id, **prediction)
    return box.put(f"{drawing_id} prediction", write, size=len(prediction["drawing"]), new=True)


@pytest.fixture
def app(folder):
    """Start the app with these settings in its environment; it ends with the test."""
    apps = []

    def start(**environment):
        apps.append(App(folder / "app.log", **environment))
        apps[-1].wait_until_up()
        return apps[-1]

    yield start
    for app in apps:
        app.process.kill()
        app.process.wait()


def sql(command):
    """Run SQL as the server's superuser, past everything of ours."""
    connection = psycopg2.connect(host=os.environ["POSTGRES_HOST"], user="postgres", dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(command)
        rows = cursor.fetchall() if cursor.description else None
    connection.close()
    return rows


def test_nothing_called_saved_is_lost_when_server_and_app_are_killed(folder, monkeypatch):
    monkeypatch.setenv("POSTGRES_HOST", "")
    monkeypatch.setenv("PGDATA_DIR", str(folder / "pgdata"))
    monkeypatch.setattr(embedded, "_held", {})  # the session's server is not ours to stop
    postgres.close()
    kinds = ("server", "server and its children", "app", "server paused")
    report = Chaos(Embedded(folder), seed=1).run(seconds=0, pause=(0.2, 2), kinds=kinds)
    postgres.close()
    assert bad(report) == {}
    assert report["killed"] == dict.fromkeys(kinds, 1)
    assert report["models changed"] == len(kinds)
    assert report["labels called saved"] > 20 and len(report["rows of each model"]) > 1  # else it would show nothing


def test_a_paused_server_is_said_and_everything_lands_when_it_goes_on(box, own_server, prediction):
    drawing_id = str(uuid.uuid4())
    assert box.wait([put(box, prediction, drawing_id)], 20)
    hit(server_processes(own_server / "data"), signal.SIGSTOP)
    label = box.put(f"{drawing_id} label", lambda: db.save_label(drawing_id, 5))
    until(lambda: box.problem)
    assert not box.wait([label], 3600)
    hit(server_processes(own_server / "data"), signal.SIGCONT)
    until(lambda: not box.problem)
    assert box.wait([label], 20)
    assert db.fetch_predictions()["true_label"].tolist() == [5]


def test_a_write_that_hung_does_not_undo_a_newer_one_when_it_is_done_after_all(own_server, prediction):
    """Only the one connection is paused, with an update in its hands; the newer update goes over another."""
    drawing_id = uuid.uuid4()
    db.save_prediction(drawing_id, **prediction)
    [(pid,)] = sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'digits' AND query LIKE '%INSERT%'")
    hit([psutil.Process(pid)], signal.SIGSTOP)
    with pytest.raises(db.DatabaseError, match="no answer"):
        db.save_prediction(drawing_id, **prediction | {"digit": 1})
    db.save_prediction(drawing_id, **prediction | {"digit": 2})
    hit([psutil.Process(pid)], signal.SIGCONT)
    until(lambda: not psutil.pid_exists(pid))  # it finds its client gone, after it did what it was told
    assert db.fetch_predictions()["predicted_digit"].tolist() == [2]


def test_a_read_only_server_is_waited_out(box, own_server, prediction, caplog):
    until(lambda: box._prepared)
    sql("ALTER SYSTEM SET default_transaction_read_only = on")
    sql("SELECT pg_reload_conf()")
    until(lambda: sql("SHOW default_transaction_read_only") == [("on",)])
    ticket = put(box, prediction)
    until(lambda: box.problem)
    assert "the server is read-only: write to its primary" in caplog.text
    sql("ALTER SYSTEM RESET default_transaction_read_only")
    sql("SELECT pg_reload_conf()")
    until(lambda: ticket.state == "saved")


@pytest.fixture
def free_space(own_server, folder):
    """Makes a tablespace `small` of one megabyte, which only root can; a function that makes it larger."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        embedded._own(disk)
        sql(f"CREATE TABLESPACE small LOCATION '{disk}'")
        yield lambda: subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_waited_out(box, free_space, prediction, caplog):
    until(lambda: box._prepared)
    sql("ALTER TABLE predictions SET TABLESPACE small")
    noise = random.Random(0)
    tickets = [put(box, prediction | {"drawing": b"\x89PNG" + noise.randbytes(100_000)}) for _ in range(20)]
    until(lambda: box.problem)
    assert "the server's disk is full: free some space there" in caplog.text
    free_space()
    until(lambda: {ticket.state for ticket in tickets} == {"saved"})
    assert sql("SELECT count(*) FROM predictions") == [(20,)]


def test_a_full_disk_keeps_the_network_that_is_in_service(free_space):
    postgres.disconnect()
    db.create_table()
    first = networks.enter(b"a small one")
    sql("ALTER TABLE models SET TABLESPACE small")
    with pytest.raises(db.DatabaseError, match="the server's disk is full: free some space there"):
        networks.enter(networks.weights(1))
    assert (ledger.in_service(), [model.version for model in ledger.fetch_models()]) == (first, [first])
    free_space()
    assert networks.enter(networks.weights(1)) == ledger.in_service()


def require_password(data):
    """Have this server ask the user `painter` for a password, the planted one."""
    sql(f"CREATE ROLE painter LOGIN PASSWORD '{PLANTED}'")
    sql("GRANT ALL ON SCHEMA public TO painter")
    rules = data / "data" / "pg_hba.conf"
    rules.write_text("local all painter scram-sha-256\n" + rules.read_text())
    sql("SELECT pg_reload_conf()")


def test_a_wrong_password_is_waited_out_and_no_password_shows_anywhere(own_server, folder, app, monkeypatch):
    require_password(own_server)
    wrong = app(POSTGRES_USER="painter", POSTGRES_PASSWORD=PLANTED + "-not")
    none = app(POSTGRES_USER="painter", POSTGRES_PASSWORD="")
    right = app(POSTGRES_USER="painter", POSTGRES_PASSWORD=PLANTED)
    heard = bytearray()
    for running, saved in ((wrong, False), (none, False), (right, True)):
        visitor = Visitor(running.address, record=True)
        visitor.draw(scribble(random.Random(0)))
        until(lambda: visitor.look_again() or visitor.text("notice") not in ("", "Saving …"))  # noqa: B023
        assert bool(visitor.saved) == saved
        assert ("cannot be reached" in visitor.text("notice")) == (not saved)
        heard += visitor.heard
        visitor.close()
    monkeypatch.setenv("POSTGRES_USER", "painter")
    monkeypatch.setenv("POSTGRES_PASSWORD", PLANTED + "-not")
    with pytest.raises(db.DatabaseError) as caught:
        db.create_table()
    log = (folder / "app.log").read_text()
    assert "correct POSTGRES_USER and POSTGRES_PASSWORD in .env" in log
    assert "POSTGRES_PASSWORD is empty: set it in .env (start from .env.example)" in log
    processes = [" ".join(process.cmdline()) for process in psutil.process_iter() if not_ended(process)]
    server_log = (own_server / "log").read_text()
    for place in (log, str(caught.value), str(caught.value.__cause__), server_log, *processes, heard.decode("latin-1")):
        assert PLANTED not in place


def not_ended(process):
    try:
        return bool(process.cmdline())
    except psutil.Error:
        return False


def test_the_app_starts_without_a_database_answers_and_finds_it_later(own_server, app, prediction):
    embedded._run("pg_ctl", "stop", "-m", "immediate", data=own_server / "data")
    running = app()
    visitor = Visitor(running.address)
    visitor.draw(scribble(random.Random(1)))
    assert visitor.text("answer_confidence")
    until(lambda: visitor.look_again() or "cannot be reached" in visitor.text("notice"))
    first = visitor.drawing_id
    assert visitor.label(3)
    visitor.draw(scribble(random.Random(2)))
    assert not visitor.saved
    embedded.start(own_server)
    until(lambda: visitor.look_again() or visitor.saved)
    rows = db.fetch_predictions().set_index("id")
    assert sorted(rows.index) == sorted([first, visitor.drawing_id])
    assert rows.loc[first, "true_label"] == 3
    assert visitor.errors == []
    visitor.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_app_takes_its_embedded_server_with_it_and_the_next_start_finds_every_row(folder, app, number):
    settings = {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")}
    running = app(**settings)
    visitor = Visitor(running.address)
    visitor.draw(scribble(random.Random(3)))
    assert visitor.label(8)
    until(lambda: visitor.look_again() or visitor.saved == "8")
    visitor.close()
    running.stop(number)
    assert server_processes(folder / "pgdata" / "data") == []
    Path(folder / "app.log").write_text("")
    again = app(**settings)
    visitor = Visitor(again.address)
    until(lambda: visitor.rerun() or "1 drawing" in str(visitor.inside("history")))
    assert "1 labelled" in str(visitor.inside("history"))
    visitor.close()
    again.stop(number)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_page_whose_server_was_restarted_says_that_what_was_drawn_must_be_drawn_again(app, chromium, labelled):
    """Unless the drawing had ended before. The new server knows nothing of it, and of no press meanwhile."""
    running = app()
    with Person(chromium, f"http://{running.address}", viewport={"width": 1280, "height": 900}) as visitor:
        visitor.draw(placed([[(0.15, 0.05), (0.85, 0.04), (0.42, 0.98)]]))
        assert visitor.answer() == 7
        if labelled:
            visitor.label(7)
            visitor.page.wait_for_timeout(3_000)  # the page has seen that it is another drawing, for longer than a look
        canvas = visitor.page.locator("[class*=st-key-canvas-]").first.get_attribute("class")
        running.stop(signal.SIGTERM)
        running.start()
        running.wait_until_up()
        expect(visitor.page.locator("[class*=st-key-canvas-]").first).not_to_have_class(canvas, timeout=90_000)
        said = "Draw a digit to begin" if labelled else "The connection began anew."
        expect(visitor.at("answer_confidence")).to_contain_text(said)
        visitor.page.wait_for_timeout(1_000)
        expect(visitor.at("answer_confidence")).to_contain_text(said)
