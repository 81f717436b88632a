"""What a second of a GPU costs on RunPod serverless.

Source: the price table of RunPod's serverless documentation, June 2026; flex and active workers cost the same. RunPod
bills from a worker's start to its stop, rounded up to the second, so an estimate made from a job's own time is a lower
bound. A price that has changed since is set on the target (`price_per_s`).
"""

from __future__ import annotations

import re

__all__ = ["GPU_PRICES", "PRICES_AS_OF", "price_per_second"]

PRICES_AS_OF = "2026-06"

GPU_PRICES: dict[str, float] = {
    "A4000": 0.00016,
    "A4500": 0.00016,
    "RTX 4000": 0.00016,
    "L4": 0.00019,
    "A5000": 0.00019,
    "RTX 3090": 0.00019,
    "RTX 4090": 0.00031,
    "A6000": 0.00034,
    "A40": 0.00034,
    "L40": 0.00053,
    "L40S": 0.00053,
    "RTX 6000 Ada": 0.00053,
    "A100": 0.00076,
    "RTX PRO 6000": 0.00111,
    "H100": 0.00116,
    "H200": 0.00155,
    "B200": 0.00240,
}
"""US dollars a second, by the GPU's short name."""

# Words that do not tell apart two rows of the table: maker, family, memory size, socket. "Ada" stays, because an
# RTX 6000 Ada, an A6000 and an RTX PRO 6000 are three different cards.
_NOISE = re.compile(
    r"\b(NVIDIA|GEFORCE|TESLA|QUADRO|RTX|GENERATION|BLACKWELL|SERVER|WORKSTATION|EDITION"
    r"|PCIE|SXM\d?|HBM\d\w?|\d+ ?GB)\b"
)


def _canonical(gpu: str) -> str:
    words = _NOISE.sub(" ", re.sub(r"[\s_-]+", " ", gpu.upper())).split()
    if words[:1] == ["4000"]:  # there is only one RTX 4000 on RunPod, with and without "Ada" in its name
        words = ["4000"]
    return " ".join(words)


_BY_CANONICAL_NAME = {_canonical(name): price for name, price in GPU_PRICES.items()}


def price_per_second(gpu: str) -> float | None:
    """US dollars for one second of `gpu`, or None when the name is not in the table.

    Names are taken as RunPod's console, its API and nvidia-smi write them: "RTX 4090", "4090", "NVIDIA GeForce RTX
    4090" and "NVIDIA A100 80GB PCIe" are all found.
    """
    return _BY_CANONICAL_NAME.get(_canonical(gpu))
