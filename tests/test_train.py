"""Training: the whole script on a small data set of its own making, and what the committed weights reach on MNIST."""

import json
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import train
from model import load_model
from training import augment, glyphs, nothing

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("DATA_DIR", ROOT / "data"))


def write_mnist(folder: Path, n: int) -> None:
    """Files as MNIST's, of n training and n // 4 test images, drawn from templates."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    torch.manual_seed(0)
    for kind, count in (("train", n), ("t10k", n // 4)):
        lines, labels = glyphs.digit_styles(count, np.random.default_rng(count))
        images = augment.draw(augment.fields(lines).float() / 32, augment.uniform(count, 1.0, 1.6))
        header = [0x803, count, 28, 28]
        pixels = (images * 255).round().byte().numpy().tobytes()
        (raw / f"{kind}-images-idx3-ubyte").write_bytes(b"".join(v.to_bytes(4) for v in header) + pixels)
        header = [0x801, count]
        labels = labels.byte().numpy().tobytes()
        (raw / f"{kind}-labels-idx1-ubyte").write_bytes(b"".join(v.to_bytes(4) for v in header) + labels)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(folder, 800)
    return folder


def measure_little(monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "doodles", lambda rng: {})
    monkeypatch.setattr(evaluate, "PAIRS", 5)
    monkeypatch.setattr(evaluate, "milliseconds", partial(evaluate.milliseconds, n=5))


def make_small_pools(monkeypatch) -> None:
    for name, value in {"HELD_OUT": 200, "TEMPLATES": 200, "NON_DIGITS": 300, "PAIRS": 40, "TURNED": 40}.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(nothing, "icons", lambda: torch.eye(56, dtype=torch.bool)[None])
    measure_little(monkeypatch)


@pytest.fixture
def small_pools(monkeypatch):
    make_small_pools(monkeypatch)


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory) -> Path:
    """The weights of a training of one epoch with seed 3, for tests of what comes after a training."""
    weights = tmp_path_factory.mktemp("trained") / "model.pth"
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small_pools(monkeypatch)
        run(monkeypatch, "--data", small, "--epochs", 1, "--seed", 3, "--out", weights)
    return weights


def run(monkeypatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--threads", "1", *map(str, arguments)])
    train.main()


@pytest.mark.usefixtures("small_pools")
def test_training_writes_weights_that_load_and_read_digits(small, tmp_path, monkeypatch, capsys):
    small_batch = {"gray": 16, "redrawn": 8, "styles": 8, "nothing": 8}
    monkeypatch.setattr(train, "MIXTURE", small_batch)  # more and smaller steps
    run(monkeypatch, "--data", small, "--epochs", 3, "--out", tmp_path / "model.pth")
    load_model(tmp_path / "model.pth")
    made = json.loads((tmp_path / "model.json").read_text())
    assert made["command"] == "python train.py --seed 0 --epochs 3 --threads 1"
    assert made["constants"]["MIXTURE"] == small_batch and made["constants"]["PEN"] == list(train.PEN)
    assert "commit" in made
    assert made["measured"]["digits"]["MNIST test"]["n"] == 200
    assert made["measured"]["digits"]["MNIST test"]["accuracy"] > 60  # chance is 10
    out, progress = capsys.readouterr()
    assert "MNIST test" in out and "minutes of training" in out
    assert "epoch 1/3" in progress and "% of the held-out training images" in progress


@pytest.mark.usefixtures("small_pools")
def test_the_same_seed_makes_the_same_weights_and_another_seed_others(small, trained, tmp_path, monkeypatch):
    made = [trained, tmp_path / "again.pth", tmp_path / "other.pth"]
    for seed, out in zip((3, 4), made[1:], strict=True):
        run(monkeypatch, "--data", small, "--epochs", 1, "--seed", seed, "--out", out)
    a, b, c = (json.loads(out.with_suffix(".json").read_text())["sha256"] for out in made)
    assert a == b != c


@pytest.mark.usefixtures("small_pools")
def test_the_held_out_images_are_taken_at_random_the_same_for_every_seed_and_not_trained_on(
    small, tmp_path, monkeypatch
):
    trained_on, held_out = [], []

    def spy(name: str, argument: int, seen: list) -> None:
        function = getattr(train, name)
        monkeypatch.setattr(train, name, lambda *given: (seen.append(given[argument]), function(*given))[1])

    spy("make_pools", 0, trained_on)
    spy("fit_point", 1, held_out)
    monkeypatch.setattr(train, "fit", lambda *given: train.DigitNet().eval())  # what it was given is known by now
    for seed in (0, 1):
        run(monkeypatch, "--data", small, "--epochs", 1, "--seed", seed, "--out", tmp_path / "model.pth")
    everything = train.MNIST(str(small), train=True).data
    assert torch.equal(held_out[0], held_out[1]) and len(held_out[0]) == 200
    assert not torch.equal(held_out[0], everything[-200:])
    assert as_bytes(trained_on[0]) + as_bytes(held_out[0]) == as_bytes(everything)


def as_bytes(images: torch.Tensor) -> Counter:
    return Counter(image.numpy().tobytes() for image in images)


@pytest.mark.usefixtures("small_pools")
def test_weights_that_could_not_be_measured_are_not_lost(small, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "evaluate", lambda *given: 1 / 0)
    monkeypatch.setattr(train, "fit", lambda *given: load_model(trained))
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, "--data", small, "--epochs", 1, "--out", tmp_path / "model.pth")
    load_model(tmp_path / "model.pth")


def test_a_folder_that_is_not_there_is_named_before_the_training(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "fit", None)
    with pytest.raises(SystemExit):
        run(monkeypatch, "--data", small, "--out", tmp_path / "typo" / "model.pth")
    assert f"there is no folder {tmp_path / 'typo'} to write model.pth to" in capsys.readouterr().err


@pytest.mark.usefixtures("small_pools")
def test_a_missed_target_is_said_and_fails(small, trained, tmp_path, monkeypatch):
    out = tmp_path / "model.pth"
    start = ["--epochs", 0, "--start", trained]
    with pytest.raises(SystemExit, match="below the target of 100.1 %"):
        run(monkeypatch, "--data", small, *start, "--threads", 2, "--target", "100.1", "--out", out)
    assert json.loads(out.with_suffix(".json").read_text())["threads"] == 2  # those of the training, not of measuring


def test_a_batch_holds_every_kind_in_its_share_warped_blurred_and_drawn_with_its_pen(monkeypatch):
    torch.manual_seed(0)
    lines, _ = glyphs.digit_styles(80, np.random.default_rng(0))
    images = (augment.draw(augment.fields(lines).float() / 32, augment.uniform(80, 1.0, 1.6)) * 255).byte()
    fields = augment.fields(lines[:1])
    label_of = {"gray": 0, "redrawn": 1, "styles": 2, "nothing": 10}
    pools = {name: (fields, torch.tensor([label])) for name, label in label_of.items()}
    pools["gray"] = (images, torch.zeros(80, dtype=torch.int64))
    size, gray, pens, draw = sum(train.MIXTURE.values()), train.MIXTURE["gray"], [], augment.draw
    monkeypatch.setattr(augment, "draw", lambda fields, radius: (pens.append(radius), draw(fields, radius))[1])
    known = {picture.numpy().tobytes() for picture in images.float() / 255}
    as_they_are = lambda x: [picture.numpy().tobytes() in known for picture in x]  # noqa: E731

    x, y = train.batch(pools, train.MIXTURE, gray)
    assert x.shape == (size, 1, 28, 28) and y.shape == (size,)
    assert {name: int((y == label).sum()) for name, label in label_of.items()} == train.MIXTURE
    assert x.min() >= 0 and x.max() < 1 + 1e-6 and torch.isfinite(x).all()  # a blur is a sum of 49, rounded
    assert 0.3 < np.mean(as_they_are(x[:gray])) < 0.7  # the rest is blurred
    (radius,) = pens
    for part, (thinnest, thickest) in (
        (radius[: -train.MIXTURE["nothing"]], train.PEN),
        (radius[-train.MIXTURE["nothing"] :], train.THIN_PEN),
    ):
        assert thinnest <= part.min() and 0.7 * thickest < part.max() <= thickest

    monkeypatch.setattr(train, "BLUR", 0)
    monkeypatch.setattr(train, "random_pen", lambda n, pen: torch.ones(n))
    x, _ = train.batch(pools, train.MIXTURE, 50)
    assert x.min() >= 0 and x.max() <= 1 and torch.isfinite(x).all()
    assert as_they_are(x) == [True] * 50 + [False] * (size - 50)
    assert len({picture.numpy().tobytes() for picture in x[gray:]}) == size - gray  # one line, warped


def test_the_loss_is_the_cross_entropy_of_eleven_classes_when_both_its_parts_weigh_the_same(monkeypatch):
    monkeypatch.setattr(train, "DOUBT", 1)
    logits = torch.randn(64, 11, generator=torch.Generator().manual_seed(0))
    digits = torch.arange(64) % 10  # its first part is a mean over digits only, so here all are digits
    assert torch.allclose(train.cross_entropy(logits, digits), torch.nn.functional.cross_entropy(logits, digits))
    others = torch.cat([digits[:32], torch.full((32,), 10)])
    parts = torch.nn.functional.cross_entropy(logits, others, reduction="none")
    digit_share = logits[:32, :10].log_softmax(1).gather(1, digits[:32, None]).mean()
    assert torch.allclose(train.cross_entropy(logits, others), parts.mean() - digit_share / 2, atol=1e-6)


def test_the_weights_climb_along_their_gradient_and_come_back_exactly():
    torch.manual_seed(0)
    model, x, y = train.DigitNet().eval(), torch.rand(8, 1, 28, 28), torch.arange(8)
    loss = lambda: train.cross_entropy(model(x), y)  # noqa: E731
    at_first = loss()
    at_first.backward()
    before = [p.detach().clone() for p in model.parameters()]
    with train.climbed(model):
        steps = [p.detach() - value for p, value in zip(model.parameters(), before, strict=True)]
        assert loss() > at_first
    assert torch.stack([step.norm() for step in steps]).norm() == pytest.approx(train.SHARPNESS, rel=1e-3)
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))


class Digits(torch.nn.Module):
    """Gives (n, 11) logits in their order, 500 a call, whatever it is shown."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.rows, self.scale, self.shift = logits, torch.ones(()), torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part, self.rows = self.rows[: len(x)], self.rows[len(x) :]
        return part


