"""Settings of a test: the project's own without any place outside of this machine, and as before afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import redis

from ryla_tasks.celery_defaults import celery_defaults
from ryla_tasks.settings import Settings, Target, configure, get_settings, restored_settings
from ryla_tasks.tasks import runtime

if TYPE_CHECKING:
    from ryla_tasks.testing.simulator import JobSimulator

__all__ = ["Isolation"]

_USUAL = {"image": "image", "lora": "lora", "special": "special"}

#: Where nobody listens: what is not a test's own place leads nowhere, instead of to the project's.
_NOWHERE = "redis://127.0.0.1:1/0"

#: The only key that the simulator takes.
_KEY = "simulated-key"

#: Polls and retries as quick as the settings allow.
_QUICK = {"poll_min_s": 0.25, "poll_max_s": 0.5, "retry_backoff_s": 0.1, "retry_backoff_max_s": 0.5}

#: What a second of the simulated GPU costs (an RTX 4090's price), so that jobs have cost estimates.
_PRICE_PER_S = 0.00031


class Isolation:
    """The settings in the course of one test. Use it as a context manager."""

    def __init__(self, app: Any, artifacts: Path) -> None:
        self._app = app
        self._artifacts = artifacts
        self._kept = restored_settings()

    def __enter__(self) -> Self:
        self._kept.__enter__()
        self._configuration = dict(self._app.conf.changes)
        self._own = get_settings()
        try:
            self.set(
                redis_url=_NOWHERE,
                broker_url=_NOWHERE,
                sentinel_master="",
                runpod_url="http://127.0.0.1:1/v2",
                runpod_api_key=_KEY,
                accounts=dict.fromkeys(self._own.accounts, _KEY),
                endpoints={name: self._endpoint(name, kind) for name, kind in self.endpoint_kinds.items()},
                webhook_url=None,
                artifacts=str(self._artifacts),
                artifacts_url=None,
                sweep_interval_s=1,
            )
        except BaseException:
            self._kept.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.conf.changes.clear()
        self._app.conf.changes.update(self._configuration)
        self._kept.__exit__(kind, error, trace)
        _reconnect(self._app)

    @property
    def endpoint_kinds(self) -> Mapping[str, str]:
        """The endpoints by name, with their kinds: the usual ones and the project's."""
        return {**_USUAL, **{name: endpoint.kind for name, endpoint in self._own.endpoints.items()}}

    def set(self, **settings: Any) -> Settings:
        """Change settings for the rest of the test. Raises `ConfigurationError`."""
        changed = configure(**settings)
        runtime.forget(self._app)
        return changed

    def point_at(self, simulator: JobSimulator) -> None:
        """Let jobs go to a simulator."""
        self.set(runpod_url=simulator.base_url, runpod_api_key=simulator.key)

    def use_redis(self, url: str) -> None:
        """Let jobs, messages and results be in this Redis, which is emptied."""
        self.set(redis_url=url, broker_url=url)
        ours = celery_defaults(get_settings())
        self._app.conf.update({name: ours[name] for name in ours if name in _PLACES or name not in self._app.conf})
        _reconnect(self._app)
        with redis.Redis.from_url(url) as client:
            # Which queues there are, this process remembers, and would not say a second time.
            stale = [key for key in client.scan_iter(count=1000) if not key.startswith(b"_kombu.binding.")]
            if stale:
                client.delete(*stale)

    def _endpoint(self, name: str, kind: str) -> Any:
        """An endpoint of the project as it is, but at the simulator."""
        place = {"endpoint_id": name, "gpu": "simulated", "price_per_s": _PRICE_PER_S}
        own = self._own.endpoints.get(name)
        if own is None:
            return {"kind": kind, **place, **_QUICK}
        target = Target(**place)
        return own.model_copy(update={"targets": (target,), "on_stuck": "wait", **_QUICK})


#: The configuration of a Celery app that says where messages and results are.
_PLACES = frozenset(
    {"broker_url", "result_backend", "broker_transport_options", "result_backend_transport_options",
     "broker_use_ssl", "redis_backend_use_ssl"}
)  # fmt: skip


def _reconnect(app: Any) -> None:
    """Have an app connect anew, to where its configuration says, as it does in a forked process."""
    backend = app._backend_cache or getattr(app._local, "backend", None)
    consumer = getattr(backend, "result_consumer", None)
    if consumer is not None:
        # Results that are forgotten later unsubscribe themselves, and would try to reach a Redis that is gone.
        consumer.stop()
        consumer.subscribed_to.clear()
    app._after_fork()
    app._backend_cache = None
    app._local.__dict__.clear()
    runtime.forget(app)
