"""The Redis that everything rests on. All of it is read with INFO, TIME and PING, which managed services allow too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from ryla_tasks.doctor.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["clock", "eviction", "latency", "memory", "persistence", "version"]

_PINGS = 100
_SLOW_S, _VERY_SLOW_S = 0.02, 0.2
_FULL, _VERY_FULL = 0.8, 0.95
_CLOCK_S = 2.0


def _info(runtime: Runtime, section: str) -> dict[str, Any]:
    found: dict[str, Any] = runtime.client.info(section)
    return found


def version(runtime: Runtime) -> Iterator[Finding]:
    server = _info(runtime, "server")
    # Valkey says 7.2.4 here, the version of Redis that it is compatible with.
    text = str(server["redis_version"])
    number = tuple(int(part) for part in text.split(".")[:2])
    name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {text}"
    if number < (7, 0):
        yield problem(f"{name} is too old", "Use Redis or Valkey 7.0 or newer: the scripts need it.")
    elif runtime.settings.durable_intent == "aof" and number < (7, 2):
        yield problem(f"{name} has no WAITAOF", "RYLA_DURABLE_INTENT=aof needs 7.2 or newer; no job can be submitted.")
    else:
        yield ok(name)


def persistence(runtime: Runtime) -> Iterator[Finding]:
    found = _info(runtime, "persistence")
    append = bool(int(found["aof_enabled"]))
    if append and found.get("aof_last_write_status", "ok") != "ok":
        yield problem("the append-only file cannot be written", "See Redis's log: most likely its disk is full.")
    elif append:
        yield ok("appendonly yes")
    elif runtime.settings.durable_intent == "aof":
        yield problem("appendonly is no", "RYLA_DURABLE_INTENT=aof needs appendonly yes; no job can be submitted.")
    elif _saves(runtime):
        yield warning(
            "appendonly is no: a crash of Redis loses what came since its last snapshot",
            "Set appendonly yes (CONFIG SET appendonly yes, and in redis.conf).",
        )
    else:
        yield problem(
            "nothing is written to disk: a restart of Redis loses all jobs",
            "Set appendonly yes (CONFIG SET appendonly yes, and in redis.conf).",
        )


def _saves(runtime: Runtime) -> bool:
    """Whether snapshots are taken; where CONFIG is not allowed, whether one has been."""
    try:
        found: Any = runtime.client.config_get("save")
        return bool(found.get("save"))
    except ResponseError:
        return int(_info(runtime, "persistence").get("rdb_saves", 0)) > 0


def eviction(runtime: Runtime) -> Iterator[Finding]:
    policy = str(_info(runtime, "memory").get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield ok("maxmemory-policy noeviction")
    else:
        yield problem(
            f"maxmemory-policy is {policy}: Redis may throw jobs away when its memory is full",
            "Set maxmemory-policy noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf).",
        )


def memory(runtime: Runtime) -> Iterator[Finding]:
    found = _info(runtime, "memory")
    used, most = int(found["used_memory"]), int(found.get("maxmemory", 0))
    most = most or int(found.get("total_system_memory", 0))
    share = used / most if most else 0.0
    says = f"{used / 2**20:,.0f} MB of {most / 2**20:,.0f} MB ({100 * share:.0f} %)" if most else f"{used} bytes"
    advice = "Give Redis more memory, or shorten retention_s of the endpoints; `ryla clean` drops what is left over."
    if share >= _VERY_FULL:
        yield problem(f"nearly full: {says}", advice)
    elif share >= _FULL:
        yield warning(f"filling up: {says}", advice)
    else:
        yield ok(says)


def latency(runtime: Runtime) -> Iterator[Finding]:
    times = []
    for _ in range(_PINGS):
        begun = time.perf_counter()
        runtime.client.ping()
        times.append(time.perf_counter() - begun)
    times.sort()
    p50, p99 = times[_PINGS // 2], times[_PINGS * 99 // 100 - 1]
    says = f"PING p50 {1000 * p50:.2f} ms, p99 {1000 * p99:.2f} ms"
    advice = "Run workers near Redis; see Redis's SLOWLOG and LATENCY DOCTOR."
    if p50 >= _VERY_SLOW_S:
        yield problem(f"very slow: {says}", advice)
    elif p50 >= _SLOW_S:
        yield warning(f"slow: {says}", advice)
    else:
        yield ok(says)


def clock(runtime: Runtime) -> Iterator[Finding]:
    before = time.time()
    seconds, microseconds = runtime.client.time()
    apart = (before + time.time()) / 2 - (seconds + microseconds / 1e6)
    if abs(apart) >= _CLOCK_S:
        yield warning(
            f"this machine's clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} Redis's",
            "Have both kept by NTP. Jobs go by Redis's clock; countdowns and eta of Celery go by this one's.",
        )
    else:
        yield ok(f"{1000 * abs(apart):.0f} ms apart")
