"""Sheets in Redis: taking one to make its cells, and how its cells stand."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.sheet import CellState
from ryla_tasks.store.answers import Delivery, Refusal, Refused, deliveries_of
from ryla_tasks.store.codec import decode_record, dumps, unpack_input
from ryla_tasks.store.scripts import Scripts

__all__ = ["SheetClaim", "SheetStore", "SheetView"]


@dataclass(frozen=True, slots=True)
class SheetClaim:
    """A sheet whose cells are ours to make until the lease ends. `plan` is its input, `words` its cells' words."""

    record: JobRecord
    fence: str
    taken: float
    plan: Any
    words: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SheetView:
    """The cells of a sheet, in its order, and its input; None where that is gone."""

    cells: tuple[CellState, ...]
    plan: Any


class SheetStore:
    """Sheets. Safe for use by many threads; every method is one round trip. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._scripts = Scripts(client, prefix)

    def claim(self, job_id: str, *, lease_s: float) -> SheetClaim | Refused:
        """Take a sheet whose cells are to be made; from then on it runs."""
        taken = time.monotonic()
        wish = {"id": job_id, "lease_ms": round(lease_s * 1000), "fence": secrets.randbelow(999) + 1}
        word, ms, *rest = self._scripts.call("claim_spread", dumps(wish))
        if not rest:
            return Refused(Refusal(word.decode()), ms / 1000)
        _id, fence, _now, fields, packed, words = rest
        record = decode_record(job_id, fields)
        return SheetClaim(record, fence.decode(), taken, unpack_input(packed) if packed else None, _pairs(words))

    def spread(self, claim: SheetClaim, lost: Mapping[str, str]) -> tuple[bool, tuple[Delivery, ...]]:
        """All cells are made but those that are `lost`, by name and why. False where the lease was lost, and the
        deliveries to send."""
        wish = {"id": claim.record.job_id, "fence": claim.fence, "lost": [list(pair) for pair in lost.items()]}
        counted, out = self._scripts.call("spread_done", dumps(wish))
        return bool(counted), deliveries_of(out)

    def view(self, sheet: JobRecord) -> SheetView:
        """How the cells of a sheet stand."""
        packed, rows = self._scripts.call("cells", sheet.job_id)
        plan = unpack_input(packed) if packed else None
        kept: Mapping[str, Any] = (plan or {}).get("kept", {})
        found = {name.decode(): _cell(sheet.job_id, name, word, fields, kept) for name, word, fields in rows}
        return SheetView(tuple(found.get(name) or CellState(name, "gone") for name in sheet.spec.cells), plan)


def _cell(sheet: str, name: bytes, word: bytes, fields: Any, kept: Mapping[str, Any]) -> CellState:
    text = name.decode()
    first, _, why = word.decode().partition(" ")
    record = decode_record(f"{sheet}-{text}", fields) if fields else None
    if record is not None and record.spec.sheet != sheet:
        record = None
    return CellState(text, first, why if first == "gone" else "", record, kept.get(text))


def _pairs(flat: list[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in flat]
    return dict(zip(texts[0::2], texts[1::2], strict=True))
