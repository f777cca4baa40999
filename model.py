"""The network, and what it says of a 28×28 picture.

It has eleven outputs: the ten digits, and "none of them". The softmax over all eleven is calibrated by one temperature,
which `train.py` fits on held-out training images and stores with the weights.
"""

import functools
import gc
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

NOT_A_DIGIT = 10  # the eleventh output


class ModelError(RuntimeError):
    """model.pth is missing, damaged, or not the one that model.json describes; the text says what to do."""


class DigitNet(nn.Module):
    """(n, 1, 28, 28) float32 in 0..1 → (n, 11) logits, already divided by the temperature."""

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) / self.temperature


def conv(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    """3×3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


@dataclass(frozen=True)
class Prediction:
    digit: int  # the likeliest of the ten
    confidence: float  # its probability
    probabilities: tuple[float, ...]  # of the ten digits
    not_a_digit: float  # 0..1; together with the ten it sums to 1


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
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise ModelError(
            f"{path} is damaged, or is not the file that {path.with_suffix('.json')} describes: {made_by}."
        )
    model = DigitNet()
    try:
        model.load_state_dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, KeyError and more
        raise ModelError(f"{path} does not hold this network's weights: {made_by}.") from error
    model.version = digest[:12]
    return model.eval().requires_grad_(False)


def predict(model: DigitNet, x: torch.Tensor) -> Prediction:
    """(1, 1, 28, 28) float32 in 0..1, as `utils.preprocess` makes it → Prediction; ValueError on another shape."""
    if tuple(x.shape) != (1, 1, 28, 28):
        raise ValueError(f"predict takes one picture of shape (1, 1, 28, 28), not {tuple(x.shape)}")
    torch.set_num_threads(1)  # on every call: the number belongs to the thread, and Streamlit reruns on new ones
    with torch.inference_mode():
        p = model(x)[0].double().softmax(dim=0).tolist()
    digits = tuple(p[:NOT_A_DIGIT])
    digit = max(range(10), key=digits.__getitem__)
    return Prediction(digit, digits[digit], digits, p[NOT_A_DIGIT])


@functools.cache
def freeze() -> None:
    """Take all that is loaded out of garbage collection: PyTorch's objects alone hold every session for some 90 ms.

    Only the first call does so: what is frozen is never freed, and a later one would keep the garbage of that moment.
    """
    gc.collect()
    gc.freeze()
