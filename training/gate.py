"""The gate: is a challenger better for visitors, and no worse for all others, than the network in service?

Many promotions in a row may lose no more of the others' digits than one: there, model.pth is a measure, too.

All of it must hold, and each margin stands here. Numbers only: who asked which network what is learn.py's.
"""

import math
from typing import Any, NamedTuple

import numpy as np

# Better for visitors.
LEVEL = 0.05  # of the permutation test, halved for each try since the last promotion
KEPT, ADDED = 0.98, 0.002  # the loss is that of KEPT * p + ADDED: one label in fifty may be wrong, and costs 6 at most
STEPS = 1000  # of the grid on which the test counts, in a mean gain
TEMPERATURES = np.append(np.geomspace(0.3, 30, 67), np.inf)  # at the last, all ten are as likely

# No worse for all others: on held-out digits, plain and redrawn by pens, and on drawings of none.
ACCURACY_LOSS = 0.2  # points: the one-sided 95 % bound of the loss stays below
LOG_LOSS = 0.01  # nats that the mean may be higher
CONFIDENCE = 0.2  # points between mean confidence and accuracy
TURNED_AWAY = 0.1  # points more of the digits
AREA = 0.005  # that the area under the ROC curve may be lower
ONE_SIDED_95 = 1.645  # standard errors
NO_DIGIT_ABOVE = 0.5  # `not_a_digit` above which the page turns a drawing away


class Said(NamedTuple):
    """What a network says of n pictures."""

    logits: np.ndarray  # (n, 10) float64, of the ten digits
    none: np.ndarray  # (n,) not_a_digit, 0..1
    temperature: float

    def probabilities(self) -> np.ndarray:
        """(n, 10), of the digits, if it is one."""
        scaled = self.logits / self.temperature
        scaled = np.exp(scaled - scaled.max(1, keepdims=True))
        return np.asarray(scaled / scaled.sum(1, keepdims=True))

    def read(self) -> np.ndarray:
        """(n,) the likeliest digit."""
        return np.asarray(self.logits.argmax(1))

    def right(self, labels: np.ndarray) -> np.ndarray:
        """(n,) bool: read as labelled, and not turned away."""
        return (self.read() == labels) & ~self.turned_away()

    def turned_away(self) -> np.ndarray:
        """(n,) bool."""
        return self.none > NO_DIGIT_ABOVE

    def truth(self, labels: np.ndarray) -> np.ndarray:
        """(n,) the probability of the label, if it is a digit."""
        return np.asarray(self.probabilities()[np.arange(len(labels)), labels])

    def of_label(self, labels: np.ndarray) -> np.ndarray:
        """(n,) the probability that it is a digit, and this one."""
        return (1 - self.none) * self.truth(labels)

    def losses(self, labels: np.ndarray) -> np.ndarray:
        """(n,) in nats, 0.02 to 6.2."""
        return -np.log(KEPT * self.of_label(labels) + ADDED)


class Check(NamedTuple):
    """One thing that must hold."""

    what: str
    values: list[str]  # of the network in service, and of the challenger
    asked: str
    holds: bool
    refusal: str  # in plain words, for the ledger, if it does not hold


def at_its_best(said: Said, labels: np.ndarray) -> Said:
    """At the temperature that makes the mean loss on these labels the least."""
    return min((said._replace(temperature=float(t)) for t in TEMPERATURES), key=lambda s: s.losses(labels).mean())


def better_for_visitors(
    old: Said, new: Said, labels: np.ndarray, sessions: np.ndarray, tries: int
) -> tuple[list[Check], dict[str, Any]]:
    """On drawings of sessions that the challenger was not trained on. sessions: (n,) a number for each session."""
    losses = old.losses(labels), new.losses(labels)
    level = LEVEL / 2**tries
    chance = permutation_test(losses[0] - losses[1], sessions)
    right = old.right(labels), new.right(labels)
    gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    figures = {
        "drawings": len(labels),
        "sessions": len(np.unique(sessions)),
        "log-loss": [float(loss.mean()) for loss in losses],
        "p": chance,
        "level": level,
        "tries before": tries,
        "right": [int(r.sum()) for r in right],
        "of each digit": [np.bincount(labels[which], minlength=10).tolist() for which in (labels >= 0, *right)],
        "gained": gained,
        "lost": lost,
        "mcnemar p": mcnemar(gained, lost),
    }
    mean = [f"{loss.mean():.3f}" for loss in losses]
    number = [f"{r.sum():,} of {len(labels):,}" for r in right]
    by_chance = f"p {chance:.3g}, level {level:.3g}"
    return [
        Check(
            "visitors: log-loss", mean, f"lower beyond chance: {by_chance}", chance <= level,
            f"not better for visitors beyond chance ({by_chance})",
        ),
        Check(
            "visitors: read right", number, "no fewer", gained >= lost,
            f"reads {lost - gained} fewer of the visitors' drawings right",
        ),
    ], figures  # fmt: skip


