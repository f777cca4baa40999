"""Trains the network on MNIST's training images and on what is drawn beside them; writes model.pth and model.json.

    python train.py [--data DIR] [--seed N] [--epochs N] [--start model.pth] [--target 99.5]

24 epochs reach 99.65 % of MNIST's test images (seed 1), in 44 minutes of one core with bfloat16.
The committed weights went on from those of an earlier recipe (docs/model_card.md).
"""

import argparse
import contextlib
import copy
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.datasets import MNIST
from tqdm import tqdm

from evaluate import evaluate, table
from model import NOT_A_DIGIT, DigitNet, load_model, log_odds
from training import augment, glyphs, nothing
from utils import wilson

HELD_OUT = 5000  # of the training images, at random, the same for every seed: on them temperature and point are fitted
EPOCHS = 24
LAST_EPOCHS, UNWARPED = 4, 96  # in the last epochs, a third at most, so many of a batch's MNIST images are not warped

# What a batch is made of. MNIST as it is decides the score on MNIST, the rest the score on what people draw.
MIXTURE = {
    "gray": 192,  # MNIST's images, warped
    "redrawn": 44,  # MNIST's skeletons, drawn with any pen
    "styles": 24,  # zeros with a slash, ones with a flag, sevens with a bar, and digits from templates
    "nothing": 56,  # letters, symbols, icons, pictures, scribbles, two digits side by side, digits turned over
}
TEMPLATES, NON_DIGITS, PAIRS, TURNED = 36_000, 50_000, 6_000, 5_000  # how many are made, once

PEN = (0.6, 2.8)  # radius in pixels of the 28×28 picture: the brush, on drawings of a fifth of the canvas and more
THIN_PEN = (0.6, 1.8)  # for what is no digit: a blot of ink may be a thick digit

BLUR = 1.0  # pixels: half of a batch is blurred by up to this, as a warp blurs MNIST and no pen blurs what it draws

DOUBT = 0.3  # weight of "is it a digit at all?" beside "which one?"
TURNED_AWAY = 0.002  # of held-out digits, plain and redrawn by pens of all widths: the point of `not_a_digit`

LEARNING_RATE = 4e-3  # at its highest; one cycle, a fifth of it rising
STARTED_RATE = 1.2e-3  # the same of a training that starts from weights
WEIGHT_DECAY = 0.02
SHARPNESS = 0.05  # how far the weights climb, before each step, towards the highest loss near them
AVERAGE = 0.999  # what the moving average of the weights keeps at each step

