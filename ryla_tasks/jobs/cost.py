"""What a job is likely to have cost. RunPod bills per endpoint and hour, never per job, so this is an estimate."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["estimate"]


def estimate(price_per_s: float, execution_ms: int | None, banked_ms: int = 0) -> dict[str, Any]:
    """The estimated cost in US dollars, from the execution time of all runs, each begun second billed whole.

    `usd` is None where the price or the time is not known. A worker's start and its idle time-out are billed too and
    are not in this number.
    """
    billed_s = None if execution_ms is None else math.ceil((execution_ms + banked_ms) / 1000)
    usd = round(billed_s * price_per_s, 6) if billed_s is not None and price_per_s else None
    return {"usd": usd, "billed_s": billed_s, "price_per_s": price_per_s or None}
