"""Which rows of the history are shown: the filters and the search, as pure functions on its Arrow table."""

import functools

import pyarrow as pa
import pyarrow.compute as pc

from store.snapshot import NO_DIGIT, View

FILTERS = 8  # filters whose rows are kept for all visitors; each is a copy of the rows that pass


def filtered(view: View, verdict: str | None, digit: str | None, pair: tuple[int, int] | None) -> pa.Table:
    """The rows with this verdict (right, WRONG, none), this digit (the true one if known), this (true, read) pair.

    digit: "0" to "9", or NO_DIGIT for all that was turned away. Visitors with the same filter share the rows.
    """
    table, key = view.table, (verdict, digit, pair)
    rows = view.filtered.get(key)  # which another visitor's thread may clear at any moment
    if rows is None:
        masks = []
        if verdict:
            masks.append(pc.equal(pc.fill_null(table["verdict"], "none"), verdict))
        if digit == NO_DIGIT:
            masks.append(pc.equal(table["read"], digit))
        elif digit:
            masks.append(pc.equal(pc.coalesce(table["label"].cast(pa.string()), table["read"]), digit))
        if pair:
            masks += [pc.equal(pc.fill_null(table["label"], -1), pair[0]), pc.equal(table["read"], str(pair[1]))]
        rows = table.filter(functools.reduce(pc.and_, masks)) if masks else table
        rows = rows if len(rows) < len(table) else table
        if len(view.filtered) >= FILTERS:
            view.filtered.clear()
        view.filtered[key] = rows
    return rows


def search(table: pa.Table, text: str, zone: str) -> pa.Table:
    """The rows in which every word of `text` is found, the quickest looked for first."""
    for word in sorted(set(text.lower().split()), key=lambda word: not word.isalpha() and len(word) > 1):
        if word.isdecimal() and len(word) == 1:
            digit = int(word)
            found = pc.or_(pc.equal(table["read"], str(digit)), pc.equal(pc.fill_null(table["label"], -1), digit))
        elif word in NO_DIGIT.split():
            found = pc.equal(table["read"], NO_DIGIT)
        elif word in ("right", "wrong", "unlabelled"):
            found = pc.match_substring(pc.fill_null(table["verdict"], "unlabelled"), word)
        else:
            if "when" not in table.column_names:
                table = table.append_column("when", times_of(table, zone))
            found = pc.or_(pc.starts_with(table["id"], word), pc.match_substring(table["when"], word))
        table = table.filter(found)
    return table.drop_columns("when") if "when" in table.column_names else table


def times_of(table: pa.Table, zone: str) -> pa.ChunkedArray:
    """When each was drawn, as words of that time zone, in small letters."""
    # Converted by pandas: Arrow knows only the zones of the system, which may lack the old names browsers use.
    local = table["created_at"].to_pandas().dt.tz_convert(zone).dt.tz_localize(None)
    local = pa.chunked_array([pa.array(local)]).cast(pa.timestamp("s"), safe=False)
    return pc.ascii_lower(pc.strftime(local, "%Y-%m-%d %H:%M:%S %A %d %B"))