def no_worse_for_others(
    old: Said, new: Said, labels: np.ndarray, images: np.ndarray, areas: tuple[float, float]
) -> tuple[list[Check], dict[str, Any]]:
    """On held-out digits. images: (n,) a number for each image, the same for its redrawings.

    areas: under the ROC curve of each network's `not_a_digit`, of drawings of none against these.
    """
    kept, accuracy, (loss, bound) = accuracy_kept("accuracy %", old, new, labels, images)
    log_loss = [float(-np.log(np.maximum(said.truth(labels), 1e-12)).mean()) for said in (old, new)]
    confidence = [100 * float(said.probabilities().max(1).mean()) for said in (old, new)]
    away = [100 * float(said.turned_away().mean()) for said in (old, new)]
    figures = {
        "pictures": len(labels),
        "images": len(np.unique(images)),
        "accuracy": accuracy,
        "accuracy lost": loss,
        "accuracy lost, at most": bound,
        "log-loss": log_loss,
        "confidence": confidence,
        "turned away": away,
        "area": list(areas),
    }

    def two(values: list[float], form: str) -> list[str]:
        return [format(value, form) for value in values]

    gap = confidence[1] - accuracy[1]
    return [
        kept,
        Check(
            "others: log-loss", two(log_loss, ".4f"), f"at most {LOG_LOSS} higher",
            log_loss[1] <= log_loss[0] + LOG_LOSS,
            f"its log-loss on the digits that others draw is {log_loss[1] - log_loss[0]:.4f} higher",
        ),
        Check(
            "others: confidence %", two(confidence, ".2f"), f"within {CONFIDENCE} points of accuracy",
            abs(gap) <= CONFIDENCE,
            f"its confidence is {abs(gap):.2f} points {'above' if gap > 0 else 'below'} its accuracy",
        ),
        Check(
            "others: digits turned away %", two(away, ".2f"), f"at most {TURNED_AWAY} points more",
            away[1] <= away[0] + TURNED_AWAY, f"turns {away[1] - away[0]:.2f} points more of the digits away",
        ),
        Check(
            "others: area of what is none", two(list(areas), ".4f"), f"at most {AREA} lower",
            areas[1] >= areas[0] - AREA,
            f"tells digits from other drawings worse (an area of {areas[1]:.4f}, before {areas[0]:.4f})",
        ),
    ], figures  # fmt: skip


def accuracy_kept(
    what: str, old: Said, new: Said, labels: np.ndarray, images: np.ndarray, than: str = ""
) -> tuple[Check, list[float], list[float]]:
    """Whether less than ACCURACY_LOSS is lost, both accuracies in %, and the points lost with their bound.

    images: as above.
    """
    right = [said.read() == labels for said in (old, new)]
    accuracy = [100 * float(r.mean()) for r in right]
    lost = [100 * value for value in paired_loss(right[0], right[1], images)]
    return Check(
        f"others: {what}", [f"{value:.2f}" for value in accuracy],
        f"less than {ACCURACY_LOSS} points lost with 95 %: {lost[0]:+.2f}, at most {lost[1]:+.2f}",
        lost[1] < ACCURACY_LOSS,
        f"may read up to {lost[1]:.2f} points fewer of the digits that others draw{than}",
    ), accuracy, lost  # fmt: skip


def least_sessions(tries: int) -> int:
    """To judge by: with fewer, even the p of a challenger that is better in each of them, 2**-n, is above the level."""
    return math.ceil(tries - math.log2(LEVEL))


def permutation_test(gains: np.ndarray, groups: np.ndarray) -> float:
    """One-sided p of the mean of paired gains, where each group's sign is as likely the other one (Fisher, 1935).

    Of all 2**n ways to sign them, counted group by group on a grid. Gains are rounded down to it: p is never too low.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=gains).round(12)  # less is no gain, but the rounding of one
    if not sums.any():
        return 1.0
    steps = np.floor(STEPS * sums / np.abs(sums).mean()).astype(int)
    zero = -int(steps[steps < 0].sum())
    chance = np.zeros(1 + np.abs(steps).sum())  # that the gains whose sign is turned come to so much, from -zero on
    chance[zero] = 1
    low = high = zero  # what is reached so far lies between
    for step in sorted(steps.tolist(), key=abs):
        half = chance[low : high + 1] / 2
        chance[low : high + 1] = half
        chance[low + step : high + step + 1] += half
        low, high = min(low, low + step), max(high, high + step)
    return float(chance[: zero + 1].sum())  # to no gain: then the sum is as high as without a turn, or higher


def paired_loss(before: np.ndarray, after: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Share of right answers lost, and its one-sided 95 % bound, by the variance between clusters."""
    _, cluster = np.unique(clusters, return_inverse=True)
    lost = np.bincount(cluster, weights=before.astype(float) - after) / np.bincount(cluster)
    mean = float(lost.mean())
    return mean, mean + ONE_SIDED_95 * float(lost.std(ddof=1)) / math.sqrt(len(lost))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of so many changed answers (McNemar, 1947)."""
    n, least = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)
