"""Says where pip should look for PyTorch besides the ordinary index: `make install` asks it.

    python deploy/torch_index.py https://download.pytorch.org/whl/cpu

The ordinary index has PyTorch with more than 5 GB of CUDA libraries, of no use without an NVIDIA GPU. So without one it
prints the given index of CPU builds, if that answers soon, and else an empty line. Why, it says on the standard error.
"""

import shutil
import sys
import threading
import urllib.request
from pathlib import Path

SECONDS = 5  # a network that lets nothing through must not hold up the installation
GPU_SIGNS = ("/proc/driver/nvidia", "/dev/nvidia0", "/dev/nvidiactl", "/usr/lib/wsl/lib/nvidia-smi")
ORDINARY = "PyTorch comes from the ordinary index, with its CUDA libraries"


def has_gpu(signs: tuple[str, ...] = GPU_SIGNS) -> bool:
    return shutil.which("nvidia-smi") is not None or any(Path(sign).exists() for sign in signs)


def why_not(index: str, seconds: float = SECONDS) -> str | None:
    """Ask the index for its page of PyTorch. Returns None if it answers in time, else what was wrong."""
    problem: str | None = f"no answer within {seconds:g} seconds"

    def ask() -> None:
        nonlocal problem
        try:
            with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=seconds):  # noqa: S310 (the caller's choice)
                problem = None
        except (OSError, ValueError) as error:
            problem = str(getattr(error, "reason", error))

    # In a thread, because nothing bounds the time that looking up a name takes.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return problem


def choose(index: str, gpu: bool) -> tuple[str, str]:
    """Returns (the index to look in, or an empty text for none, the sentence that says so)."""
    if gpu:
        return "", f"An NVIDIA GPU is here: {ORDINARY}."
    if sys.platform != "linux":
        return "", "PyTorch comes from the ordinary index: for this system it has no CUDA libraries there."
    if problem := why_not(index):
        return "", (
            f"No NVIDIA GPU is here, but {index} does not answer ({problem}): {ORDINARY}, of more than 5 GB. "
            "Another index with CPU builds: make install TORCH_INDEX=..."
        )
    return index, f"No NVIDIA GPU is here: PyTorch comes as its CPU build from {index}."


if __name__ == "__main__":
    chosen, sentence = choose(sys.argv[1], has_gpu())
    print(sentence, file=sys.stderr)
    print(chosen)
