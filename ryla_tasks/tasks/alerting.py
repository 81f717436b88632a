"""Telling the operator something, from anywhere in a worker."""

from __future__ import annotations

from typing import Any

from ryla_tasks.errors import StoreError
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.logs import Log
from ryla_tasks.store.targets import TargetStore

__all__ = ["HOUR_S", "tell_operator"]

log = Log(__name__)

HOUR_S = 3_600.0


def tell_operator(
    targets: TargetStore, kind: str, what: str, *, quiet_s: float = HOUR_S, job: JobRecord | None = None, **fields: Any
) -> bool:
    """Raise an alert of a kind of `ryla_tasks.alerts.kinds`, unless `what` goes on or ended less than `quiet_s` ago.
    Does not raise for want of Redis."""
    about = {"job_id": job.job_id, "endpoint": job.spec.endpoint} if job is not None else {}
    try:
        return targets.alert(f"{kind}:{what}", {"type": kind, **about, **fields}, quiet_s=quiet_s)
    except StoreError as error:
        log.warning("alert.not_told", job or "", kind=kind, error=error)
        return False
