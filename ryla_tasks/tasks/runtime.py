"""What a process has to work with: its settings, its store, its providers. Made when first asked for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import redis
from celery import Celery
from celery.backends.redis import RedisBackend

from ryla_tasks.artifacts import ArtifactStore, store_of
from ryla_tasks.errors import ConfigurationError, RylaError, StoreError
from ryla_tasks.jobs.breaker import Rule
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.stuck import Patience
from ryla_tasks.providers import EndpointHealth, Provider
from ryla_tasks.providers.management import Management
from ryla_tasks.providers.runpod import RunPod, Timeouts
from ryla_tasks.settings import DEFAULT_ACCOUNT, Settings, Target, get_settings, parse_target_id
from ryla_tasks.store.answers import Candidate, Rate
from ryla_tasks.store.breakers import BreakerStore
from ryla_tasks.store.budgets import Budgets, SpendStore
from ryla_tasks.store.codec import Meta
from ryla_tasks.store.jobs import JobStore
from ryla_tasks.store.kept import KeptStore
from ryla_tasks.store.sheets import SheetStore
from ryla_tasks.store.targets import TargetStore
from ryla_tasks.tasks.breakers import Breakers
from ryla_tasks.tasks.budget import BudgetAlerts, budgets_of, terms_of
from ryla_tasks.tasks.crew import Crew
from ryla_tasks.tasks.lanes import RideGate, SlowLane
from ryla_tasks.tasks.messages import send_tell
from ryla_tasks.tasks.notebook import Notebook
from ryla_tasks.tasks.outlook import HEALTH_S, Outlooks

__all__ = ["Runtime", "forget", "runtime_of"]

#: How many status calls of a process may be under way at once at a target; each holds a thread and a connection.
RIDE_THREADS = 32

#: How long progress is kept where the host's results never expire.
_RESULTS_KEPT_S = 31 * 86_400


class Runtime:
    """The parts that tasks and handles use, for one app in one process."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.lane = SlowLane(settings.worker_concurrency)
        self.gate = RideGate()
        self._lock = threading.Lock()
        self._providers: dict[str, Provider] = {}
        self._callers: dict[str, ThreadPoolExecutor] = {}
        self._crews: dict[str, Crew] = {}

    @cached_property
    def client(self) -> redis.Redis:
        """Redis, with the addresses, TLS and time-outs that the app's result backend has."""
        client: redis.Redis = _backend(self.app).client
        return client

    @cached_property
    def store(self) -> JobStore:
        """The job store. It lives in the result backend's database, so that progress is written with the record."""
        backend = _backend(self.app)
        key = backend.get_key_for_task("x")
        prefix = (key.decode() if isinstance(key, bytes) else str(key)).removesuffix("x")
        meta = Meta(prefix, int(getattr(backend, "expires", 0) or _RESULTS_KEPT_S))
        return JobStore(
            self.client,
            prefix=self.settings.key_prefix,
            meta=meta,
            budgets=self.budgets,
            keep_input_bytes=self.settings.keep_input_bytes,
        )

    @cached_property
    def sheets(self) -> SheetStore:
        """The sheets in it."""
        return SheetStore(self.client, prefix=self.settings.key_prefix)

    @cached_property
    def kept(self) -> KeptStore:
        """What is kept of ended jobs, to make them again."""
        return KeptStore(self.client, prefix=self.settings.key_prefix)

    @cached_property
    def notebook(self) -> Notebook:
        """Writes messages that go to Redis with their records."""
        return Notebook(self.app, self.client)

    @cached_property
    def targets(self) -> TargetStore:
        """What the fleet knows of its targets."""
        return TargetStore(self.client, prefix=self.settings.key_prefix)

    @cached_property
    def budgets(self) -> Budgets:
        """The daily budgets in the settings."""
        return budgets_of(self.settings)

    @cached_property
    def spend(self) -> SpendStore:
        """What has been spent of them."""
        return SpendStore(self.client, prefix=self.settings.key_prefix, offset_s=self.budgets.offset_s)

    @cached_property
    def budget_alerts(self) -> BudgetAlerts:
        """What tells the operator of it."""
        return BudgetAlerts(self.budgets, self.settings.budget_alerts, self.targets)

    @cached_property
    def breakers(self) -> Breakers:
        """What holds submits back at targets that are in trouble."""
        settings = self.settings
        rule = Rule(
            settings.breaker_failures, settings.breaker_calls, settings.breaker_window_s, settings.breaker_pause_s
        )
        store = BreakerStore(self.client, prefix=settings.key_prefix)
        return Breakers(store, self.targets, rule, on_open=lambda target: send_tell(self.app, target))

    @cached_property
    def outlooks(self) -> Outlooks:
        """What this process knows of them."""
        settings = self.settings
        patience = Patience(settings.stuck_after_s, settings.stuck_unhealthy_after_s)
        return Outlooks(
            self.targets,
            self._health,
            ask_every_s=settings.health_interval_s,
            patience=patience,
            failure_rate=settings.alert_failure_rate,
            workers_max=self._workers_max,
        )

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """Where results are kept."""
        return store_of(self.settings)

    def callers(self, target_id: str) -> ThreadPoolExecutor:
        """Threads that ask for statuses at one target, side by side. Where they hang, no other target's wait."""
        with self._lock:
            if target_id not in self._callers:
                self._callers[target_id] = ThreadPoolExecutor(RIDE_THREADS, thread_name_prefix="ryla-ride")
            return self._callers[target_id]

    def crew(self, endpoint: str) -> Crew:
        """Those who help to submit at an endpoint."""
        with self._lock:
            if endpoint not in self._crews:
                self._crews[endpoint] = Crew(endpoint)
            return self._crews[endpoint]

    @property
    def durable(self) -> tuple[Any, ...] | None:
        """The command that waits until a submit's intent is kept, by setting."""
        settings, milliseconds = self.settings, round(self.settings.durable_timeout_s * 1000)
        match settings.durable_intent:
            case "aof":
                return ("WAITAOF", 1, settings.durable_replicas, milliseconds)
            case "replicas":
                return ("WAIT", settings.durable_replicas, milliseconds)
            case "none":
                return None

    def target(self, target_id: str) -> Target:
        """The target that an attempt went to, whatever today's settings are."""
        return self.settings.target(target_id)

    def provider(self, target_id: str) -> tuple[Provider, str]:
        """The client for a target's account, and the endpoint's id there."""
        reference = parse_target_id(target_id)
        with self._lock:
            if reference.account not in self._providers:
                self._providers[reference.account] = self._connect(reference.account)
            return self._providers[reference.account], reference.endpoint_id

    def hand_on_tallies(self) -> None:
        """Add the calls that this process has made to those of the fleet. Raises `StoreError`, and then keeps them."""
        with self._lock:
            providers = dict(self._providers)
        for account, provider in providers.items():
            if counts := provider.tally.take():
                suffix = "" if account == DEFAULT_ACCOUNT else f"@{account}"
                named = {f"{provider.name}:{e}{suffix} {op} {how}": n for (e, op, how), n in counts.items()}
                try:
                    self.targets.add_calls(named)
                except StoreError:
                    provider.tally.put_back(counts)
                    raise

    def candidates(self, endpoint: str) -> list[Candidate]:
        """The targets that a job of an endpoint may go to, in order of preference. Raises `ConfigurationError`."""
        return [
            Candidate(target.id, self.run_rate(target), terms_of(target, self.outlooks.of(target.id).stats))
            for target in self.settings.endpoint(endpoint).targets
        ]

    def elsewhere(self, record: JobRecord) -> str:
        """A target that a job might go to instead of the one that it is at; empty where none is."""
        endpoint = self.settings.endpoints.get(record.spec.endpoint)
        if endpoint is None or len(endpoint.targets) == 1:
            return ""
        been = {record.target, *(target for target, _why in record.left)}
        only = record.spec.only
        return next((t.id for t in endpoint.targets if t.id not in been and (not only or t.id in only)), "")

    def way_out(self, record: JobRecord, now: float) -> str:
        """The same for a job that no worker comes to: empty where its endpoint has it wait, or all others are down."""
        endpoint = self.settings.endpoints.get(record.spec.endpoint)
        target = self.elsewhere(record) if endpoint is not None and endpoint.on_stuck == "failover" else ""
        watch = self.outlooks.of(target).now(now) if target else None
        return "" if watch is not None and watch.down else target

    def status_rate(self, target: Target) -> Rate:
        """The share of the target's status limit for rides: nine tenths steady, one tenth as a burst."""
        return _rate(target.limits.status_per_10s)

    def run_rate(self, target: Target) -> Rate:
        """The same for submits."""
        return replace(_rate(target.limits.run_per_10s), under_way=target.limits.run_concurrent)

    def cancel_rate(self, target: Target) -> Rate:
        """The same for cancels."""
        return replace(_rate(target.limits.cancel_per_10s), under_way=target.limits.cancel_concurrent)

    def _health(self, target_id: str) -> EndpointHealth:
        provider, endpoint_id = self.provider(target_id)
        return provider.health(endpoint_id, within_s=HEALTH_S)

    def management(self, target_id: str) -> tuple[Management, str]:
        """The management API of a target's account, and the endpoint's id there. Raises `ConfigurationError`."""
        reference = parse_target_id(target_id)
        key = self.settings.api_key_for(reference.account)
        return Management(key, self.settings.runpod_management_url), reference.endpoint_id

    def _workers_max(self, target_id: str) -> int | None:
        """How many workers a target may have; None where that cannot be found out."""
        try:
            management, endpoint_id = self.management(target_id)
            return management.endpoint(endpoint_id, within_s=HEALTH_S).workers_max
        except RylaError:
            return None

    def _connect(self, account: str) -> Provider:
        settings = self.settings
        return RunPod(
            settings.api_key_for(account),
            settings.runpod_url,
            timeouts=Timeouts(settings.http_connect_s, settings.http_read_s, settings.http_total_s),
            pool_size=2 * RIDE_THREADS,
            account=account,
        )


