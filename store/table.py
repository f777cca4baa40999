"""What the store asks of the table, and the rows that it gets: the module `db` offers all of it.

Handed in, not imported, because `db` stands above the store: it runs its queries over `store.postgres`.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple, Protocol

NO_DIGIT_ABOVE = 0.5  # a drawing with a higher `not_a_digit` was turned away: no digit was answered, so none was right
LATE_SECONDS = 60  # that a write may be visible late: a save takes up to 7 s, and bears the time of its app's clock


class HistoryRow(NamedTuple):
    """One prediction, as the history shows it."""

    id: str
    created_at: datetime
    updated_at: datetime
    predicted_digit: int
    confidence: float
    not_a_digit: float
    true_label: int | None
    picture: bytes | None  # the thumbnail's PNG, or that of the whole drawing where there is none


class Change(NamedTuple):
    """When a row was last written."""

    id: str
    updated_at: datetime


class Summary(NamedTuple):
    """The whole table in three numbers."""

    rows: int
    labelled: int
    last_change: datetime | None


class AnswerCount(NamedTuple):
    """How many labelled drawings of one true digit were answered with one digit, at one tenth of the confidence."""

    true_label: int
    predicted_digit: int
    tenth: int  # of the confidence: 1 to 10
    rows: int
    confidence: float  # the sum over these rows


class TimeCount(NamedTuple):
    """How many drawings were begun in one quarter of an hour."""

    start: datetime
    rows: int
    labelled: int
    right: int  # labelled as answered


class VersionCount(NamedTuple):
    """How many labelled drawings one version of the network answered."""

    version: str
    first: datetime  # when the first of them was begun
    labelled: int
    right: int  # labelled as answered


class Table(Protocol):
    """Each of these may raise store.postgres.DatabaseError."""

    def create_table(self) -> None: ...
    def build_indexes(self) -> None: ...
    def is_full(self) -> bool: ...
    def fetch_news(self) -> str: ...
    def fetch_page(
        self, before: tuple[datetime, str] | None = None, limit: int = 1000, pictures: bool = True
    ) -> list[HistoryRow]: ...
    def fetch_rows(self, ids: Collection[str]) -> list[HistoryRow]: ...
    def fetch_changes(self, since: datetime, limit: int = 100_000) -> list[Change]: ...
    def fetch_summary(self) -> Summary: ...
    def fetch_answers(self) -> list[AnswerCount]: ...
    def fetch_times(self) -> list[TimeCount]: ...
    def fetch_versions(self) -> list[VersionCount]: ...
    def thumbnail(self, drawing: bytes) -> bytes | None: ...
