"""Learns from the visitors' labels: trains a challenger, and puts it into service only if its gate finds it better.

    python learn.py [--dry-run] [--report learnt.md] [--data DIR] [--seed N]
    python learn.py --list
    python learn.py --rollback [VERSION | model.pth]

It goes on from the weights in service, on the labelled drawings mixed with all that train.py trains on, and enters the
challenger into the ledger with every figure of the gate (training/gate.py), refused or promoted. The app's processes
take up what is promoted, or rolled back to, within seconds. There is no way around the gate. Takes some minutes.
"""

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.datasets import MNIST
from tqdm import tqdm

import db
from evaluate import area_under_roc
from model import NOT_A_DIGIT, SERVED, DigitNet, ModelError, fold, load_model, log_odds, read_model
from store import ledger, schema
from store.postgres import DatabaseError, NotAllowed, Refused
from train import (
    BLUR,
    DOUBT,
    PEN,
    THIN_PEN,
    Pools,
    batch,
    commit,
    cross_entropy,
    fit_point,
    fit_temperature,
    follow,
    has_bfloat16,
    logits_of,
    make_pools,
    random_pen,
    training_images,
    weights_of,
)
from training import augment, gate, nothing
from training.labels import FOLDS, Labelled, TooFew, doubtful, folds, gather, split
from training.report import write_report

STEPS = 1000  # of a challenger
FOLD_STEPS = 200  # of a network that says what it thinks of the labels it was not trained on
MIXTURE = {"gray": 80, "redrawn": 64, "styles": 24, "nothing": 24}  # of a batch of what train.py trains on, and
VISITORS = 64  # drawings of visitors beside it,
WARP = 1.25  # warped so much more than MNIST
WEIGHT = 2.0  # of their loss
KEEP = 12.0  # of the divergence from what the network in service says of train.py's pictures
RATE = 5e-4  # at its highest; one cycle, a fifth of it rising
AVERAGE = 0.995  # what the moving average of the weights keeps at each step
POOLS = 0.2  # of what train.py draws is drawn for this
REDRAWN = 3  # times that a held-out image is redrawn, by pens of all widths
OTHERS = 2000  # drawings of what is no digit, to judge by
PATIENCE = 600  # seconds that a database which is away is waited for

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="what the ledger holds, the newest first")
    instead.add_argument(
        "--rollback",
        nargs="?",
        const="before",
        metavar="VERSION",
        help="put a version of the ledger into service, or model.pth; without one, that before the one in service",
    )
    instead.add_argument("--dry-run", action="store_true", help="train, judge and report, and enter nothing")
    parser.add_argument(
        "--report", type=Path, default=Path("learnt.md"), help="Markdown; a picture is written beside it"
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("DATA_DIR") or "data", help="MNIST, or where to put it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads to compute with (default: PyTorch's own number)")
    args = parser.parse_args()
    if not args.report.parent.is_dir():
        parser.error(f"there is no folder {args.report.parent} to write {args.report.name} to")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.threads = torch.get_num_threads()
    try:
        if args.list:
            show_ledger()
        elif args.rollback is not None:  # "": an unset variable of a shell, say
            roll_back(args.rollback)
        else:
            learn(args)
    except TooFew as error:
        print(f"{error}. The network in service stays.")
    except ledger.Unknown as error:
        sys.exit(f"{error}\nIt may have been done all the same: `python learn.py --list` says what is in service.")
    except (DatabaseError, ModelError, ledger.Overtaken, OSError) as error:
        sys.exit(f"{error}\nNothing was changed: the network in service stays.")


# --- the ledger -------------------------------------------------------------------------------------------------------


def show_ledger() -> None:
    schema.upgrade()
    in_service, models = ledger.in_service(), ledger.fetch_models()
    for model in models:
        made = f"{model.version}  made {model.made_at:%Y-%m-%d %H:%M} UTC from {model.parent}"
        print(f"{made}: {model.verdict(in_service)}")
    if in_service is None:
        print(f"{load_model(SERVED).version}  model.pth: in service")


def roll_back(to: str) -> None:
    schema.upgrade()
    in_service, models = ledger.in_service(), {model.version: model for model in ledger.fetch_models()}
    if to == "before":
        if in_service is None:
            raise DatabaseError("model.pth is in service, and there is none before it")
        to = models[in_service].parent
        to = to if to in models else SERVED.name
    ledger.roll_back(None if to == SERVED.name else to)
    print(f"{to} is in service, and is taken up within seconds.")


class InService(NamedTuple):
    """What a challenger starts from, and is compared with."""

    version: str | None  # in the ledger; None: model.pth
    tries: int
    model: DigitNet


def network_in_service() -> InService:
    version = ledger.in_service()
    if version is None:
        model = load_model(SERVED)
    else:
        sha256, weights = ledger.fetch_weights(version)
        model = read_model(weights, sha256, f"model {version}")
    return InService(version, ledger.tries(), model)


