"""One copy of the table for all visitors of this process: newest first, without the drawings, kept up to date.

A thread of its own reads the database, and only while somebody looks. The first look reads the newest page, then page
by page the older rows; every later look reads only what was written since. The copy is an Arrow table that is never
changed, only replaced: all visitors see the same one, or a part of it.
"""

import base64
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.reader import Reader
from store.table import LATE_SECONDS, NO_DIGIT_ABOVE, HistoryRow, Table

log = logging.getLogger(__name__)

PAGE = 5_000  # rows a read: psycopg2 holds the interpreter for some 15 ms to make Python objects of so many
FIRST_PAGE = 500
PICTURES = 200_000  # of the newest rows; a picture is most of a row, so this bounds the memory of the process
OVERLAP = timedelta(seconds=LATE_SECONDS)
WRONG = "✗ wrong"  # the mark is for those who look down the column, and needs no colour
NO_DIGIT = "no digit"  # what a drawing was read as that was turned away
ALMOST_SURE = 99.9  # per cent: with its one decimal, the column would round more to a certainty that nobody has

ORDER = [("created_at", "descending"), ("id", "descending")]
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "created_at": pa.timestamp("us", tz="UTC"),
        "picture": pa.string(),  # a data URL
        "open": pa.string(),  # the text of a button
        "read": pa.string(),  # "0" to "9", or NO_DIGIT
        "confidence": pa.float32(),  # in per cent, that it is what it was read as, at most ALMOST_SURE
        "label": pa.int8(),
        "verdict": pa.string(),  # right, WRONG, or null without a label
    }
)


@dataclass(frozen=True, eq=False)
class View:
    """The table as it was at one moment."""

    table: pa.Table = field(default_factory=SCHEMA.empty_table)
    complete: bool = False  # False while older rows are still being read
    filtered: dict[tuple[object, ...], pa.Table] = field(default_factory=dict)  # filter -> the rows that pass, shared

    @functools.cached_property
    def counts(self) -> tuple[int, int, int]:
        """(rows, labelled rows, rows where the label is what was read)."""
        verdict = self.table["verdict"]
        right = pc.sum(pc.equal(verdict, "right"), min_count=0).as_py()
        return len(verdict), len(verdict) - verdict.null_count, right


class Snapshot(Reader[View]):
    """The current View.

    A look with `check` also makes sure that no row is missing and no deleted one left: one count of all rows.
    """

    def __init__(self, table: Table) -> None:
        self._since = datetime.min  # rows changed before it are all in the view
        self._recent: dict[str, datetime] = {}  # id -> updated_at of rows changed since `_since`
        super().__init__("the history", table, View())

    def unfinished(self) -> bool:
        return self.version > 0 and not self.view.complete

    def refresh(self, check: bool) -> None:
        if not self.version:
            self._start()
        self._read_changes()
        if check and self.view.complete:
            before = self.view.counts
            rows, labelled, _ = self.table.fetch_summary()
            self._read_changes()
            after = self.view.counts
            # Between the two reads of changes the table was in this state, unless rows were deleted or came very late.
            if not (before[0] <= rows <= after[0] and before[1] <= labelled <= after[1]):
                log.warning("the history has %d rows and the table %d: reading it anew", after[0], rows)
                self._start()
        if not self.view.complete:
            self._read_older()

    def _start(self) -> None:
        last_change = self.table.fetch_summary().last_change or datetime(1970, 1, 1, tzinfo=UTC)
        rows = self.table.fetch_page(limit=FIRST_PAGE)
        self._since, self._recent = before_now(last_change) - OVERLAP, {}
        self._show(self._to_arrow(rows), len(rows) < FIRST_PAGE)

    def _read_older(self) -> None:
        table = self.view.table
        rows = self.table.fetch_page(self._last(), PAGE, pictures=len(table) < PICTURES)
        self._show(pa.concat_tables([table, self._to_arrow(rows)]), len(rows) < PAGE)

    def _last(self) -> tuple[datetime, str]:
        return self.view.table["created_at"][-1].as_py(), self.view.table["id"][-1].as_py()

    def _read_changes(self) -> None:
        changes = {change.id: change.updated_at for change in self.table.fetch_changes(self._since)}
        news = [i for i, updated_at in changes.items() if self._recent.get(i) != updated_at]
        for start in range(0, len(news), PAGE):
            rows = self.table.fetch_rows(news[start : start + PAGE])
            if not self.view.complete:  # what is older than the last page comes with its own page
                rows = [row for row in rows if (row.created_at, row.id) > self._last()]
            if rows:
                self._show(merge(self.view.table, self._to_arrow(rows)), self.view.complete)
        if changes:
            self._since = max(self._since, before_now(max(changes.values())) - OVERLAP)
            self._recent = {i: updated_at for i, updated_at in changes.items() if updated_at >= self._since}

    def _to_arrow(self, rows: Sequence[HistoryRow]) -> pa.Table:
        return to_arrow(rows, self.table.thumbnail)

    def _show(self, table: pa.Table, complete: bool) -> None:
        if table["id"].num_chunks > 64:
            table = table.combine_chunks()
        self.publish(View(table, complete))


def before_now(when: datetime) -> datetime:
    """The time, or now where it lies ahead: what a clock that was fast left in a row must not hide all that follows."""
    return min(when, datetime.now(UTC))


def to_arrow(rows: Sequence[HistoryRow], thumbnail: Callable[[bytes], bytes | None]) -> pa.Table:
    """Rows in any order → an Arrow table of SCHEMA, newest first. thumbnail: makes one of a drawing that has none."""
    read, percents, verdicts = [], [], []
    for row in rows:
        turned_away = row.not_a_digit > NO_DIGIT_ABOVE
        digit = NO_DIGIT if turned_away else str(row.predicted_digit)
        read.append(digit)
        percents.append(min(100 * (row.not_a_digit if turned_away else row.confidence), ALMOST_SURE))
        right = str(row.true_label) == digit
        verdicts.append(None if row.true_label is None else "right" if right else WRONG)
    columns = {
        "id": [row.id for row in rows],
        "created_at": [row.created_at for row in rows],
        "picture": [_data_url(row.picture, thumbnail) for row in rows],
        "open": ["Look"] * len(rows),
        "read": read,
        "confidence": percents,
        "label": [row.true_label for row in rows],
        "verdict": verdicts,
    }
    return pa.table(columns, SCHEMA).sort_by(ORDER)


def merge(table: pa.Table, news: pa.Table) -> pa.Table:
    """Put `news` into `table`, both newest first, in place of the rows with their ids.

    Only the part of `table` as new as the oldest of `news` is made anew; the rest is shared.
    """
    microseconds = table["created_at"].cast(pa.int64()).to_numpy()
    oldest = news["created_at"][-1].value
    cut = int(np.searchsorted(-microseconds, -oldest, side="right"))
    head = table.slice(0, cut)
    head = head.filter(pc.invert(pc.is_in(head["id"], news["id"])))
    return pa.concat_tables([pa.concat_tables([news, head]).sort_by(ORDER).combine_chunks(), table.slice(cut)])


def _data_url(png: bytes | None, thumbnail: Callable[[bytes], bytes | None]) -> str | None:
    if png is None:
        return None
    png = bytes(png)
    if png[16:24] > b"\0\0\0\x1c\0\0\0\x1c":  # the header's width and height: a whole drawing, without a thumbnail
        small = thumbnail(png)
        if small is None:
            return None
        png = small
    return "data:image/png;base64," + base64.b64encode(png).decode()
