"""What the database knows for the insights, kept current for all visitors."""

from dataclasses import dataclass

import pandas as pd

from store import ledger
from store.reader import Reader
from store.table import Table

TIME = "datetime64[us, UTC]"  # said, since an empty table has no time to tell it by


@dataclass(frozen=True)
class Figures:
    """What the charts are drawn from.

    answers: true, read, bin, n, confidence (its sum); times: start (of 15 minutes, UTC), n, labelled, right; versions:
    version, first (UTC), labelled, right, in the order in which they first answered a drawing that is labelled;
    latest: the network that was made last from labels, if there is one in the ledger.
    """

    answers: pd.DataFrame
    times: pd.DataFrame
    versions: pd.DataFrame
    latest: ledger.Model | None

    def same_as(self, other: "Figures | None") -> bool:
        return (
            other is not None
            and self.answers.equals(other.answers)
            and self.times.equals(other.times)
            and self.versions.equals(other.versions)
            and self.latest == other.latest
        )


class Counter(Reader[Figures | None]):
    """The current Figures; None before the first."""

    def __init__(self, table: Table) -> None:
        super().__init__("the insights", table, None)

    def refresh(self, check: bool) -> None:
        answers = pd.DataFrame(sorted(self.table.fetch_answers()), columns=["true", "read", "bin", "n", "confidence"])
        times = pd.DataFrame(sorted(self.table.fetch_times()), columns=["start", "n", "labelled", "right"])
        by_first = sorted(self.table.fetch_versions(), key=lambda count: (count.first, count.version))
        versions = pd.DataFrame(by_first, columns=["version", "first", "labelled", "right"])
        times, versions = times.astype({"start": TIME}), versions.astype({"first": TIME})
        figures = Figures(answers, times, versions, ledger.fetch_latest())
        if not figures.same_as(self.view):
            self.publish(figures)
