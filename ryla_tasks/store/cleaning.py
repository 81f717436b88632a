"""Going over all of the store: what is left over goes, what is astray is put back.

In the normal course there is nothing to find: every change is one script, and the workers' sweepers drop records past
their retention. What may be found nevertheless comes from outside: keys deleted by hand, a replica promoted without
its master's last writes, a fleet that was switched off for longer than the retention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.store.codec import dumps
from ryla_tasks.store.scripts import Scripts

__all__ = ["FINDINGS", "clean"]

#: What can be found, and what is done about it.
FINDINGS = {
    "expired": "records past their retention, dropped",
    "forgotten": "ended jobs that nobody would have dropped, now kept for their retention",
    "astray": "jobs under way that were due nowhere, put back in line",
    "entries": "entries of lists and schedules without a record, removed",
    "keys": "inputs, outputs, messages and events without a record, deleted",
}

#: Sets with a job's id as their members. That of the outbox and of deadlines stands behind a bar.
_SETS = ("idx:*", "due:*", "later:*", "line:*", "calls:*", "nudged:*", "outbox", "deadlines", "expiry")

_KEYS = ("input", "fallbacks", "output", "envelope", "events", "aliases", "cells")

_PAGE = 200


def clean(client: redis.Redis, prefix: str, *, dry_run: bool = False) -> Counter[str]:
    """Go over the store, and return how often each of `FINDINGS` was found. With `dry_run` nothing is changed.

    Safe while workers and web processes run: each step looks and changes in one script. Takes about a second for
    10,000 jobs. Raises `StoreUnavailable`.
    """
    scripts = Scripts(client, prefix)
    found: Counter[str] = Counter()
    try:
        for name in _scan(client, prefix, "job:*"):
            word = scripts.call("mend", dumps({"id": name.removeprefix("job:"), "dry": dry_run})).decode()
            if word in FINDINGS:
                found[word] += 1
        for pattern in _SETS:
            for name in list(_scan(client, prefix, pattern)):
                for page in _pages(_members(client, f"{prefix}:{name}")):
                    found["entries"] += _tidy(scripts, name, page, dry_run=dry_run)
        for kind in _KEYS:
            names = _scan(client, prefix, f"{kind}:*")
            for page in _pages((name, name.removeprefix(f"{kind}:")) for name in names):
                found["keys"] += _tidy(scripts, "", page, dry_run=dry_run)
    except RedisError as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error
    return +found


def _tidy(scripts: Scripts, name: str, members: list[tuple[str, str]], *, dry_run: bool) -> int:
    removed: int = scripts.call("tidy", dumps({"name": name, "members": members, "dry": dry_run}))
    return removed


def _scan(client: redis.Redis, prefix: str, pattern: str) -> Iterator[str]:
    """Names of keys, without the prefix."""
    if "*" not in pattern:
        yield pattern
        return
    for name in client.scan_iter(match=f"{prefix}:{pattern}", count=1000):
        yield name.decode().removeprefix(f"{prefix}:")


def _members(client: redis.Redis, name: str) -> Iterator[tuple[str, str]]:
    """The members of a set, each with the job that it names. Orphans are remote jobs, which have none."""
    kind: Any = client.type(name)
    scanned: Iterable[Any] = ()
    if kind == b"zset":
        scanned = (member for member, _score in client.zscan_iter(name, count=1000))
    elif kind == b"set":
        scanned = client.sscan_iter(name, count=1000)
    for raw in scanned:
        member = raw.decode()
        if not member.startswith("orphan|"):
            yield member, _job_of(name, member)


def _job_of(name: str, member: str) -> str:
    """A job's id may have a bar in it: only what stands before the first one in these sets is ours."""
    if name.endswith(":outbox"):
        return member.partition("|")[2]
    return member.removeprefix("start|") if name.endswith(":deadlines") else member


def _pages(members: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    left = iter(members)
    while page := list(islice(left, _PAGE)):
        yield page
