"""The network: what it promises of every prediction, and what it says of files that are not its own."""

import hashlib
import io
import json
import pickle
import shutil
import threading
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from helpers import until
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

import model as model_module
from model import DigitNet, ModelError, Prediction, Served, load_model, predict, read_model
from store import table
from training import gate
from utils import preprocess_gray, render_strokes, side_by_side_gray

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model():
    return load_model(ROOT / "model.pth")


@pytest.fixture
def copy(tmp_path):
    """A copy of the weights and of what is said of them, to spoil."""
    for name in ("model.pth", "model.json"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path / "model.pth"


def declare(path: Path) -> None:
    """Makes model.json describe the file as it now is."""
    path.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))


def test_the_network_is_as_small_as_promised():
    assert sum(p.numel() for p in DigitNet().parameters()) <= 350_000
    assert (ROOT / "model.pth").stat().st_size <= 1_500_000


@settings(deadline=None, max_examples=100)
@given(x=arrays.arrays(np.float32, (1, 1, 28, 28), elements={"min_value": 0, "max_value": 1}))
def test_every_prediction_is_a_distribution_over_ten_digits_and_says_apart_how_likely_none_is(model, x):
    p = predict(model, torch.from_numpy(x))
    assert len(p.probabilities) == 10 and all(0 <= q <= 1 for q in p.probabilities) and 0 <= p.not_a_digit <= 1
    assert sum(p.probabilities) == pytest.approx(1, abs=1e-9)
    assert p.parts == ()
    assert p.confidence == max(p.probabilities) == p.probabilities[p.digit]


def test_simple_digits_are_read_and_a_scribble_is_not(model):
    one = [[(140, 40), (140, 240)]]
    seven = [[(60, 50), (220, 50), (130, 240)]]
    zero = [[(140 + 70 * np.sin(t), 140 - 95 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 40)]]
    for digit, strokes in ((1, one), (7, seven), (0, zero)):
        p = predict(model, preprocess_gray(render_strokes(strokes)))
        assert p.digit == digit and p.confidence > 0.8 and p.not_a_digit < 0.1
    rng = np.random.default_rng(0)
    p = predict(model, preprocess_gray(render_strokes([rng.uniform(20, 260, (25, 2))])))
    assert p.not_a_digit > 0.5


def test_of_digits_side_by_side_each_is_read_and_a_digit_of_several_strokes_is_one(model):
    one = [[(100, 60), (100, 200)]]
    seven = [[(150, 65), (230, 65), (180, 200)]]
    zero = [[(200 + 45 * np.sin(t), 130 - 65 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 40)]]
    for strokes, parts in (
        (one + seven, (1, 7)),
        (one + zero, (1, 0)),
        (zero, ()),
        (one + [[(150, 130), (151, 130)]], ()),  # a dot
        ([[(90, 60), (60, 150), (150, 150)], [(140, 90), (140, 220)]], ()),  # a four
    ):
        canvas = render_strokes(strokes)
        assert predict(model, preprocess_gray(canvas), side_by_side_gray(canvas)).parts == parts


def test_of_what_is_side_by_side_and_no_digits_no_part_is_named(model):
    rng = np.random.default_rng(0)
    scribbles = render_strokes([rng.uniform(20, 120, (20, 2)), rng.uniform(160, 260, (20, 2))])
    parts = side_by_side_gray(scribbles)
    assert len(parts) == 2
    assert predict(model, preprocess_gray(scribbles), parts).parts == ()


@pytest.mark.parametrize("shape", [(28, 28), (2, 1, 28, 28), (1, 3, 28, 28), (1, 1, 27, 28)])
def test_a_picture_of_another_shape_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"\(1, 1, 28, 28\)"):
        predict(model, torch.zeros(shape))


def test_prediction_takes_one_thread_whichever_thread_asks(model):
    seen = []
    thread = threading.Thread(
        target=lambda: (predict(model, torch.zeros(1, 1, 28, 28)), seen.append(torch.get_num_threads()))
    )
    thread.start()
    thread.join()
    assert seen == [1]


def test_the_weights_are_those_that_model_json_describes(model):
    described = json.loads((ROOT / "model.json").read_text())
    assert described["sha256"] == hashlib.sha256((ROOT / "model.pth").read_bytes()).hexdigest()
    assert model.version == described["sha256"][:12]


def test_loading_freezes_the_network(model):
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_a_missing_file_is_said_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(ModelError, match=r"model\.pth cannot be read .*python train\.py"):
        load_model(tmp_path / "model.pth")


