"""docs/logs.md, made from the table of events: a test fails where the two differ."""

from __future__ import annotations

from ryla_tasks.logs.events import EVENTS

__all__ = ["page"]

_HEAD = """\
# Logs

Made from the table in `ryla_tasks/logs` by `python -m ryla_tasks.logs > docs/logs.md`; do not edit.

A line is an event with a name and fields. A line about a job says which job, whose it is, and where it is, as far as
that is known:

| field | meaning |
|---|---|
| `job` | the job's id, which is its Celery task's |
| `user` | its `user_id` |
| `endpoint` | the endpoint's name in the settings |
| `target` | the endpoint at the cloud that the attempt went to |
| `attempt` | the number of the submit, from 1 |
| `remote` | the remote job's id at the cloud |

`RYLA_LOG_FORMAT=console`, the default, writes text:

    2026-11-26 11:30:12,345 INFO ryla_tasks.tasks.submit ThreadPoolExecutor-0_1: submit.accepted job=5f0c user=42 \
endpoint=image target=runpod:abc123 attempt=1 remote=1f2e-u1 orphan=False

`RYLA_LOG_FORMAT=json` writes a JSON object a line, with `time` (UTC), `level`, `logger`, `pid`, `thread`, `event`,
`message`, the fields, and `exc_info` with the traceback of an error. Celery's own lines have no `event`; those about
a task have `task` and `job`. Lines go to standard error. What Celery prints when it is told to stop goes to standard
output; its banner is left out with `json`.

A value is one line and one field in either format, whatever it holds: in text it is quoted where it is more than a
plain word, and control characters are written out. Prompts, inputs, outputs and keys are in no line; URLs are cut to
scheme and host. User ids are shown.

## Which processes

`ryla worker` and `celery -A ryla_tasks worker` (or `-A workers.celery_worker`) log so by themselves, and so do the
other services of `ryla`. A worker of your own app, with `ryla_tasks.install(app)`, logs as your app does, unless
`RYLA_LOG_FORMAT` is set; where you set up its logging yourself (Celery's signal `setup_logging`), it always does. Web
processes are yours, too: the lines go to the standard library's loggers under `ryla_tasks`, and your handlers find
the fields as attributes of the log record (`record.event`, `record.job`, ...). `ryla_tasks.logs.setup.use_format()`
gives a program of yours the same lines.

## Events

Names and fields of events are public; a name does not change its meaning.

| event | meaning |
|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    return _HEAD + "".join(f"| `{name}` | {meaning} |\n" for name, meaning in EVENTS.items())
