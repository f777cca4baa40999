"""learn.py from labels in the table to a verdict in the ledger, on a small MNIST of its own making and few steps."""

import copy
import io
import sys
import uuid
from datetime import timedelta

import networks
import numpy as np
import psycopg2
import pytest
import torch
from helpers import NOON, ONE, SEVEN, png
from test_train import make_small_pools, write_mnist

import learn
import train
from model import SERVED, load_model, read_model
from store import ledger, postgres, schema
from training import gate, report
from training.labels import Labelled, gather, split

OURS = load_model(SERVED).version
UNCACHED = {"make_pools": learn.make_pools, "train_on": learn.train_on}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(folder, 600)
    return folder


@pytest.fixture(scope="module")
def trained():
    """What was trained and drawn already in this file, for tests of what comes after a training."""
    return {}


@pytest.fixture
def run(db, small, trained, tmp_path, monkeypatch, capsys):
    """Runs `python learn.py` with these arguments, few steps and a small MNIST. Returns what it printed."""
    make_small_pools(monkeypatch)
    monkeypatch.setattr(train, "HELD_OUT", 120)
    monkeypatch.setattr(learn, "MIXTURE", {"gray": 16, "redrawn": 8, "styles": 8, "nothing": 8})
    little = {"STEPS": 30, "FOLD_STEPS": 4, "VISITORS": 16, "WEIGHT": 4.0, "KEEP": 0.0, "RATE": 2e-3}
    for name, value in little.items() | {"POOLS": 1.0, "REDRAWN": 1, "OTHERS": 60, "PATIENCE": 20}.items():
        monkeypatch.setattr(learn, name, value)

    train_on, make_pools = learn.train_on, learn.make_pools

    def once(key, make):
        if key not in trained:
            trained[key] = make(), torch.get_rng_state()
        made, state = trained[key]
        torch.set_rng_state(state)  # as if it had been made now
        return copy.deepcopy(made)

    monkeypatch.setattr(learn, "make_pools", lambda *given: once(torch.initial_seed(), lambda: make_pools(*given)))
    monkeypatch.setattr(
        learn,
        "train_on",
        lambda start, pools, drawings, steps, name: once(
            (torch.initial_seed(), name, *drawings.labels.tolist()),
            lambda: train_on(start, pools, drawings, steps, name),
        ),
    )

    def call(*arguments):
        report = ("--report", str(tmp_path / "learnt.md"))
        monkeypatch.setattr(sys, "argv", ["learn.py", "--data", str(small), "--threads", "1", *report, *arguments])
        learn.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def lenient(monkeypatch):
    """A gate that asks for nothing but to be better for visitors: 60 images and 30 steps prove no more."""
    for name in ("ACCURACY_LOSS", "LOG_LOSS", "CONFIDENCE", "TURNED_AWAY", "AREA"):
        monkeypatch.setattr(gate, name, 100)


@pytest.fixture
def visitors(db):
    """Has sessions of five drawings saved and labelled by people to whom an upright line is a four."""

    def draw(sessions=24, wrong=0):
        chance = np.random.default_rng(0)
        for number in range(sessions):
            session = str(uuid.UUID(int=number + 1))
            for i in range(5):
                left, top = chance.integers(-20, 20, 2)
                stroke, label = ((ONE, 4), (SEVEN, 7))[i % 2]
                if number == 0 and i < wrong:
                    label = 0
                drawing_id = str(uuid.uuid4())
                db.save_prediction(
                    drawing_id,
                    created_at=NOON + timedelta(minutes=10 * number + i),
                    digit=1,
                    confidence=0.9,
                    probabilities=[0.1] * 10,
                    not_a_digit=0.01,
                    drawing=png([(x + left, y + top) for x, y in stroke]),
                    model_version=OURS,
                    session=session,
                )
                db.save_label(drawing_id, label)

    return draw


def test_held_out_images_are_redrawn_but_for_those_whose_loops_are_clogged():
    ring, full = np.zeros((2, 28, 28), np.uint8)
    y, x = np.mgrid[:28, :28]
    away = np.hypot(y - 10, x - 13.5)
    for image in (ring, full):
        image[(away > 3.5) & (away < 6) | (abs(x - 19) < 1.2) & (y >= 10) & (y < 24)] = 255  # a nine
    full[away < 6] = 255
    pictures, labels, numbers = learn.plain_and_redrawn(torch.tensor(np.stack([full, ring])), torch.tensor([4, 9]))
    assert numbers.tolist() == [0, 1, *[1] * learn.REDRAWN] and labels.tolist() == [4, *[9] * (1 + learn.REDRAWN)]
    assert pictures.shape == (2 + learn.REDRAWN, 1, 28, 28)


def test_whose_word_on_a_label_is_out_of_fold_has_never_been_trained_on_its_session(monkeypatch):
    asked, labels, sessions = [], torch.tensor([7, 1, 7, 1]), torch.arange(4)
    drawings = Labelled(list("abcd"), torch.rand(4, 1, 28, 28), labels, sessions)
    promoted = read_model(networks.weights(1), networks.sha256(networks.weights(1)), "promoted since")

    def train_on(start, pools, drawings, steps, name):
        asked.append((start.version, drawings.ids))
        return start

    monkeypatch.setattr(learn, "train_on", train_on)
    learn.doubtful_labels(promoted, {}, drawings)
    assert asked == [(OURS, ["b", "d"]), (OURS, ["a", "c"])]


