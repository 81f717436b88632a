"""What is kept of an ended job, so that another one like it can be made."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from ryla_tasks.errors import JobNotFound
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.store.codec import decode_record, unpack_text
from ryla_tasks.store.scripts import Scripts

__all__ = ["Kept", "KeptStore"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A job's record, its latest input as JSON, None where that is gone, and the inputs that its fallbacks name.

    `doubt` says that it ended while nobody knew whether its submit had been taken.
    """

    record: JobRecord
    input_json: str | None
    other_inputs: tuple[str, ...]
    doubt: bool


class KeptStore:
    """Looks at jobs that are to be made again. Safe for use by many threads."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._scripts = Scripts(client, prefix)

    def of(self, job_id: str) -> Kept:
        """What is kept of a job. Raises `JobNotFound`, `StoreUnavailable`."""
        _now, *found = self._scripts.call("kept", job_id)
        if not found:
            raise JobNotFound(f"There is no job {job_id}: it was never made, or its record has expired.")
        fields, packed, doubt, others = found
        return Kept(
            decode_record(job_id, fields),
            unpack_text(packed) if packed else None,
            tuple(map(unpack_text, others)),
            bool(doubt),
        )
