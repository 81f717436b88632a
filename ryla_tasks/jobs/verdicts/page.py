"""docs/errors.md, made from the verdict table: a test fails where the two differ."""

from __future__ import annotations

from ryla_tasks.jobs.verdicts.row import Row
from ryla_tasks.jobs.verdicts.table import ROWS

__all__ = ["page"]

_HEAD = """\
# Errors and what follows from them

Made from the table in `ryla_tasks/jobs/verdicts` by `python -m ryla_tasks.jobs.verdicts > docs/errors.md`; do not edit.

Every failure that can be seen has one verdict. A job that ends by it raises a `JobError` whose message is the sentence,
and whose `.info` has the `code` (stable, for programs), the `category`, and `details` for a developer: what was said
where, and `nodes` where ComfyUI tells which (`node`, `class`, `input`, `type`, `reason`).

| category | meaning |
|---|---|
| transient | it may well work if tried again later |
| recoverable | look again, judge by the circumstances |
| permanent | the same would fail again |
| fatal | nothing will work until somebody acts |

In each table the rows are tried from the top, and the first that matches counts. Sources: a page without a host is one
of docs.runpod.io, `name#1` an issue on GitHub, "recorded" an answer of ComfyUI 0.3.64. Each row is tested from a
payload in `tests/data/verdicts`.
"""

_TAIL = """\

## New attempts

- A refused submit is tried again where the task's `autoretry_for` covers the error; by default a `TransientError`.
- A failed remote job is tried again where `autoretry_for` lists its error (`JobFailed`, `JobTimedOut`). Otherwise the
  verdict decides, for tasks that cover `TransientError`: transient as often as `max_retries` allows, recoverable once
  (never for the kind `lora`, whose runs take hours), permanent and fatal never.
- *Crash* marks what an input may cause. Once two GPU workers broke off over a job it ends with the code `poison_input`,
  whatever its task lists. Runs that RunPod repeated by itself before an attempt ended so count too.
- What an endpoint does not know any more is not tried again, because it may still run and be paid for.
- Where no other attempt may follow, a job takes its next fallback that lists the code (see `fallbacks.md`): permanent
  and fatal failures at once, others when their attempts are used up.

## Other ends

| code | error | when |
|---|---|---|
| `poison_input` | `JobFailed` | two GPU workers broke off over the job |
| `output_missing` | `OutputMissing` | COMPLETED without output; so does one over RunPod's limit (worker-comfyui#129) |
| `output_invalid` | `OutputInvalid` | damaged files, too many or too large, or fewer images than asked for |
| `uncollected` | `JobFailed` | done, but its result could not be fetched and stored for about 50 minutes |
| `cancelled`, `revoked` | `JobCancelled` | by `Job.cancel()`, by Celery's revoke |
| `deadline` | `JobTimedOut` | `deadline_s` passed |
| `start_by` | `JobExpired` | `expires` passed before it started |
| `cell_lost` | `JobFailed` | a cell of a sheet could not be made, or its record is gone |
| `budget_job`, `budget_user`, `budget_endpoint` | `BudgetExceeded` | it would cost, or has cost, more than \
its own ceiling, its user's day or its endpoint's day allows ([costs](costs.md)) |
"""


def page() -> str:
    """The page as Markdown."""
    tables = []
    for seam in ROWS:
        lines = [
            f"\n## {seam.title}\n",
            "| code | seen as | category | next | sentence | source |",
            "|---|---|---|---|---|---|",
        ]
        tables.append("\n".join([*lines, *(_line(row) for row in seam.rows)]) + "\n")
    return _HEAD + "".join(tables) + _TAIL


def _line(row: Row) -> str:
    crash = " *Crash.*" if row.crash else ""
    cells = (f"`{row.code}`", f"{row.when}{crash}", str(row.category), row.next.words, row.sentence, row.source)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
