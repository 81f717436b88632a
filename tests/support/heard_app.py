"""An app that writes down, in the file HEARD, which ends it heard of; the first HEARD_FAILS times of a job it fails."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ryla_tasks import app
from ryla_tasks.signals import job_ended

__all__ = ["app"]

_tries: Counter[str] = Counter()


@job_ended.connect(weak=False)
def note(sender: Any, job: Any, record: Any, **_more: Any) -> None:
    _tries[job.id] += 1
    line = {
        "job": job.id,
        "state": record.state,
        "user": record.spec.user_id,
        "ended": job.status.ended,
        "try": _tries[job.id],
    }
    with Path(os.environ["HEARD"]).open("a") as file:
        file.write(json.dumps(line) + "\n")
    if _tries[job.id] <= int(os.environ.get("HEARD_FAILS", "0")):
        raise SystemExit(3) if os.environ.get("HEARD_LEAVES") else OSError("the database is away")