def test_a_missing_description_is_said(copy):
    copy.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"model\.json cannot be read .*python train\.py"):
        load_model(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_damaged_description_is_said(copy, text):
    copy.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json is damaged.*python train\.py"):
        load_model(copy)


def test_a_single_changed_byte_is_refused(copy):
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(ModelError, match=r"is not the file whose SHA-256 is [0-9a-f]{12}….*python train\.py"):
        load_model(copy)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was run",))


@pytest.mark.parametrize("kind", ["truncated", "pickle", "another network", "a tensor"])
def test_a_file_that_holds_something_else_is_refused_and_never_run(copy, kind):
    if kind == "truncated":
        copy.write_bytes(copy.read_bytes()[:1000])
    elif kind == "pickle":
        copy.write_bytes(pickle.dumps(Exploit()))
    else:
        buffer = io.BytesIO()
        torch.save(torch.nn.Linear(2, 2).state_dict() if kind == "another network" else torch.zeros(3), buffer)
        copy.write_bytes(buffer.getvalue())
    declare(copy)
    with pytest.raises(ModelError, match=r"does not hold this network's weights.*python train\.py"):
        load_model(copy)


def test_the_served_network_answers_as_the_one_in_the_file():
    torch.manual_seed(0)
    plain, served = load_model(ROOT / "model.pth"), Served().network()
    assert served.version == plain.version
    assert Served().network() is served  # loaded once
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in served.modules())
    for _ in range(20):
        picture = torch.rand(1, 1, 28, 28) ** 4
        one, other = predict(plain, picture), predict(served, picture)
        assert one.digit == other.digit
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
        assert one.not_a_digit == pytest.approx(other.not_a_digit, abs=1e-6)


def test_a_network_that_is_taken_up_answers_as_a_whole_until_model_pth_does_again():
    torch.manual_seed(0)
    served, picture = Served(), torch.rand(1, 1, 28, 28) ** 4
    plain = served.network()
    for seed in (1, 2):
        data = networks.weights(seed)
        served.take_up(data, networks.sha256(data))
        said, expected = (predict(n, picture) for n in (served.network(), read_model(data, networks.sha256(data), "")))
        assert said.model_version == expected.model_version == networks.version(data)
        assert said.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert said.probabilities != pytest.approx(predict(plain, picture).probabilities, abs=1e-4)
    served.take_up(None, "")
    assert served.network() is plain


def test_every_answer_is_of_one_network_while_others_are_taken_up():
    torch.manual_seed(0)
    served, picture, ending = Served(), torch.rand(1, 1, 28, 28) ** 4, threading.Event()
    choices = [(data, networks.sha256(data)) for data in map(networks.weights, (1, 2))]
    expected, said = {}, set()
    for choice in choices:
        served.take_up(*choice)
        expected[served.network().version] = predict(served.network(), picture)

    def change():
        while not ending.is_set():
            for choice in choices:
                served.take_up(*choice)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        until(lambda: said.add(predict(served.network(), picture)) or {p.model_version for p in said} == {*expected})
        for _ in range(100):
            said.add(predict(served.network(), picture))
    finally:
        ending.set()
        changing.join()
    for prediction in said:
        assert prediction.probabilities == pytest.approx(expected[prediction.model_version].probabilities, abs=1e-6)


@pytest.mark.parametrize("kind", ["damaged", "another's", "pickle", "another network"])
def test_what_cannot_be_taken_up_leaves_the_network_that_there_is(kind):
    served, data, other = Served(), networks.weights(1), networks.weights(2)
    served.take_up(data, networks.sha256(data))
    digest = networks.sha256(other)
    if kind == "damaged":
        other = networks.damaged(other)
    elif kind == "another's":
        digest = networks.sha256(b"another's")
    else:
        other = pickle.dumps(Exploit()) if kind == "pickle" else networks.saved(torch.nn.Linear(2, 2).state_dict())
        digest = networks.sha256(other)
    with pytest.raises(ModelError, match=f"model {digest[:12]} (is damaged|does not hold this network's weights)"):
        served.take_up(other, digest)
    assert served.network().version == networks.version(data)


def test_without_model_pth_what_was_taken_up_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(model_module, "SERVED", tmp_path / "model.pth")
    served, data = Served(), networks.weights(1)
    with pytest.raises(ModelError):
        served.network()
    served.take_up(data, networks.sha256(data))
    with pytest.raises(ModelError):
        served.take_up(None, "")
    assert served.network().version == networks.version(data)


def test_the_point_is_the_same_for_predictions_and_for_rows():
    assert model_module.NO_DIGIT_ABOVE == table.NO_DIGIT_ABOVE == gate.NO_DIGIT_ABOVE
    assert Prediction(7, 1.0, (), table.NO_DIGIT_ABOVE).is_digit
