"""What the gallery keeps of each job: a row of its own, written when the job is accepted and when it has ended.

The web process writes down what was asked for, the worker what has become of it. Both may come twice, and in either
order, so each only sets what it knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from flask import Flask, current_app

from ryla_tasks import Job
from ryla_tasks.contrib.flask import Visitor, job_accepted, job_ended
from ryla_tasks.jobs.record import JobRecord

__all__ = ["cost_of", "init_app", "remove", "rows_of"]

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id   TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    task     TEXT NOT NULL DEFAULT '',
    title    TEXT NOT NULL DEFAULT '',      -- the prompt, or the word that a training is for
    status   TEXT NOT NULL DEFAULT '',      -- empty until it has ended
    problem  TEXT NOT NULL DEFAULT '',
    template TEXT NOT NULL DEFAULT '',
    seed     TEXT NOT NULL DEFAULT '',      -- a seed has 64 bits, and SQLite's numbers have a sign
    cost_usd REAL,
    files    INTEGER NOT NULL DEFAULT 0,
    made_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
)
"""


def init_app(app: Flask) -> None:
    """Make the table, and listen to what becomes of jobs."""
    with _open(app) as database:
        database.execute(_TABLE)
    job_accepted.connect(note_wish, app)
    job_ended.connect(save_result, app)


def note_wish(app: Flask, *, job: Job, visitor: Visitor, wish: Mapping[str, Any], **_more: Any) -> None:
    """What was asked for; in the web process."""
    title = wish.get("prompt") or wish.get("trigger_word") or ""
    with _open(app) as database:
        database.execute(
            "INSERT INTO jobs (job_id, owner, task, title) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET task = excluded.task, title = excluded.title",
            (job.id, visitor.user_id, wish["task"], title),
        )


def save_result(app: Flask, *, job: Job, record: JobRecord, **_more: Any) -> None:
    """What has become of it; in the worker, at least once."""
    result = (record.ending or {}).get("result") or {}
    problem = "" if job.error is None else str(job.error)
    row = (
        job.id,
        record.spec.user_id,
        str(record.state),
        problem,
        result.get("label", ""),
        str(result.get("seed") or ""),
        job.cost,
        len(job.artifacts),
    )
    with _open(app) as database:
        database.execute(
            "INSERT INTO jobs (job_id, owner, status, problem, template, seed, cost_usd, files) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status, "
            "problem = excluded.problem, template = excluded.template, seed = excluded.seed, "
            "cost_usd = excluded.cost_usd, files = excluded.files",
            row,
        )


def rows_of(owner: str, task: str, most: int = 200) -> list[dict[str, Any]]:
    """Somebody's jobs of one kind, newest first."""
    with _open(current_app) as database:
        found = database.execute(
            "SELECT * FROM jobs WHERE owner = ? AND task = ? ORDER BY made_at DESC LIMIT ?", (owner, task, most)
        )
        return [dict(row) for row in found]


def cost_of(owner: str) -> float:
    """What somebody's jobs have cost, in US dollars, whether they gave a picture or not."""
    with _open(current_app) as database:
        (cost,) = database.execute("SELECT TOTAL(cost_usd) FROM jobs WHERE owner = ?", (owner,)).fetchone()
    return float(cost)


def remove(owner: str, job_id: str) -> bool:
    """Forget an ended job that gave nothing; its cost stays counted."""
    with _open(current_app) as database:
        done = database.execute(
            "UPDATE jobs SET task = '' WHERE owner = ? AND job_id = ? AND status NOT IN ('', 'completed')",
            (owner, job_id),
        )
        return done.rowcount > 0


@contextmanager
def _open(app: Flask) -> Iterator[sqlite3.Connection]:
    """A connection for one piece of work: committed, or rolled back where it fails, and closed."""
    with closing(sqlite3.connect(app.config["DATABASE"], timeout=10)) as database:
        database.row_factory = sqlite3.Row
        with database:
            yield database
