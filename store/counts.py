"""What the database counts for the insights, kept current for all visitors."""

from dataclasses import dataclass

import pandas as pd

from store.reader import Reader
from store.table import Table

TIME = "datetime64[us, UTC]"  # said, since an empty table has no time to tell it by


@dataclass(frozen=True)
class Figures:
    """What the charts are drawn from.

    answers: true, read, bin, n, confidence (its sum); times: start (of 15 minutes, UTC), n, labelled, right; versions:
    version, first (UTC), labelled, right, in the order in which they first answered a drawing that is labelled.
    """

    answers: pd.DataFrame
    times: pd.DataFrame
    versions: pd.DataFrame

    def same_as(self, other: "Figures | None") -> bool:
        return (
            other is not None
            and self.answers.equals(other.answers)
            and self.times.equals(other.times)
            and self.versions.equals(other.versions)
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
        figures = Figures(answers, times.astype({"start": TIME}), versions.astype({"first": TIME}))
        if not figures.same_as(self.view):
            self.publish(figures)
