"""A program that answers with its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import EndpointConfig
from ..directives import Directives
from .base import Work

__all__ = ["Echo"]


class Echo:
    """Waits `run_s` and returns its input as it came."""

    def prepare(self, job_input: Mapping[str, Any], directives: Directives, config: EndpointConfig) -> Work:  # noqa: ARG002
        return Work(render=lambda: job_input, seconds=config.run_s, steps=config.steps, node="echo")