def test_the_point_lies_where_two_in_a_thousand_of_the_held_out_digits_are_above_a_half():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 11, generator=rng)
    logits[4000:, 10] += 9  # what is no digit
    model = Digits(logits)
    ones = torch.zeros(2000, 28, 28, dtype=torch.uint8)
    ones[:, 4:24, 13:15] = 200
    point = train.fit_point(model, ones, np.random.default_rng(0))
    assert point["of"] == 4000 and point["turned away"] == 8
    assert point["interval"][0] < 100 * 8 / 4000 < point["interval"][1]
    odds = logits[:, 10] - logits[:, :10].logsumexp(1)
    not_a_digit = (model.scale * odds + model.shift).sigmoid()
    assert (not_a_digit[:4000] > 0.5).sum() == 8 and (not_a_digit[4000:] > 0.5).float().mean() > 0.9


@pytest.mark.usefixtures("small_pools")
def test_a_training_goes_on_from_weights_and_only_fits_them_when_it_is_given_no_epochs(
    small, trained, tmp_path, monkeypatch
):
    again = tmp_path / "again.pth"
    run(monkeypatch, "--data", small, "--epochs", 0, "--start", trained, "--out", again)
    a, b = load_model(trained), load_model(again)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert float(a.temperature) == float(b.temperature)
    assert float(a.shift) == pytest.approx(float(b.shift), rel=1e-5)  # a layout in memory rounds as it likes
    made = json.loads(again.with_suffix(".json").read_text())
    assert made["started from"]["sha256"] == json.loads(trained.with_suffix(".json").read_text())["sha256"]
    weights = {}
    for stay in (0, 0.25, 1):
        torch.manual_seed(0)
        run(monkeypatch, "--data", small, "--epochs", 1, "--start", trained, "--stay", stay, "--out", again)
        weights[stay] = load_model(again).layers[0].weight
    assert not torch.allclose(weights[0], a.layers[0].weight) and torch.equal(weights[1], a.layers[0].weight)
    assert torch.allclose(weights[0.25], 0.75 * weights[0] + 0.25 * weights[1], atol=1e-6)
    assert json.loads(again.with_suffix(".json").read_text())["command"].endswith(" --stay 1.0")


