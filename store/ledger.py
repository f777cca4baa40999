"""The ledger of models: every network that learn.py has made, and which one is in service, for all processes.

No row is ever changed, or taken away. A network and its verdict are entered in one transaction, so there is none that
is half promoted, whatever is killed; and only if what its gate compared it with still holds.

Each process of the app follows it in a thread of its own: nobody who draws waits for the ledger, and while it cannot be
read, what was in service goes on.
"""

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from psycopg2 import Binary

from store import postgres, schema
from store.postgres import DatabaseError, NotAllowed, Pool, Run, TableMissing
from store.reader import Troubles

log = logging.getLogger(__name__)

ASK_SECONDS = 2.0  # between two questions of a process for what is in service
SECONDS = 30  # that a statement may take
VERSION_LENGTH = 12  # hexadecimal digits of the SHA-256 of the weights

IN_SERVICE = "SELECT version FROM models_in_service ORDER BY number DESC LIMIT 1"
WEIGHTS = "SELECT sha256, weights FROM models WHERE version = %(version)s"
TRIES = """
    SELECT count(*) FROM models WHERE made_at > coalesce((
        SELECT max(since) FROM models_in_service WHERE how = 'promoted' AND (
            version = (SELECT version FROM models_in_service ORDER BY number DESC LIMIT 1)
            OR since < (SELECT max(since) FROM models_in_service WHERE how = 'promoted'))), '-infinity')
"""
ENTER = """
    INSERT INTO models (version, sha256, weights, parent, command, learnt_from, figures, refusal)
    VALUES (%(version)s, %(sha256)s, %(weights)s, %(parent)s, %(command)s, %(learnt_from)s, %(figures)s, %(refusal)s)
"""
SERVE = """
    INSERT INTO models_in_service (number, version, how)
    SELECT coalesce(max(number), 0) + 1, %(version)s, %(how)s FROM models_in_service
"""
MODELS = """
    SELECT version, parent, made_at, command, learnt_from, figures, refusal,
           (SELECT max(since) FROM models_in_service AS s WHERE s.version = models.version) AS served_since,
           (SELECT min(since) FROM models_in_service WHERE number >
               (SELECT max(number) FROM models_in_service AS s WHERE s.version = models.version)) AS served_until
    FROM models ORDER BY made_at DESC, version
"""
NEWS = "SELECT concat_ws(' ', (SELECT count(*) FROM models), (SELECT count(*) FROM models_in_service))"
NO_MODEL = "the ledger has no model '{}': `python learn.py --list` says which there are"


class Overtaken(RuntimeError):
    """Since the gate began, another network was put into service, or refused: its figures no longer hold."""


class Unknown(DatabaseError):
    """The answer to a COMMIT was lost: whether the ledger was changed is not known."""


class Model(NamedTuple):
    """One network that was made, without its weights."""

    version: str
    parent: str
    made_at: datetime
    command: str
    learnt_from: dict[str, Any]
    figures: dict[str, Any]
    refusal: str | None  # None: it was put into service
    served_since: datetime | None  # the last time
    served_until: datetime | None  # when another took its place; None: it is in service, or never was

    def verdict(self, in_service: str | None) -> str:
        """In the words of `learn.py --list`. in_service: the version that is."""
        if self.version == in_service:
            return "in service"
        return f"refused: {self.refusal}" if self.refusal else "promoted, and replaced or rolled back since"


def version_of(weights: bytes) -> str:
    return hashlib.sha256(weights).hexdigest()[:VERSION_LENGTH]


def in_service(run: Run = postgres.ledger.run) -> str | None:
    """The version in service; None: that of model.pth. Raises DatabaseError, TableMissing before the first start."""
    rows = run(IN_SERVICE).rows
    return rows[0][0] if rows else None


def fetch_weights(version: str) -> tuple[str, bytes]:
    """The SHA-256 that the weights of this version must have, and the weights. Raises DatabaseError."""
    rows = postgres.ledger.run(WEIGHTS, {"version": version}).rows
    if not rows:
        raise DatabaseError(NO_MODEL.format(version))
    return rows[0][0], bytes(rows[0][1])


def fetch_models() -> list[Model]:
    """All networks that were made, the newest first. Raises DatabaseError."""
    return [Model._make(row) for row in postgres.ledger.run(MODELS).rows]


def fetch_latest() -> Model | None:
    """The network that was made last, for the page; None: there is none, or no ledger. Raises DatabaseError."""
    rows = _read(postgres.reads, MODELS + "LIMIT 1")
    return Model._make(rows[0]) if rows else None


