"""How records, inputs and progress are written in Redis, and read again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ryla_tasks.jobs.fallback import Fallback
from ryla_tasks.jobs.money import NO_MONEY, Money
from ryla_tasks.jobs.plain_json import dumps
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import CancelReason, JobRecord, JobSpec, Observed
from ryla_tasks.jobs.states import State

__all__ = ["RECORD_FIELDS", "Meta", "decode_record", "dumps", "event_json", "pack_input", "unpack_input", "unpack_text"]

#: The fields of a record, in the order in which `commands/common.lua` returns them (its FIELDS).
RECORD_FIELDS = (
    "spec", "state", "attempt", "retries", "target", "remote_id", "correlation_id", "cancel", "observed", "created",
    "submitted", "ended", "deliveries", "delivered", "alias_of", "ending", "unanswered", "watched", "fallbacks",
    "price", "paid", "reserved", "cold_ms",
)  # fmt: skip

#: Inputs shorter than this are kept as they are: compressing them costs more than it saves.
_COMPRESS_FROM = 1_024

_PLAIN, _ZLIB = b"j", b"z"


def pack_input(text: str) -> bytes:
    """A job's input, given as JSON, as it is kept; fast rather than small."""
    raw = text.encode()
    return _PLAIN + raw if len(raw) < _COMPRESS_FROM else _ZLIB + zlib.compress(raw, 1)


def unpack_input(packed: bytes) -> Any:
    """The input that `pack_input` packed."""
    return json.loads(unpack_text(packed))


def unpack_text(packed: bytes) -> str:
    """The same as JSON."""
    body = packed[1:]
    return (zlib.decompress(body) if packed[:1] == _ZLIB else body).decode()


def decode_record(job_id: str, fields: Sequence[bytes | None]) -> JobRecord:
    """A record from the fields that `commands/common.lua` returns, in the order of its FIELDS."""
    (spec, state, attempt, retries, target, remote_id, correlation_id, cancel, observed, created, submitted, ended,
     deliveries, delivered, alias_of, ending, unanswered, watched, fallbacks, *money) = fields  # fmt: skip
    return JobRecord(
        job_id=job_id,
        spec=JobSpec.from_json(spec or b"{}"),
        state=State(_text(state)),
        attempt=int(attempt or 0),
        retries=int(retries or 0),
        target=_text(target),
        remote_id=_text(remote_id),
        correlation_id=_text(correlation_id),
        cancel=CancelReason(cancel.decode()) if cancel else None,
        observed=Observed.from_json(observed or b""),
        created=_seconds(created),
        submitted=_seconds(submitted),
        ended=_seconds(ended),
        deliveries=int(deliveries or 0),
        delivered=_seconds(delivered),
        alias_of=_text(alias_of),
        unanswered=tuple((number, target) for number, target in json.loads(unanswered)) if unanswered else (),
        fallbacks=tuple(Fallback.of(kept) for kept in json.loads(fallbacks)) if fallbacks else (),
        watched=_seconds(watched),
        ending=json.loads(ending) if ending else None,
        money=_money(*money) if any(money) else NO_MONEY,
    )


def event_json(kind: str, record: JobRecord, now: float, /, **more: Any) -> str:
    """An event of a job's stream: what happened, and how the job stands after it."""
    return dumps({"type": kind, **progress_of(record, now).to_json(), **more})


@dataclass(frozen=True, slots=True)
class Meta:
    """Writes a job's progress as Celery's Redis result backend would, so that `AsyncResult` shows it.

    `key_prefix` is what the backend's `get_key_for_task(id)` puts before the id, `ttl_s` its `result_expires`.
    Format: celery/backends/base.py, `_get_result_meta`.
    """

    key_prefix: str
    ttl_s: int

    def of(self, record: JobRecord, now: float) -> Mapping[str, Any]:
        """The key, value and time to live of a job's PROGRESS."""
        value = self.value(record.job_id, progress_of(record, now).to_json())
        return {"key": self.key(record.job_id), "value": value, "ttl": self.ttl_s}

    def key(self, job_id: str) -> str:
        """Where Celery keeps the result of a task."""
        return self.key_prefix + job_id

    def value(self, job_id: str, progress: Mapping[str, Any]) -> str:
        """The PROGRESS result of a task."""
        return json.dumps(
            {
                "status": "PROGRESS",
                "result": {"job_id": job_id, **progress},
                "traceback": None,
                "children": [],
                "date_done": None,
                "task_id": job_id,
            }
        )


def _money(price: bytes | None, paid: bytes | None, reserved: bytes | None, cold_ms: bytes | None) -> Money:
    """The account of a job; `price` holds what a second costs of a run, and of a worker's start."""
    run, start = (price or b"0 0").split()
    return Money(float(run), float(start), int(paid or 0), int(reserved or 0), int(cold_ms or 0))


def _text(value: bytes | None) -> str:
    return value.decode() if value else ""


def _seconds(value: bytes | None) -> float:
    return int(value) / 1e6 if value else 0.0