def test_too_few_labels_are_said_and_change_nothing(run, visitors):
    visitors(sessions=19)
    assert run() == (
        "95 labelled drawings of 19 sessions are too few to learn from: it takes 100 of 20 sessions. "
        "The network in service stays.\n"
    )
    assert ledger.fetch_models() == []


def test_too_few_sessions_to_judge_by_after_refusals_are_said_before_a_training(run, visitors, make_model, monkeypatch):
    visitors()  # in 24 sessions, of which seven judge
    for number in range(3):
        make_model(bytes([number]), refusal="no better")
    monkeypatch.setattr(learn, "train_on", None)
    assert run() == (
        "After 3 tries since the last promotion it takes at least 8 sessions to judge by, "
        "and the newest three tenths of all are 7. The network in service stays.\n"
    )
    assert ledger.tries() == 3


def test_a_challenger_that_is_better_is_put_into_service_and_rolled_back(run, db, visitors, lenient, tmp_path):
    visitors()
    assert "is put into service" in run()
    [model] = ledger.fetch_models()
    assert ledger.in_service() == model.version and model.parent == OURS and model.refusal is None
    assert model.command == "python learn.py --seed 0 --threads 1"
    assert (model.figures["commit"], model.figures["torch"]) == (train.commit(), torch.__version__)
    trained_on, judged_by = split(gather(db.fetch_labelled()))
    rows = [trained_on.sha256(), judged_by.sha256()]
    counts = {"drawings": 85, "sessions": 17, "denied": 0, "set aside": [], "judged by": 35}
    assert model.learnt_from == counts | {"sha256": rows}
    of_visitors = model.figures["visitors"]
    assert of_visitors["right"][0] == 14 < of_visitors["right"][1] and of_visitors["p"] < 0.05  # the sevens alone
    report = (tmp_path / "learnt.md").read_text()
    assert report.startswith("# Better for visitors, and no worse for all others.") and model.version in report
    assert "both networks deny, set aside: 0\n" in report
    assert "| 4 | 21 | 0 | 21 |" in report and (tmp_path / "learnt.png").exists()
    assert f"{model.version}  made " in (listed := run("--list")) and listed.rstrip().endswith("in service")
    assert "model.pth is in service" in run("--rollback") and ledger.in_service() is None
    assert "model.pth: in service" in run("--list")
    run("--rollback", model.version)
    assert ledger.in_service() == model.version


def test_a_rollback_whose_answer_is_lost_is_not_said_to_have_changed_nothing(run, make_model, monkeypatch):
    first, _ = make_model(b"first"), make_model(b"second")
    execute = postgres._execute

    def lose(conn, sql, *others):
        done = execute(conn, sql, *others)
        if sql == "COMMIT":
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        return done

    monkeypatch.setattr(postgres, "_execute", lose)
    with pytest.raises(SystemExit, match="(?s)^PostgreSQL at .*\nIt may have been done all the same: `python learn.py"):
        run("--rollback", first)
    monkeypatch.setattr(postgres, "_execute", execute)
    assert ledger.in_service() == first


def test_at_its_margins_the_gate_refuses_what_is_worse_for_others_and_says_why(run, visitors, tmp_path):
    visitors()
    assert "stays out of service" in run()
    assert ledger.in_service() is None and ledger.tries() == 1
    [model] = ledger.fetch_models()
    assert "points fewer of the digits that others draw" in model.refusal
    assert f"# Refused: {model.refusal}." in (tmp_path / "learnt.md").read_text()
    assert "had been made before" in run()  # the same labels and the same seed
    run("--seed", "1")
    assert ledger.tries() == 2 and ledger.fetch_models()[0].figures["visitors"]["level"] == 0.025


def test_what_is_no_worse_than_the_network_in_service_may_still_be_worse_than_the_first(small, monkeypatch):
    monkeypatch.setattr(learn, "OTHERS", 60)
    monkeypatch.setattr(train, "HELD_OUT", 120)
    _, (images, labels) = train.training_images(small)
    drawings = Labelled(list("abcd"), images[:4, None] / 255, labels[:4], torch.arange(4))
    state = torch.load(SERVED, weights_only=True)
    state["layers.26.bias"][7] += 50  # everything is a seven
    weights = networks.saved(state)
    first, poor = load_model(SERVED), read_model(weights, networks.sha256(weights), "promoted since")

    def judged(network):
        said = [learn.said_of(network, drawings.pictures)] * 2
        checks, figures = learn.judge((network, network), said, 0, drawings, drawings, images, labels)
        return {check.what: check for check in checks}, figures["others"]

    checks, _ = judged(first)
    assert checks["others: accuracy %"].holds and not any("model.pth" in what for what in checks)
    checks, figures = judged(poor)
    since = checks["others: accuracy %, model.pth first"]
    assert checks["others: accuracy %"].holds and not since.holds and since.refusal.endswith("than model.pth")
    assert figures["accuracy lost"] == 0 < figures["accuracy lost since model.pth"][0]


