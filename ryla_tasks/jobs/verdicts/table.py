"""The verdict table: one row for each failure that is known, in the order in which they are tried.

Sources are cited in short: `worker-comfyui#186` is an issue of runpod-workers/worker-comfyui, a page without a host
one of docs.runpod.io. "recorded" means an answer of ComfyUI 0.3.64. `docs/errors.md` is made from this table.
"""

from __future__ import annotations

from ryla_tasks.jobs.verdicts.call_rows import ABSENT, STATUS, SUBMIT
from ryla_tasks.jobs.verdicts.row import Seam
from ryla_tasks.jobs.verdicts.worker_rows import WORKER

__all__ = ["ROWS"]

#: Each place's rows are tried from the top; a failure belongs to one place only.
ROWS: tuple[Seam, ...] = (SUBMIT, STATUS, ABSENT, WORKER)
