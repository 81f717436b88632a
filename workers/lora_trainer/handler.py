"""The handler that RunPod's SDK calls with each job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from workers.common.failures import JobFailure, answer_of
from workers.common.notice import taken
from workers.common.reporting import Reporter, Send, runpod_sender
from workers.common.storing import Store
from workers.lora_trainer.request import parse_request
from workers.lora_trainer.settings import Settings
from workers.lora_trainer.training import Training, tidy

__all__ = ["Handler", "make_handler"]

log = logging.getLogger(__name__)

Job = dict[str, Any]


@dataclass(frozen=True)
class Handler:
    """Trains one LoRA a call. `sender` makes what sends the progress of a job."""

    settings: Settings
    store: Store | None
    sender: Callable[[Job], Send] = runpod_sender

    async def __call__(self, job: Job) -> dict[str, Any]:
        """The result, or an answer with `error`, `code` and `details`. When the job is cancelled, the trainer is
        stopped before this ends, and no answer goes out."""
        remote_id = str(job.get("id") or "local")
        notice = asyncio.create_task(taken(job))
        reporter = Reporter(self.sender(job), self.settings.progress_s)
        try:
            request = parse_request(job.get("input"))
            result = await Training(request, remote_id, self.settings, self.store, reporter).run()
            log.info("job %s: trained %s steps", remote_id, result["steps"])
            return result
        except JobFailure as failure:
            log.warning("job %s: %s (%s)", remote_id, failure.sentence, failure.code)
            return failure.answer()
        except asyncio.CancelledError:
            log.info("job %s: cancelled", remote_id)
            notice.cancel()
            await reporter.close(at_once=True)
            raise
        except Exception as error:
            log.exception("job %s: an error that nobody foresaw", remote_id)
            return answer_of(error)
        finally:
            # Long over, but for a job that ends at once: then whoever waits for RunPod's id still gets it.
            await asyncio.wait([notice])
            await reporter.close()


def make_handler() -> Callable[[Job], Awaitable[dict[str, Any]]]:
    """The handler by this process's environment, as a plain async function, which is what the SDK looks for."""
    settings = Settings.from_env()
    handler = Handler(settings, Store.from_env())
    tidy(settings.work)

    async def handle(job: Job) -> dict[str, Any]:
        return await handler(job)

    return handle