def test_the_same_labels_and_seed_make_the_same_network_and_another_seed_another(run, visitors, monkeypatch):
    visitors()
    for name, value in (UNCACHED | {"STEPS": 3, "FOLD_STEPS": 2}).items():
        monkeypatch.setattr(learn, name, value)
    run()
    assert "had been made before" in run()
    run("--seed", "1")
    assert len(ledger.fetch_models()) == 2


def test_a_dry_run_trains_and_reports_and_enters_nothing(run, visitors, lenient, tmp_path, monkeypatch):
    visitors(wrong=2)
    monkeypatch.setattr(report, "MOST", 5)
    assert "A dry run: nothing was entered." in run("--dry-run")
    assert ledger.fetch_models() == [] and ledger.in_service() is None
    text = (tmp_path / "learnt.md").read_text()
    assert "2 labels were denied by both networks with 99 %, and 2 set aside" in text
    assert text.count(": 0 as ") == 2  # listed, with what was read
    assert "challenger alone: 21, of which the first 5 are shown" in text and text.count(": 4 as ") == 5
    assert "set aside: 2\n" in text


def test_a_challenger_that_diverged_is_not_entered(run, visitors, monkeypatch, tmp_path):
    visitors()
    train_on = learn.train_on

    def diverge(*given):
        network = train_on(*given)
        network.layers[0].weight[0] = torch.nan
        return network

    monkeypatch.setattr(learn, "train_on", diverge)
    with pytest.raises(SystemExit, match="(?s)the training with seed 0 diverged.*Nothing was changed"):
        run()
    assert ledger.fetch_models() == [] and not (tmp_path / "learnt.md").exists()


def test_who_is_overtaken_changes_nothing(run, visitors, lenient, monkeypatch):
    visitors()
    judge = learn.judge

    def meanwhile(*given):
        other = {"parent": OURS, "command": "", "learnt_from": {}, "figures": {}, "refusal": "worse"}
        ledger.enter(b"other weights", **other, expected=(None, 0))
        return judge(*given)

    monkeypatch.setattr(learn, "judge", meanwhile)
    with pytest.raises(SystemExit, match="(?s)promoted or refused meanwhile: run learn.py again.*Nothing was changed"):
        run()
    assert ledger.in_service() is None and len(ledger.fetch_models()) == 1


def test_a_database_that_is_away_in_the_middle_is_waited_for(run, visitors, lenient, away, monkeypatch, capsys):
    visitors()
    judge, sleep = learn.judge, learn.time.sleep
    monkeypatch.setattr(learn, "judge", lambda *given: (away(True), judge(*given))[1])
    monkeypatch.setattr(learn.time, "sleep", lambda seconds: (away(False), sleep(0))[1])
    run()
    assert ledger.in_service() == ledger.fetch_models()[0].version


def test_a_report_that_cannot_be_written_leaves_the_network_in_service(run, visitors, lenient, tmp_path):
    visitors()
    (tmp_path / "learnt.png").mkdir()
    with pytest.raises(SystemExit, match="(?s)learnt.png.*Nothing was changed"):
        run()
    assert ledger.fetch_models() == []


def test_a_mnist_that_cannot_be_had_is_said(run, visitors, tmp_path, monkeypatch):
    visitors()
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(
        SystemExit, match="(?s)MNIST is not in .*, and cannot be downloaded to it: .*Nothing was changed"
    ):
        run("--data", str(tmp_path))


def test_a_network_in_service_that_this_release_cannot_read_is_not_learnt_from(run, visitors, make_model):
    visitors()
    torch.save({"layers.0.weight": torch.zeros(3)}, other := io.BytesIO())
    version = make_model(other.getvalue())
    with pytest.raises(SystemExit, match=f"(?s)model {version} .*Nothing was changed"):
        run()
    assert ledger.in_service() == version


def test_rolling_back_names_what_is_wrong(run):
    with pytest.raises(SystemExit, match="model.pth is in service, and there is none before it"):
        run("--rollback")
    with pytest.raises(SystemExit, match="the ledger has no model '0123456789ab'"):
        run("--rollback", "0123456789ab")
    with pytest.raises(SystemExit, match="the ledger has no model ''"):  # "$VERSION", which is not set
        run("--rollback", "")


@pytest.mark.parametrize("other", ["--dry-run", "--list"])
def test_a_rollback_is_nothing_else_beside(run, make_model, capsys, other):
    version = make_model(b"ours")
    with pytest.raises(SystemExit, match="^2$"):
        run("--rollback", other)
    assert f"{other}: not allowed with argument --rollback" in capsys.readouterr().err
    assert ledger.in_service() == version


def test_the_ledger_is_made_where_a_release_before_had_none(run, db):
    schema.postgres.writes.run("DROP TABLE models_in_service, models; DELETE FROM predictions_schema WHERE number = 4")
    assert run("--list") == f"{OURS}  model.pth: in service\n"
