"""Webhook calls of RunPod, and of our GPU workers: a nudge to look at a job, never a fact."""

from __future__ import annotations

from ryla_tasks.tasks.webhook_token import Attempt, make_token, read_token
from ryla_tasks.webhooks.receive import MOST_BYTES, Received, receive

__all__ = ["MOST_BYTES", "Attempt", "Received", "make_token", "read_token", "receive"]
