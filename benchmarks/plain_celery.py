"""The same work in plain Celery, as a competent user would write it: one task that submits and then polls its job by
sending itself again with a countdown.

- a pooled `requests.Session`, which does not read proxies from the environment on each call
- `acks_late`, so that a worker's death does not lose a message; JSON; the threads pool; events on (`-E`)
- PROGRESS by `update_state` on each poll
- the self-requeue is `signature_from_request(...)` and `Ignore`, not `retry()`: that costs less, and `retry()` would
  write RETRY over PROGRESS

It has none of the fences, the limits for the whole fleet, the record, or the recovery of lost messages.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import requests
from celery import Celery, Task
from celery.exceptions import Ignore

REDIS_URL = os.environ.get("RYLA_REDIS_URL", "redis://127.0.0.1:6379/0")
BASE_URL = os.environ.get("RYLA_RUNPOD_URL", "https://api.runpod.ai/v2")
ENDPOINT = os.environ.get("PLAIN_ENDPOINT", "")
POLL_S = float(os.environ.get("PLAIN_POLL_S", "2"))

app = Celery("plain", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 3600},
    broker_connection_retry_on_startup=True,
    task_default_queue="plain",
    result_expires=86_400,
)

_local = threading.local()


def session() -> requests.Session:
    """One session a thread: `requests` does not promise that one may be shared."""
    if not hasattr(_local, "session"):
        made = requests.Session()
        made.trust_env = False
        made.headers["Authorization"] = f"Bearer {os.environ.get('RUNPOD_API_KEY', '')}"
        _local.session = made
    made_before: requests.Session = _local.session
    return made_before


def call(method: str, path: str, **options: Any) -> dict[str, Any]:
    answer = session().request(method, f"{BASE_URL}/{ENDPOINT}/{path}", timeout=(5, 15), **options)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


@app.task(bind=True, max_retries=None)
def run_job(self: Task[Any, Any], job_input: dict[str, Any] | None, remote_id: str | None = None) -> Any:
    """Submit on the first message; then ask, and send the message again, until the remote job has ended."""
    if remote_id is None:
        remote_id = call("POST", "run", json={"input": job_input})["id"]
        return again(self, remote_id)
    remote = call("GET", f"status/{remote_id}")
    match remote["status"]:
        case "COMPLETED":
            return remote.get("output")
        case "FAILED" | "CANCELLED" | "TIMED_OUT":
            raise RuntimeError(f"{remote['status']}: {remote.get('error')}")
    self.update_state(state="PROGRESS", meta={"status": remote["status"], "progress": remote.get("output")})
    return again(self, remote_id)


def again(task: Task[Any, Any], remote_id: str) -> Any:
    """Look at the job again after the gap; the input is not sent along."""
    task.signature_from_request(args=(None, remote_id), kwargs={}, countdown=POLL_S).apply_async()
    raise Ignore


@app.task
def nothing(*_args: Any, **_kwargs: Any) -> None:
    """A task that does nothing, to compare the cost of `.delay()` with."""