def patiently(work: Callable[[], T]) -> T:
    """What `work` returns, tried again while the database is away, for PATIENCE seconds at most."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except DatabaseError as error:
            if isinstance(error, Refused | NotAllowed) or time.monotonic() > deadline:
                raise
            print(f"{error}; it is tried again", file=sys.stderr)
            time.sleep(5)


# --- from labels to a verdict -----------------------------------------------------------------------------------------


def learn(args: argparse.Namespace) -> None:
    """Raises TooFew, DatabaseError, ModelError, Overtaken, OSError; what is in service stays then."""
    began = time.monotonic()
    torch.manual_seed(args.seed)
    patiently(schema.upgrade)
    trained_on, judged_by = split(patiently(lambda: gather(db.fetch_labelled())))
    in_service, tries, network = patiently(network_in_service)
    least, sessions = gate.least_sessions(tries), len(judged_by.known_sessions())
    if sessions < least:
        raise TooFew(
            f"After {tries} tries since the last promotion it takes at least {least} sessions to judge by, "
            f"and the newest three tenths of all are {sessions}"
        )
    try:
        train_images, (images, labels) = training_images(args.data)
    except RuntimeError as error:  # torchvision's, if no mirror answers
        raise OSError(f"MNIST is not in {args.data}, and cannot be downloaded to it: {error}") from error
    pools = make_pools(*train_images, np.random.default_rng(args.seed), POOLS)

    denied, aside = doubtful_labels(network, pools, trained_on)
    learnt = trained_on.of(~aside)
    challenger = train_on(network, pools, learnt, STEPS, "challenger")
    if not all(bool(value.isfinite().all()) for value in challenger.state_dict().values()):
        raise ModelError(
            f"the training with seed {args.seed} diverged to weights that are not finite: take another --seed"
        )
    half = len(images) // 2
    fit_on, judge_on = ((images[part], labels[part]) for part in (slice(half), slice(half, None)))
    fit_scales(challenger, *fit_on)
    weights = weights_of(challenger)
    version = ledger.version_of(weights)
    if any(model.version == version for model in patiently(ledger.fetch_models)):
        return print(f"{version}, of the same labels and seed, had been made before: `python learn.py --list`.")

    both = network, challenger
    said = [said_of(m, judged_by.pictures) for m in both]
    checks, figures = judge(both, said, tries, learnt, judged_by, *judge_on)
    test = MNIST(str(args.data), train=False, download=True)
    figures["MNIST test"] = [
        100 * float((said_of(m, test.data[:, None].float() / 255).read() == test.targets.numpy()).mean()) for m in both
    ]
    refusal = "; ".join(check.refusal for check in checks if not check.holds) or None
    learnt_from = {
        "drawings": len(learnt.ids),
        "sessions": len(learnt.known_sessions()),
        "denied": int(denied.sum()),
        "set aside": [name for name, out in zip(trained_on.ids, aside.tolist(), strict=True) if out],
        "judged by": len(judged_by.ids),
        "sha256": [learnt.sha256(), judged_by.sha256()],
    }
    figures |= {"minutes": round((time.monotonic() - began) / 60, 1), "commit": commit(), "torch": torch.__version__}
    command = f"python learn.py --seed {args.seed} --threads {args.threads}" + (" --dry-run" if args.dry_run else "")
    verdict = f"Refused: {refusal}." if refusal else "Better for visitors, and no worse for all others."
    doubted = trained_on.of(denied)
    write_report(
        args.report,
        f"{datetime.now(UTC):%d %B %Y, %H:%M UTC}: challenger {version} of {network.version}, `{command}`",
        verdict,
        checks,
        figures,
        learnt_from,
        judged_by,
        said,
        doubted,
        said_of(network, doubted.pictures),
    )
    print(verdict)
    if args.dry_run:
        return print(f"A dry run: nothing was entered. {args.report} says more.")
    entry: dict[str, Any] = {"parent": network.version, "command": command, "learnt_from": learnt_from}
    entry |= {"figures": figures, "refusal": refusal, "expected": (in_service, tries)}
    patiently(lambda: ledger.enter(weights, **entry))
    print(f"{version} {'stays out of' if refusal else 'is put into'} service. {args.report} says more.")


def doubtful_labels(network: DigitNet, pools: Pools, drawings: Labelled) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) bool: labels that neither the network in service believes, nor one that did not see their session; and of
    these, those to set aside.

    The latter goes on from model.pth: what is in service may have been trained on these very sessions.
    """
    start, of_fold = load_model(SERVED), folds(drawings)
    out_of_fold = np.zeros(len(drawings.ids))
    for number in range(FOLDS):
        out = of_fold == number
        other = train_on(start, pools, drawings.of(~out), FOLD_STEPS, f"doubts {number + 1}/{FOLDS}")
        left = drawings.of(out)
        out_of_fold[out.numpy()] = said_of(other, left.pictures).of_label(left.labels.numpy())
    of_label = said_of(network, drawings.pictures).of_label(drawings.labels.numpy())
    return doubtful(of_label, out_of_fold)