def fetch_news() -> str:
    """What changes with the ledger, as no row is ever changed in it; "": there is no ledger. Raises DatabaseError."""
    rows = _read(postgres.looks, NEWS)
    return rows[0][0] if rows else ""


def _read(pool: Pool, sql: str) -> list[Any]:
    """The rows; none where there is no ledger, or this user may not read it: the page goes on without."""
    try:
        return pool.run(sql).rows
    except (TableMissing, NotAllowed):
        return []


def tries(run: Run = postgres.ledger.run) -> int:
    """How many networks were made since one was last promoted. Raises DatabaseError.

    A promotion that was rolled back since is one of these: what it was judged by is much the same for the next one.
    """
    return int(run(TRIES).rows[0][0])


def enter(
    weights: bytes,
    *,
    parent: str,
    command: str,
    learnt_from: dict[str, Any],
    figures: dict[str, Any],
    refusal: str | None,
    expected: tuple[str | None, int],
) -> str:
    """Enter a network with its verdict, and put it into service if it has no refusal. Returns its version.

    expected: what `in_service()` and `tries()` were when its gate began. May be repeated after a DatabaseError: what is
    entered already stays as it is. Raises Overtaken.
    """
    row = {
        "version": version_of(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "weights": Binary(weights),
        "parent": parent,
        "command": command,
        "learnt_from": json.dumps(learnt_from),
        "figures": json.dumps(figures),
        "refusal": refusal,
    }
    with _alone() as run:
        if not run("SELECT FROM models WHERE version = %(version)s", row).rowcount:
            if (in_service(run), tries(run)) != expected:
                raise Overtaken("another network was promoted or refused meanwhile: run learn.py again")
            run(ENTER, row)
            if refusal is None:
                run(SERVE, row | {"how": "promoted"})
    return row["version"]


def roll_back(version: str | None) -> None:
    """Put this version into service, or model.pth (None). Raises DatabaseError, too for one that was refused."""
    with _alone() as run:
        if version is not None:
            rows = run("SELECT refusal FROM models WHERE version = %(version)s", {"version": version}).rows
            if not rows:
                raise DatabaseError(NO_MODEL.format(version))
            if refusal := rows[0][0]:
                raise DatabaseError(f"model {version} was refused, and stays out of service: {refusal}")
        run(SERVE, {"version": version, "how": "rolled back"})


@contextlib.contextmanager
def _alone() -> Iterator[Run]:
    """One transaction, in which nobody else changes the ledger. Raises Unknown, at its end."""
    schema.upgrade()
    ending = False
    try:
        with postgres.session(SECONDS) as run:
            run("BEGIN")
            run("LOCK TABLE models_in_service IN SHARE ROW EXCLUSIVE MODE")
            yield run
            ending = True
            run("COMMIT")
    except DatabaseError as error:
        if ending:
            raise Unknown(str(error)) from error
        raise


class TakeUp(Protocol):
    """Has these weights answer in this process; None: those of model.pth. Raises for what cannot."""

    def __call__(self, weights: bytes | None, sha256: str) -> None: ...


class Follower:
    """Has `take_up` called when another network is in service, in a thread that asks every ASK_SECONDS.

    What cannot be taken up is logged, and not tried again while it is in service: its weights never change.
    """

    def __init__(self, take_up: TakeUp) -> None:
        self._take_up = take_up
        self._version: str | None = None  # that was last in service, taken up or not
        self._closing = threading.Event()
        self._troubles = Troubles()
        threading.Thread(target=self._work, name="the models", daemon=True).start()

    def close(self) -> None:
        """Ask no more; a question that is under way is not waited for."""
        self._closing.set()

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow()
                self._troubles.end()
            except Exception as error:
                if not self._closing.is_set():
                    self._troubles.log(error)
            self._closing.wait(ASK_SECONDS)

    def _follow(self) -> None:
        try:
            version = in_service()
        except TableMissing:
            if self._version is None:  # before the first start of a release with a ledger: model.pth it is
                return
            raise
        if version == self._version:
            return
        sha256, weights = fetch_weights(version) if version else ("", None)
        self._version = version
        name = version or "model.pth"
        try:
            self._take_up(weights, sha256)
            log.warning("the models: %s is in service", name)
        except Exception:
            log.exception("the models: %s is in service, but not in this process, which goes on as before", name)
