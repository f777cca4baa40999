"""The labelled drawings, as learn.py learns from them: kept together by session, the newest sessions apart to judge."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch

from utils import DrawingError, decode_drawing, preprocess

PER_SESSION = 50  # drawings of one session at most, its first ones: no session teaches much alone
JUDGES = 0.3  # of the sessions, the newest: never trained on
LEAST_DRAWINGS, LEAST_SESSIONS = 100, 20
FOLDS = 2  # of the sessions that are trained on, for a word on each label by a network that has not seen its session
DENIED = 0.01  # a label to which both networks give less is set aside,
MOST_DENIED = 0.05  # but if that is a larger share, the network is wrong, and all are kept
NO_SESSION = -1


class Row(Protocol):
    """As `db.LabelledRow`."""

    @property
    def id(self) -> str: ...
    @property
    def session(self) -> str | None: ...
    @property
    def true_label(self) -> int: ...
    @property
    def drawing(self) -> bytes: ...


class TooFew(ValueError):
    """There is not enough to learn from; the text says how much there is."""


class Labelled(NamedTuple):
    """n labelled drawings."""

    ids: list[str]
    pictures: torch.Tensor  # (n, 1, 28, 28) float32, what `preprocess` makes of them today
    labels: torch.Tensor  # (n,) int64
    sessions: torch.Tensor  # (n,) int64 in the order of their first drawing; NO_SESSION: unknown

    def of(self, chosen: torch.Tensor) -> "Labelled":
        """Those drawings alone. chosen: (n,) bool."""
        ids = [name for name, keep in zip(self.ids, chosen.tolist(), strict=True) if keep]
        return Labelled(ids, self.pictures[chosen], self.labels[chosen], self.sessions[chosen])

    def known_sessions(self) -> torch.Tensor:
        """(k,) int64: each session once, in their order; not what is of none."""
        known = self.sessions.unique()
        return known[known != NO_SESSION]

    def sha256(self) -> str:
        """Of the lines "id label" in the order of their ids: which drawings these are, and what they were called."""
        lines = sorted(f"{name} {label}\n" for name, label in zip(self.ids, self.labels.tolist(), strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def gather(rows: Iterable[Row]) -> Labelled:
    """Rows, the oldest first → what can be learnt from. Raises TooFew.

    Left out is what cannot be read, holds no ink, or comes after the first PER_SESSION drawings of its session.
    """
    order: dict[str, int] = {}
    count: dict[str, int] = defaultdict(int)
    ids, pictures, labels, sessions = [], [], [], []
    for row in rows:
        if row.session is not None:
            order.setdefault(row.session, len(order))
            count[row.session] += 1
            if count[row.session] > PER_SESSION:
                continue
        try:
            picture = preprocess(decode_drawing(row.drawing))
        except DrawingError:
            continue
        if picture is None:
            continue
        ids.append(row.id)
        pictures.append(picture)
        labels.append(row.true_label)
        sessions.append(NO_SESSION if row.session is None else order[row.session])
    number = len(set(sessions) - {NO_SESSION})
    if len(ids) < LEAST_DRAWINGS or number < LEAST_SESSIONS:
        raise TooFew(
            f"{len(ids)} labelled drawings of {number} sessions are too few to learn from: "
            f"it takes {LEAST_DRAWINGS} of {LEAST_SESSIONS} sessions"
        )
    return Labelled(ids, torch.cat(pictures), torch.tensor(labels), torch.tensor(sessions))


def split(drawings: Labelled) -> tuple[Labelled, Labelled]:
    """To train on, and to judge by: the newest sessions."""
    known = drawings.known_sessions()
    judge = torch.isin(drawings.sessions, known[len(known) - round(JUDGES * len(known)) :])
    return drawings.of(~judge), drawings.of(judge)


def folds(drawings: Labelled) -> torch.Tensor:
    """(n,) the fold of each drawing: that of its session, or one of its own."""
    by_row = torch.arange(len(drawings.ids)) % FOLDS
    return torch.where(drawings.sessions == NO_SESSION, by_row, drawings.sessions % FOLDS)


def doubtful(of_label: np.ndarray, of_label_out_of_fold: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) bool: the labels that both networks deny; and of these, those to set aside: all, or none if too many."""
    denied = torch.from_numpy((of_label < DENIED) & (of_label_out_of_fold < DENIED))
    many = int(denied.sum()) > MOST_DENIED * len(denied)
    return denied, torch.zeros_like(denied) if many else denied
