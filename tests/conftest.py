"""What the tests share: one real PostgreSQL for the session, and an empty table for each test."""

import os
import shutil
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers import NOON, SEVEN, png

# A developer's .env must never point a test at a real database: what is set here, even empty, wins over the file.
# Nor may a thread that outlives its test reach the server of `make run`.
SETTINGS = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD", "PGDATA_DIR")
os.environ.update(dict.fromkeys(SETTINGS, "") | {"POSTGRES_HOST": "/nowhere"})

import store  # noqa: E402
from store import embedded, postgres  # noqa: E402


@pytest.fixture
def folder():
    """A new folder with a short path (a socket's path may not be long) that PostgreSQL's own user can reach."""
    path = Path(tempfile.mkdtemp(prefix="digits-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server():
    """The environment of an app or a test that uses this session's own PostgreSQL server."""
    path = Path(tempfile.mkdtemp(prefix="digits-"))
    path.chmod(0o711)
    yield {
        "POSTGRES_HOST": embedded.start(path / "pgdata"),
        "POSTGRES_PORT": "",
        "POSTGRES_DB": "postgres",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "",
    }
    postgres.close()
    shutil.rmtree(path)


@pytest.fixture(scope="module", autouse=True)
def nobody_follows():
    """Ends what a page in this process has begun: it asks whichever server is named, and would start a later test's."""
    yield
    if store._store and store._store.follower:
        store._store.follower.close()


@pytest.fixture
def db(server, monkeypatch):
    """The module `db` on a real server with an empty table and ledger. A program started with os.environ sees them."""
    import db

    for name, value in server.items():
        monkeypatch.setenv(name, value)
    postgres.disconnect()
    postgres.writes.run("DROP TABLE IF EXISTS predictions, models, models_in_service")
    db.create_table()
    yield db
    postgres.disconnect()


@pytest.fixture
def save(db):
    """Saves a drawing that was begun `minute` minutes after noon, labelled if `label` is given. Returns its id."""

    def row(
        minute,
        digit=7,
        label=None,
        confidence=0.9,
        drawing=None,
        drawing_id=None,
        not_a_digit=0.01,
        version="0123456789ab",
    ):
        drawing_id = drawing_id or str(uuid.uuid4())
        probabilities = [(1 - confidence) / 9] * 10
        probabilities[digit] = confidence
        db.save_prediction(
            drawing_id,
            created_at=NOON + timedelta(minutes=minute),
            digit=digit,
            confidence=confidence,
            probabilities=probabilities,
            not_a_digit=not_a_digit,
            drawing=drawing or png(SEVEN),
            model_version=version,
        )
        if label is not None:
            db.save_label(drawing_id, label)
        return drawing_id

    return row


@pytest.fixture
def make_model(db):
    """Enters a network in the ledger, refused if `refusal` is given, as learn.py does. Returns its version."""
    from networks import enter

    return enter


@pytest.fixture
def away(db, monkeypatch):
    """A function that takes the database away (True) or brings it back (False), as a wrong address would."""
    here = os.environ["POSTGRES_HOST"]

    def switch(gone):
        monkeypatch.setenv("POSTGRES_HOST", "/nowhere" if gone else here)
        postgres.disconnect()

    return switch


@pytest.fixture(scope="module")
def app(server, tmp_path_factory):
    """The real app, as chaos.App: for visitors without a browser."""
    from chaos import App

    app = App(tmp_path_factory.mktemp("app") / "app.log", **server)
    app.wait_until_up()
    yield app
    app.process.kill()
    app.process.wait()


@pytest.fixture(scope="session")
def url(server):
    """The address of the real app, for visitors with a browser."""
    from browser import serve

    with serve(**server) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window. Where none is installed, the tests that ask for it are skipped."""
    from browser import open_browser

    with open_browser() as browser:
        yield browser


@pytest.fixture
def prediction():
    """The keywords of a `save_prediction` that the table takes."""
    return {
        "created_at": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        "digit": 7,
        "confidence": 0.75,
        "probabilities": [0.02] * 7 + [0.75, 0.02, 0.02],
        "not_a_digit": 0.07,
        "drawing": b"\x89PNG\r\n\x1a\n and the rest",
        "model_version": "0123456789ab",
    }


@pytest.fixture
def visit(chromium, url, db):
    """Opens the page as a new visitor; at the end, nobody's console may have complained."""
    from browser import Visitor

    visitors = []

    def open_page(**context):
        context = {"viewport": {"width": 1280, "height": 900}} | context
        visitors.append(Visitor(chromium, url, **context))
        return visitors[-1]

    yield open_page
    complaints = [visitor.complaints for visitor in visitors]
    for visitor in visitors:
        visitor.context.close()
    assert not any(complaints), complaints
