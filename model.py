"""The network, and what it says of a 28×28 picture.

It has eleven outputs, the ten digits and "none of them", and answers two questions apart. Which digit, if it is one?
The softmax of the ten, calibrated by one temperature. Is it one at all? The eleventh against the ten, moved and scaled
so that a half is the point at which a drawing is turned away. `train.py` fits these three numbers and stores them with
the weights: a confidence, and a half, mean the same for every model.
"""

import base64
import functools
import gc
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

SERVED = Path(__file__).parent / "model.pth"  # serves until another network is taken up
NOT_A_DIGIT = 10  # the eleventh output
NO_DIGIT_ABOVE = 0.5  # `not_a_digit` above which a drawing is turned away; store/table.py has the same for the rows
PART_CONFIDENCE, PART_DOUBT = 0.8, 0.5  # what a part must reach, and not exceed, to be taken for a digit of its own


class ModelError(RuntimeError):
    """Weights are missing, damaged, not those that they should be, or another network's; the text says which."""


class DigitNet(nn.Module):
    """(n, 1, 28, 28) float32 in 0..1 → (n, 11) logits; `answers` makes probabilities of them."""

    temperature: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    version = "untrained"  # twelve hexadecimal digits of the file's SHA-256, once loaded

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *conv(1, 16), *conv(16, 16), nn.MaxPool2d(2),
            *conv(16, 48), *conv(48, 48), nn.MaxPool2d(2),
            *conv(48, 96), *conv(96, 96), *conv(96, 96), nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 4 * 4, 11),
        )  # fmt: skip
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits

    def answers(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 1, 28, 28) → (n, 10) float64 probabilities of the digits, if it is one, and (n,) that it is none."""
        logits = self(x).double()
        probabilities = (logits[:, :NOT_A_DIGIT] / self.temperature).softmax(dim=1)
        return probabilities, (self.scale * log_odds(logits) + self.shift).sigmoid()


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """(n, 11) logits → (n,): those of "none of them" against the ten digits together."""
    return logits[:, NOT_A_DIGIT] - logits[:, :NOT_A_DIGIT].logsumexp(dim=1)


def conv(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    """3×3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


@dataclass(frozen=True)
class Prediction:
    digit: int  # the likeliest of the ten
    confidence: float  # its probability, if the drawing is a digit
    probabilities: tuple[float, ...]  # of the ten digits, if it is one; they sum to 1
    not_a_digit: float  # 0..1; above a half the page turns the drawing away
    parts: tuple[int, ...] = ()  # the digits seen, left to right, where several are drawn side by side
    model_version: str = ""  # of the network that says this

    @property
    def is_digit(self) -> bool:
        """Whether the page takes it for a digit; at a half it does."""
        return self.not_a_digit <= NO_DIGIT_ABOVE

    def as_json(self, picture: bytes) -> dict[str, Any]:
        """What is said of a drawing by `POST /answer` and to the page. picture: the 28×28 that was read, as PNG."""
        return asdict(self) | {"picture": base64.b64encode(picture).decode()}


def load_model(path: str | Path = "model.pth") -> DigitNet:
    """The network with trained weights, in eval mode, ready to serve on one thread a request.

    The file must be the one whose SHA-256 stands in the `.json` beside it. Raises ModelError.
    """
    path, made_by = Path(path), "make one with `python train.py`"
    try:
        data = path.read_bytes()
        expected = json.loads(path.with_suffix(".json").read_text())["sha256"]
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read ({error.strerror}): {made_by}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path.with_suffix('.json')} is damaged: {made_by}.") from error
    try:
        return read_model(data, expected, str(path))
    except ModelError as error:
        raise ModelError(f"{error}: {made_by}.") from error


def read_model(weights: bytes, sha256: str, name: str) -> DigitNet:
    """As `load_model`, of the bytes of a file. sha256: what theirs must be; name: what an error calls them.

    Raises ModelError.
    """
    digest = hashlib.sha256(weights).hexdigest()
    if digest != sha256:
        raise ModelError(f"{name} is damaged, or is not the file whose SHA-256 is {sha256!s:.12}…")
    model = DigitNet()
    try:
        model.load_state_dict(torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, KeyError and more
        raise ModelError(f"{name} does not hold this network's weights") from error
    model.version = digest[:12]
    return model.eval().requires_grad_(False)


class Served:
    """The network that answers in this process: that of model.pth, until another is taken up. From any thread.

    Who answers asks for it once for a whole answer, and keeps it no longer: it is replaced whole, by one assignment.
    """

    def __init__(self) -> None:
        self._network: DigitNet | None = None

    def network(self) -> DigitNet:
        """Raises ModelError where there is none, and tries again at the next call."""
        return self._network or of_file(SERVED)

    def take_up(self, weights: bytes | None, sha256: str) -> None:
        """Have these weights answer from now on; None: those of model.pth. Raises ModelError, and nothing changes."""
        torch.set_num_threads(1)  # else PyTorch makes helpers for this thread, which it keeps
        if weights is None:
            self._network = of_file(SERVED)
        else:
            self._network = fold(read_model(weights, sha256, f"model {sha256[:12]}"))


served = Served()


@functools.cache
def of_file(path: Path) -> DigitNet:
    """`load_model(path)`, once for the whole process."""
    return fold(load_model(path))


def fold(model: DigitNet) -> DigitNet:
    """Its batch normalisations taken into the convolutions before them, and its dropout out: a third faster.

    Its probabilities stay the same within 1e-6. For answering alone: such a network cannot be trained, or saved.
    """
    layers: list[nn.Module] = []
    for layer in model.layers:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)  # type: ignore[type-var]
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    model.layers = nn.Sequential(*layers)
    return model.requires_grad_(False)


def predict(model: DigitNet, x: torch.Tensor, parts: Sequence[torch.Tensor] = ()) -> Prediction:
    """(1, 1, 28, 28) float32 in 0..1, as `utils.preprocess` makes it → Prediction; ValueError on another shape.

    parts: the same of each part of the drawing, as `utils.side_by_side` makes them, to see whether they are digits.
    """
    for picture in (x, *parts):
        if tuple(picture.shape) != (1, 1, 28, 28):
            raise ValueError(f"predict takes one picture of shape (1, 1, 28, 28), not {tuple(picture.shape)}")
    whole, *of_parts = predict_all(model, [x, *parts])
    several = bool(parts) and all(p.confidence >= PART_CONFIDENCE and p.not_a_digit <= PART_DOUBT for p in of_parts)
    return replace(whole, parts=tuple(p.digit for p in of_parts)) if several else whole


def predict_all(model: DigitNet, pictures: Sequence[torch.Tensor]) -> list[Prediction]:
    """What `predict` says of each, looked at in one batch and for no parts."""
    if not pictures:
        return []
    torch.set_num_threads(1)  # on every call: the number belongs to the thread, and Streamlit reruns on new ones
    with torch.inference_mode():
        probabilities, not_a_digit = (answer.tolist() for answer in model.answers(torch.cat(list(pictures))))
    return [
        Prediction(digit := max(range(10), key=p.__getitem__), p[digit], tuple(p), none, (), model.version)
        for p, none in zip(probabilities, not_a_digit, strict=True)
    ]


@functools.cache
def freeze() -> None:
    """Take all that is loaded out of garbage collection: PyTorch's objects alone hold every session for some 90 ms.

    Only the first call does so: what is frozen is never freed, and a later one would keep the garbage of that moment.
    """
    gc.collect()
    gc.freeze()