def train_on(start: DigitNet, pools: Pools, drawings: Labelled, steps: int, name: str) -> DigitNet:
    """The moving average of the weights over a training that goes on from `start`, in eval mode."""
    model = copy.deepcopy(start).requires_grad_(True).to(memory_format=torch.channels_last)
    average, before = copy.deepcopy(start), fold(copy.deepcopy(start)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.layers.parameters(), lr=RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(2, steps), pct_start=0.2)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16())
    model.train()
    for step in tqdm(range(steps), desc=name, mininterval=1, disable=None):  # None: where nobody watches
        x, y = batch(pools, MIXTURE)
        chosen = torch.randint(len(drawings.ids), (VISITORS,))
        drawn = augment.warp_gray(drawings.pictures[chosen, 0], WARP)  # by another pen it may be another digit
        drawn = augment.blur(drawn, augment.uniform(VISITORS, -BLUR, BLUR).clamp(min=0))[:, None]
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits = model(torch.cat([x, drawn]).contiguous(memory_format=torch.channels_last)).float()
            with torch.no_grad():
                said = before(x.contiguous(memory_format=torch.channels_last)).float()
        ours, theirs = logits[: len(x)], logits[len(x) :]
        kept = F.kl_div(ours.log_softmax(1), said.log_softmax(1), log_target=True, reduction="batchmean")
        visitors = F.cross_entropy(theirs[:, :NOT_A_DIGIT], drawings.labels[chosen])
        visitors = visitors + DOUBT * F.softplus(log_odds(theirs)).mean()
        torch.autograd.backward(cross_entropy(ours, y) + WEIGHT * visitors + KEEP * kept)
        optimizer.step()
        schedule.step()
        follow(average, model, min(AVERAGE, (1 + step) / (10 + step)))
    return average


def judge(
    both: tuple[DigitNet, DigitNet],
    said: list[gate.Said],
    tries: int,
    learnt: Labelled,
    judged_by: Labelled,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> tuple[list[gate.Check], dict[str, Any]]:
    """The network in service and the challenger, side by side.

    said: by each of the drawings to judge by; images, labels: held out, (n, 28, 28) uint8 and (n,).
    """
    rng = np.random.default_rng(1)
    best = [gate.at_its_best(said_of(m, learnt.pictures), learnt.labels.numpy()).temperature for m in both]
    old, new = (s._replace(temperature=temperature) for s, temperature in zip(said, best, strict=True))
    checks, visitors = gate.better_for_visitors(old, new, judged_by.labels.numpy(), judged_by.sessions.numpy(), tries)
    digits, digit_labels, numbers = plain_and_redrawn(images, labels)
    others = augment.fields(nothing.non_digits(OTHERS, rng)).float() / 32
    others = augment.draw(others, random_pen(OTHERS, THIN_PEN))[:, None]
    old, new = (said_of(m, digits) for m in both)
    areas = [area_under_roc(said_of(m, others).none, said.none) for m, said in zip(both, (old, new), strict=True)]
    truth = digit_labels.numpy(), numbers.numpy()
    more, of_others = gate.no_worse_for_others(old, new, *truth, (areas[0], areas[1]))
    if (released := load_model(SERVED)).version != both[0].version:  # so that many small losses do not add up
        first = said_of(released, digits)
        check, _, lost = gate.accuracy_kept("accuracy %, model.pth first", first, new, *truth, than=" than model.pth")
        more.append(check)
        of_others["accuracy lost since model.pth"] = lost
    return checks + more, {"visitors": visitors, "others": of_others}


def fit_scales(model: DigitNet, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Temperature and point, on held-out images, plain and redrawn."""
    pictures, all_labels, _ = plain_and_redrawn(images, labels)
    model.temperature.fill_(fit_temperature(model, pictures[:, 0], all_labels))
    fit_point(model, images, np.random.default_rng(0))


def plain_and_redrawn(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n, 28, 28) uint8 → (m, 1, 28, 28) float32: as they are, and then, but for those whose loops may be clogged with
    ink, REDRAWN times by pens of all widths; (m,) labels; (m,) the number of each one's image."""
    (lines, clear), numbers = augment.thin(images), torch.arange(len(images))
    fields = augment.fields(lines).float() / 32
    redrawn = [augment.draw(fields, random_pen(len(fields), PEN)) for _ in range(REDRAWN)]
    numbers = torch.cat([numbers, numbers[clear].repeat(REDRAWN)])
    return torch.cat([images.float() / 255, *redrawn])[:, None], labels[numbers], numbers


def said_of(model: DigitNet, pictures: torch.Tensor) -> gate.Said:
    """pictures: (n, 1, 28, 28)."""
    logits = logits_of(model, pictures[:, 0]).double()
    none = (model.scale * log_odds(logits) + model.shift).sigmoid()
    return gate.Said(logits[:, :NOT_A_DIGIT].numpy(), none.numpy(), float(model.temperature))


if __name__ == "__main__":
    main()