def test_the_temperature_undoes_what_makes_confidence_too_high_or_too_low():
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 11, generator=rng)
    labels = torch.multinomial(logits[:, :10].softmax(1), 1, generator=rng)[:, 0]
    for factor in (0.7, 1.0, 1.8):
        temperature = train.fit_temperature(Digits(factor * logits), torch.zeros(20_000, 28, 28), labels)
        assert temperature == pytest.approx(factor, abs=0.03)


def test_the_script_says_how_to_run_it(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        run(monkeypatch, "--help")
    said = capsys.readouterr().out
    assert "--data" in said and "--target" in said


@pytest.mark.skipif(
    not (DATA / "MNIST/raw/t10k-images-idx3-ubyte").exists(), reason=f"MNIST is not in {DATA} (DATA_DIR)"
)
def test_the_committed_weights_reach_on_mnist_what_model_json_says(monkeypatch):
    measure_little(monkeypatch)
    said = json.loads((ROOT / "model.json").read_text())["measured"]["digits"]["MNIST test"]
    figures, _ = evaluate.evaluate(load_model(ROOT / "model.pth"), DATA, [])
    measured = figures["digits"]["MNIST test"]
    assert measured["accuracy"] >= 99.6
    assert measured["accuracy"] == pytest.approx(said["accuracy"], abs=0.02)  # other processors round otherwise
    assert measured["calibration error"] == pytest.approx(said["calibration error"], abs=0.05)


@pytest.mark.parametrize(("name", "least"), [("pendigits", 98.5), ("unipen", 99.0)])
@pytest.mark.skipif(
    not (DATA / "drawings_dev.jsonl").exists(), reason=f"drawings_dev.jsonl is not in {DATA} (DATA_DIR)"
)
def test_the_committed_weights_read_what_people_drew(name, least):
    model, rows = load_model(ROOT / "model.pth"), evaluate.group(evaluate.read_drawings(DATA / "drawings_dev.jsonl"))[0]
    placed = evaluate.place_all(rows[name], np.random.default_rng(1), times=1)
    p, not_a_digit = evaluate.answers(model, placed.pictures)
    assert 100 * (p.argmax(1) == np.array(placed.labels)).mean() >= least
    assert (not_a_digit > 0.5).mean() <= 0.006
    assert evaluate.seen_as_several(model, placed.canvases).mean() <= 0.002