Pools = dict[str, tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("DATA_DIR") or "data",
        help="MNIST, or where to put it; drawings there (*.jsonl) are measured, too",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument(
        "--start", type=Path, help="weights to go on from; with --epochs 0 only temperature and point are fitted"
    )
    parser.add_argument(
        "--stay",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the weights gone on from, in the result (Wortsman et al., 2022)",
    )
    parser.add_argument("--target", type=float, help="accuracy on the test images in per cent; exits with 1 below it")
    parser.add_argument(
        "--out", type=Path, default=Path("model.pth"), help="the weights; a .json is written beside them"
    )
    parser.add_argument("--threads", type=int, help="threads to compute with (default: PyTorch's own number)")
    args = parser.parse_args()
    if not args.epochs and not args.start:
        parser.error("no epochs and nothing to start from: give --epochs or --start")
    if not args.out.parent.is_dir():
        parser.error(f"there is no folder {args.out.parent} to write {args.out.name} to")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.threads = torch.get_num_threads()  # now: measuring sets it to one
    torch.manual_seed(args.seed)
    started = time.monotonic()

    (images, labels), held_out = training_images(args.data)
    if args.epochs:
        pools = make_pools(images, labels, np.random.default_rng(args.seed))
        print("pictures to draw from:", ", ".join(f"{name} {len(x):,}" for name, (x, _) in pools.items()))
        model = fit(pools, args.epochs, lambda model: held_out_accuracy(model, *held_out), args.start)
        if args.start:
            follow(model, load_model(args.start), 1 - args.stay)
    else:
        model = copy.deepcopy(load_model(args.start))
    model.temperature.fill_(fit_temperature(model, held_out[0].float() / 255, held_out[1]))
    point = fit_point(model, held_out[0], np.random.default_rng(0))
    minutes = (time.monotonic() - started) / 60

    made = save(model, args, minutes, point)
    print(f"{args.out} written after {minutes:.1f} minutes of training\n")
    figures, _ = evaluate(model, args.data, sorted(args.data.glob("*.jsonl")))
    args.out.with_suffix(".json").write_text(json.dumps(made | {"measured": figures}, indent=1) + "\n")
    print(table(figures))
    reached = figures["digits"]["MNIST test"]["accuracy"]
    if args.target and reached < args.target:
        sys.exit(f"{reached:.2f} % of the test images is below the target of {args.target} %")


def training_images(data: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """(n, 28, 28) uint8 images of MNIST with their labels: those to train on, and HELD_OUT others, always the same."""
    mnist = MNIST(str(data), train=True, download=True)
    shuffled = torch.randperm(len(mnist), generator=torch.Generator().manual_seed(0))
    images, labels = mnist.data[shuffled], mnist.targets[shuffled]
    return (images[:-HELD_OUT], labels[:-HELD_OUT]), (images[-HELD_OUT:], labels[-HELD_OUT:])


def make_pools(images: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator, share: float = 1) -> Pools:
    """(n, 28, 28) uint8 images and their labels → what batches are drawn from: images, and distance fields.

    share: of the images that are redrawn, and of what else is drawn, which takes a minute for all.
    """
    n_lines, n_templates, n_others, n_pairs, n_turned = (
        int(share * n) for n in (len(images), TEMPLATES, NON_DIGITS, PAIRS, TURNED)
    )
    lines, clear = augment.thin(images[:n_lines])
    lines_labels = labels[:n_lines][clear]
    altered = torch.isin(lines_labels, torch.tensor([0, 1, 7]))
    templates, template_labels = glyphs.digit_styles(n_templates, rng)
    several = nothing.pairs(lines[: 2 * n_pairs], rng)
    turned = nothing.turned_over(lines[:n_turned], lines_labels[:n_turned])
    icons = nothing.icons().repeat(3, 1, 1)
    others = torch.cat([nothing.non_digits(n_others, rng), icons, several, turned])
    styles = torch.cat([glyphs.add_strokes(lines[altered], lines_labels[altered], rng), templates])
    return {
        "gray": (images, labels),
        "redrawn": (augment.fields(lines), lines_labels),
        "styles": (augment.fields(styles), torch.cat([lines_labels[altered], template_labels])),
        "nothing": (augment.fields(others), torch.full((len(others),), NOT_A_DIGIT)),
    }


def batch(pools: Pools, mixture: dict[str, int], unwarped: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 1, 28, 28) float32 pictures and (n,) labels, in MIXTURE's order.

    unwarped: how many of MNIST's images are blurred at most.
    """
    (gray, labels), *drawn = (sample(pools[name], mixture[name]) for name in MIXTURE)
    fields = augment.warp_field(torch.cat([fields for fields, _ in drawn]).float() / 32)
    pens = torch.cat(
        [random_pen(mixture["redrawn"] + mixture["styles"], PEN), random_pen(mixture["nothing"], THIN_PEN)]
    )
    gray = gray.float() / 255
    pictures = torch.cat([gray[:unwarped], augment.warp_gray(gray[unwarped:]), augment.draw(fields, pens)])
    pictures = augment.blur(pictures, augment.uniform(len(pictures), -BLUR, BLUR).clamp(min=0))
    return pictures[:, None], torch.cat([labels, *(y for _, y in drawn)])


def sample(pool: tuple[torch.Tensor, torch.Tensor], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = torch.randint(len(pool[0]), (n,))
    return pool[0][chosen], pool[1][chosen]


def random_pen(n: int, pen: tuple[float, float]) -> torch.Tensor:
    """(n,) radii between two, their logarithms uniform."""
    return augment.uniform(n, np.log(pen[0]), np.log(pen[1])).exp()


def fit(pools: Pools, epochs: int, accuracy: Callable[[DigitNet], float], start: Path | None = None) -> DigitNet:
    """The moving average of the weights over a training of so many epochs, in eval mode."""
    model, rate = DigitNet().to(memory_format=torch.channels_last), STARTED_RATE if start else LEARNING_RATE
    if start:
        model.layers.load_state_dict(load_model(start).layers.state_dict())
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    steps = max(1, len(pools["gray"][0]) // MIXTURE["gray"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(1, steps * epochs), pct_start=0.2)
    bf16 = has_bfloat16()

    def backward(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(x.contiguous(memory_format=torch.channels_last))
        torch.autograd.backward(cross_entropy(logits.float(), y))

    for epoch in range(epochs):
        model.train()
        unwarped = UNWARPED if epoch >= epochs - min(LAST_EPOCHS, epochs // 3) else 0
        bar = tqdm(range(steps), desc=f"epoch {epoch + 1}/{epochs}", mininterval=1)
        for step in bar:
            done = epoch * steps + step
            x, y = batch(pools, MIXTURE, unwarped)
            backward(x[::2], y[::2])  # which way is up: half of the batch tells it well enough
            with climbed(model):
                backward(x, y)
            optimizer.step()
            schedule.step()
            follow(average, model, min(AVERAGE, (1 + done) / (10 + done)))
        tqdm.write(f"epoch {epoch + 1}: {accuracy(average):.2f} % of the held-out training images", file=sys.stderr)
    return average


def has_bfloat16() -> bool:
    """Whether this processor computes with bfloat16 by itself; where it does not, float32 is faster."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """That of eleven classes, as the sum of its two parts: which digit, and whether it is one, which weighs DOUBT."""
    digits, is_digit = logits[:, :NOT_A_DIGIT], y != NOT_A_DIGIT
    which = F.cross_entropy(digits[is_digit], y[is_digit])
    whether = F.binary_cross_entropy_with_logits(log_odds(logits), (~is_digit).float())
    return which + DOUBT * whether


@contextlib.contextmanager
def climbed(model: DigitNet) -> Iterator[None]:
    """Inside, the weights stand SHARPNESS further along their gradient, towards the highest loss near them.

    Steps by the gradients from there lead to where the loss is low all around (Foret et al., 2021, "SAM").
    """
    weights = list(model.parameters())
    with torch.no_grad():
        gradients = [p.grad for p in weights if p.grad is not None]
        length = torch.nn.utils.get_total_norm(gradients).clamp(min=1e-12)
        before = [p.clone() for p in weights]
        for p, gradient in zip(weights, gradients, strict=True):
            p.add_(gradient, alpha=SHARPNESS / float(length))
    yield
    with torch.no_grad():
        for p, value in zip(weights, before, strict=True):
            p.copy_(value)


@torch.no_grad()
def follow(average: DigitNet, model: DigitNet, keep: float) -> None:
    """Moves the average of weights and of batch statistics a little towards the model's."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - keep)


def logits_of(model: DigitNet, pictures: torch.Tensor) -> torch.Tensor:
    """(n, 28, 28) float pictures → (n, 11)."""
    with torch.inference_mode():
        return torch.cat([model(part[:, None]) for part in pictures.split(500)])


def held_out_accuracy(model: DigitNet, images: torch.Tensor, labels: torch.Tensor) -> float:
    digits = logits_of(model, images.float() / 255)[:, :NOT_A_DIGIT]
    return 100 * float((digits.argmax(1) == labels).float().mean())


def fit_temperature(model: DigitNet, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature (Guo et al., 2017) at which mean confidence on (n, 28, 28) held-out pictures is accuracy."""
    digits = logits_of(model, pictures)[:, :NOT_A_DIGIT]
    accuracy = float((digits.argmax(1) == labels).float().mean())
    gap = lambda temperature: abs(float((digits / temperature).softmax(1).amax(1).mean()) - accuracy)  # noqa: E731
    return min(np.arange(0.5, 2, 0.01).tolist(), key=gap)


def fit_point(model: DigitNet, images: torch.Tensor, rng: np.random.Generator) -> dict[str, Any]:
    """Sets `scale` and `shift` so that at most TURNED_AWAY of held-out digits are above a half; says how many are.

    Digits whose loops may be clogged with ink are not redrawn. The scale makes the likelihood of the digits, and of as
    many drawings of none, the highest at that point.
    """
    pens = torch.linspace(np.log(PEN[0]), np.log(PEN[1]), len(images)).exp()
    lines, clear = augment.thin(images)
    drawn = augment.fields(torch.cat([lines, nothing.non_digits(len(images) // 2, rng)]))
    pens = torch.cat([pens[clear], pens[: len(images) // 2].clamp(max=THIN_PEN[1])])
    pictures = torch.cat([images.float() / 255, *(augment.draw(f.float() / 32, r) for f, r in in_parts(drawn, pens))])
    odds = log_odds(logits_of(model, pictures).double())
    digits, others = odds.tensor_split([len(images) + int(clear.sum())])
    highest = digits.sort(descending=True).values
    most = int(TURNED_AWAY * len(digits))
    point = float(highest[most : most + 1] + highest[max(0, most - 1) : max(1, most)]) / 2

    def loss(scale: float) -> float:
        return float(F.softplus(scale * (digits - point)).mean() + F.softplus(scale * (point - others)).mean())

    scale = min(np.arange(0.1, 2, 0.05).tolist(), key=loss)
    model.scale.fill_(scale)
    model.shift.fill_(-scale * point)
    turned_away = int((model.scale * digits + model.shift > 0).sum())
    return {
        "turned away": turned_away,
        "of": len(digits),
        "interval": [100 * p for p in wilson(turned_away, len(digits))],
    }


def in_parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same 500 rows of each, from the first to the last."""
    return zip(*(torch.split(tensor, 500) for tensor in tensors), strict=True)


def weights_of(model: DigitNet) -> bytes:
    """What a file of weights holds; not written straight to a file, since torch.save puts the file's name into it."""
    torch.save(model.state_dict(), weights := io.BytesIO())
    return weights.getvalue()


def save(model: DigitNet, args: argparse.Namespace, minutes: float, point: dict[str, Any]) -> dict[str, Any]:
    """Writes the weights, and beside them what made them, which is returned."""
    weights = weights_of(model)
    start = json.loads(args.start.with_suffix(".json").read_text()) if args.start else None
    args.out.write_bytes(weights)
    made = {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "command": f"python train.py --seed {args.seed} --epochs {args.epochs} --threads {args.threads}"
        + (f" --start {args.start.name} --stay {args.stay}" if args.start else ""),
        "commit": commit(),
        "constants": {
            name: value
            for name, value in globals().items()
            if name.isupper() and isinstance(value, int | float | tuple | dict)
        },
        "minutes": round(minutes, 1),
        "threads": args.threads,
        "bfloat16": has_bfloat16(),
        "torch": torch.__version__,
        "temperature": round(float(model.temperature), 2),
        "point": point | {"scale": round(float(model.scale), 2), "shift": round(float(model.shift), 3)},
    }
    if start:
        made["started from"] = {name: start[name] for name in start if name not in ("measured", "point", "temperature")}
    args.out.with_suffix(".json").write_text(json.dumps(made, indent=1) + "\n")
    return made


def commit() -> str | None:
    """The commit of the code that runs, with "+" where files were changed since; None outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "*.py", "*.txt"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


if __name__ == "__main__":
    main()
