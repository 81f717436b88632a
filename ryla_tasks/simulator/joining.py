"""What a GPU worker needs in its environment to join a simulated endpoint."""

from __future__ import annotations

from urllib.parse import quote

from .config import EndpointConfig

__all__ = ["worker_environment"]


def worker_environment(base_url: str, config: EndpointConfig, worker_id: str, key: str) -> dict[str, str]:
    """The variables that RunPod sets for a worker, and two that leave out the SDK's checks of the machine.

    They are for a process of its own: `{**os.environ, **variables}`. A `~/.runpod/config.toml` with a key goes before
    `RUNPOD_AI_API_KEY` in the SDK; give such a machine's worker another HOME.
    """
    base = f"{base_url}/{config.endpoint_id}"
    query = f"?gpu={quote(config.gpu)}"  # the SDK appends its own with "&"
    return {
        "RUNPOD_AI_API_KEY": key,
        "RUNPOD_ENDPOINT_ID": config.endpoint_id,
        "RUNPOD_PING_INTERVAL": str(config.ping_interval_s * 1000),
        "RUNPOD_POD_HOSTNAME": worker_id,
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
    }
