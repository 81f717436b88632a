"""The seam to a GPU cloud: the protocol, and RunPod."""

from __future__ import annotations

from ryla_tasks.providers.base import (
    EndpointHealth,
    Policy,
    Provider,
    RemoteJob,
    RemoteStatus,
    Submitted,
    was_not_accepted,
)

__all__ = ["EndpointHealth", "Policy", "Provider", "RemoteJob", "RemoteStatus", "Submitted", "was_not_accepted"]
