"""store/reader.py, without a database."""

import logging
import threading

import pytest
from helpers import until

from store import reader as readers
from store.postgres import DatabaseError


class Table:
    """A table whose news is a number that the test counts up."""

    news = 0

    def fetch_news(self):
        return str(self.news)


@pytest.fixture
def reader(monkeypatch):
    """A reader that fails as `reader.trouble` says, and tries again without a pause."""
    monkeypatch.setattr(readers, "RETRY", 0)

    class Reader(readers.Reader):
        trouble = None

        def refresh(self, check):
            if self.trouble:
                raise self.trouble
            self.publish(self.table.news)

    reader = Reader("the reader", Table(), None)
    yield reader
    reader.close()


def look(reader, trouble, times=5):
    """Look several times while there is this trouble."""
    reader.trouble = trouble
    for _ in range(times):
        reader.table.news += 1
        with reader._turn:  # whether or not the database is known to be away
            reader.problem = None
        reader.look(patience=20)
    assert bool(reader.problem) == bool(trouble)


def test_each_kind_of_failure_is_logged_once_and_so_is_the_recovery(reader, caplog):
    caplog.set_level(logging.DEBUG, "store.reader")
    away, full = DatabaseError("no server there"), DatabaseError("its disk is full")
    look(reader, None)
    assert caplog.messages == []
    look(reader, away)
    look(reader, full)
    look(reader, away)
    look(reader, None)
    look(reader, away)
    gone = "the reader: no server there; it is tried again"
    full = "the reader: its disk is full; it is tried again"
    assert caplog.messages == [gone, full, "the reader: read again", gone]
    assert not any(record.exc_info for record in caplog.records)


def test_a_failure_that_nobody_foresaw_is_logged_once_with_its_traceback(reader, caplog):
    look(reader, KeyError("digit"))
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError and record.levelno == logging.ERROR


def test_nothing_is_read_while_nobody_looks(reader):
    reader.table.fetch_news = lambda: pytest.fail("read")
    assert not threading.Event().wait(0.2)
    assert reader.version == 0 and reader.problem is None


def test_what_has_not_changed_is_not_read_again_unless_it_is_to_be_checked(reader):
    for _ in range(3):
        reader.look(patience=20)
    assert (reader.version, reader.news) == (1, "0")
    reader.look(patience=20, check=True)
    assert reader.version == 2
    reader.table.news = 1
    assert reader.look(patience=20) == 1
    assert (reader.version, reader.news) == (3, "1")


def test_a_view_that_is_young_enough_is_taken_as_it_is(reader):
    reader.look(patience=20)
    reader.table.news = 1
    assert reader.look(max_age=60, patience=20) == 0
    assert reader.look(max_age=0, patience=20) == 1


def test_a_look_never_waits_longer_than_its_patience(reader):
    reader.look(patience=20)
    free = threading.Event()
    reader.table.fetch_news = lambda: free.wait(20) and "1"
    assert reader.look(patience=0.05) == 0  # the last there is
    free.set()
    until(lambda: reader.news == "1")


def test_a_database_that_does_not_answer_is_said_to_be_away(reader, monkeypatch):
    monkeypatch.setattr(readers, "SILENT", 0.05)
    free = threading.Event()
    reader.table.fetch_news = lambda: free.wait(20) and "1"
    until(lambda: reader.look(patience=0.1) or reader.problem == readers.AWAY)
    free.set()
    until(lambda: reader.look(patience=1) == 0 and reader.problem is None)


def test_a_check_that_failed_is_made_up_for(reader, monkeypatch):
    checks = []
    reader.trouble = DatabaseError("no server there")
    reader.look(patience=20, check=True)
    monkeypatch.setattr(reader, "refresh", checks.append)
    until(lambda: reader.look(patience=1) or reader.problem is None)
    assert checks[0] is True


def test_a_reader_that_is_closed_reads_no_more(reader):
    reader.look(patience=20)
    reader.close()
    until(lambda: not any(thread.name == "the reader" and thread.is_alive() for thread in threading.enumerate()))
    reader.table.news = 1
    assert reader.look(patience=0.2) == 0