def _rate(per_10s: int) -> Rate:
    """In any ten seconds `burst + 10 * per_s` calls may go out, and that must not be over the limit."""
    burst = max(1, per_10s // 10)
    return Rate(per_s=max(per_10s - burst, 1) / 10, burst=burst)


def _backend(app: Celery) -> RedisBackend:
    backend = app.backend
    if not isinstance(backend, RedisBackend):
        raise ConfigurationError(
            f"result_backend: is {type(backend).__name__}, and ryla_tasks needs Redis there, because it writes a job's "
            f"record and its progress in one step; set result_backend to redis://...",
            setting="result_backend",
        )
    return backend


_lock = threading.Lock()
_runtimes: WeakKeyDictionary[Celery, tuple[int, Runtime]] = WeakKeyDictionary()


def runtime_of(app: Celery) -> Runtime:
    """The runtime of an app in this process; a forked child gets one of its own."""
    with _lock:
        pid, runtime = _runtimes.get(app, (0, None))
        if runtime is None or pid != os.getpid():
            runtime = Runtime(app, get_settings())
            _runtimes[app] = (os.getpid(), runtime)
        return runtime


def forget(app: Celery) -> None:
    """Make a new runtime when one is asked for next, with the settings of that time. For tests."""
    with _lock:
        _runtimes.pop(app, None)
