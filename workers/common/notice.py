"""The notice that a job has been taken: it tells the caller RunPod's id, should the answer to the submit be lost."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
from yarl import URL

from workers.common.addresses import FetchRefused, Rules, guarded_connector

__all__ = ["taken"]

_TIMEOUT = aiohttp.ClientTimeout(total=5)

log = logging.getLogger(__name__)


async def taken(job: dict[str, Any], *, rules: Rules | None = None) -> bool:
    """POST `{"id", "status": "IN_PROGRESS"}` to the webhook that the job's input names, if it names one.

    Sent once, given up after 5 seconds, and of no consequence for the job; the webhook is a hint. Returns whether it
    was received. The URL carries a token, so it is never logged.
    """
    url = _webhook(job)
    if not url:
        return False
    try:
        rules = Rules.from_env() if rules is None else rules
        target = URL(url)
        rules.check(target)
        async with (
            aiohttp.ClientSession(connector=guarded_connector(rules, target.scheme), timeout=_TIMEOUT) as session,
            session.post(target, json={"id": job["id"], "status": "IN_PROGRESS"}, allow_redirects=False) as response,
        ):
            if response.ok:
                return True
            log.warning("job %s: its webhook answered the notice with HTTP %s", job["id"], response.status)
    except FetchRefused as refused:
        log.warning("job %s: no notice to its webhook: %s", job.get("id"), refused.why)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
        log.warning("job %s: no notice to its webhook: %s", job.get("id"), type(error).__name__)
    return False


def _webhook(job: dict[str, Any]) -> str:
    said = job.get("input")
    ryla = said.get("ryla") if isinstance(said, dict) else None
    url = ryla.get("webhook") if isinstance(ryla, dict) else None
    return url if isinstance(url, str) else ""
