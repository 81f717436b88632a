"""Redis dies, the network is cut, a replica takes over: workers come back by themselves, and the invariants hold."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from ryla_tasks.embedded import RedisServer
from ryla_tasks.jobs.states import State
from tests.support.chaos.mix import Mix
from tests.support.chaos.proxy import Proxy
from tests.support.chaos.report import SEED, note
from tests.support.chaos.victims import Kept
from tests.support.fleet import Fleet, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


def some_under_way(mix: Mix, least: int = 10) -> None:
    under_way = (State.WAITING, State.STARTING, State.RUNNING)
    eventually(lambda: sum(mix.states()[s] for s in under_way) >= least, timeout=30, what="some under way")


@pytest.fixture
def fsync(chaos: Fleet) -> Iterator[Callable[[str], None]]:
    """Sets how Redis writes its append-only file, for one test."""
    yield lambda how: chaos.client.config_set("appendfsync", how)
    chaos.client.config_set("appendfsync", "everysec")


@pytest.mark.parametrize("how", ["always", "everysec"])
@pytest.mark.parametrize("seed", range(2))
def test_redis_killed_and_started_again(chaos: Fleet, fsync: Callable[[str], None], how: str, seed: int) -> None:
    """SIGKILL of the server alone loses nothing under either policy: the operating system has what was written."""
    chance = random.Random(f"{SEED}:redis:{how}:{seed}")
    fsync(how)
    mix = Mix(chaos)
    workers = Kept(chaos, 2)
    mix.plain(150, 4.0)
    for pause in (chance.uniform(0.2, 4), chance.uniform(0.2, 4)):
        some_under_way(mix, 1)
        moment = time.monotonic() + chance.uniform(0, 2)
        eventually(lambda t=moment: time.monotonic() > t, every=0.01)
        chaos.redis.kill()
        back = time.monotonic() + pause
        eventually(lambda t=back: time.monotonic() > t, every=0.01)
        chaos.redis.start()
        fsync(how)
    took = mix.wait(120, meanwhile=workers.look)
    remark = f"{took:.0f} s, {workers.ended} workers ended and were started again"
    note(f"SIGKILL of Redis twice, appendfsync {how}", len(mix), mix.ended(), mix.check(), remark)


@pytest.mark.parametrize("how", ["cut", "hang", "slow"])
@pytest.mark.parametrize("link", ["redis", "runpod"])
def test_the_network_fails(chaos: Fleet, link: str, how: str) -> None:
    """A worker loses its connections, or they go dead, three times for a few seconds; jobs go on when it is over."""
    chance = random.Random(f"{SEED}:{link}:{how}")
    there = chaos.redis.port if link == "redis" else int(chaos.simulator.url.rpartition(":")[2])
    mix = Mix(chaos)
    with Proxy(there) as proxy:
        if link == "redis":
            env = {"RYLA_REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        else:
            env = {"RYLA_RUNPOD_URL": f"http://127.0.0.1:{proxy.port}/v2"}
        workers = Kept(chaos, 1, **env)
        mix.plain(60, 3.0)
        some_under_way(mix, 1)
        for _ in range(3):
            mix.plain(20, 2.0)
            {"cut": proxy.cut, "hang": proxy.hang, "slow": lambda: proxy.slow(0.5)}[how]()
            moment = time.monotonic() + chance.uniform(1, 5)
            eventually(lambda t=moment: time.monotonic() > t, every=0.01)
            proxy.heal()
            moment = time.monotonic() + chance.uniform(0, 2)
            eventually(lambda t=moment: time.monotonic() > t, every=0.01)
        took = mix.wait(150, meanwhile=workers.look)
        remark = f"{took:.0f} s, {mix.unanswered()} unanswered, {workers.ended} worker restarts"
        note(f"worker to {link}: {how}, three times", len(mix), mix.ended(), mix.check(), remark)


@pytest.mark.parametrize("seed", range(2))
def test_a_replica_without_the_last_second_takes_over(chaos: Fleet, seed: int) -> None:
    """With durable intents nothing is submitted that the new master does not know of, so nothing is submitted twice."""
    chance = random.Random(f"{SEED}:replica:{seed}")
    master = chaos.redis
    with Proxy(master.port) as link, Proxy(master.port) as front:
        replica = RedisServer().start()
        heir = redis.Redis.from_url(replica.url)
        try:
            heir.replicaof("127.0.0.1", link.port)
            eventually(
                lambda: heir.info("replication")["master_link_status"] == "up", timeout=30, what="replica in step"
            )
            mix = Mix(chaos)
            limited = {**json.loads(os.environ["RYLA_ENDPOINT_ECHO"]), "limits": {"run_per_10s": 100}}
            mix.plain(100, 5.0)
            eventually(lambda: _in_step(chaos.client), what="replica in step")
            env = {
                "RYLA_REDIS_URL": f"redis://127.0.0.1:{front.port}/0",
                "RYLA_DURABLE_INTENT": "replicas",
                "RYLA_DURABLE_REPLICAS": "1",
                "RYLA_DURABLE_TIMEOUT_S": "0.5",
                "RYLA_ENDPOINT_ECHO": json.dumps(limited),
            }
            workers = Kept(chaos, 1, **env)
            some_under_way(mix, 10 + chance.randrange(20))
            link.hang()
            moment = time.monotonic() + chance.uniform(0.5, 2)
            eventually(lambda t=moment: time.monotonic() > t, every=0.01)
            front.cut()
            heir.replicaof("NO", "ONE")
            front.point_to(replica.port)
            front.heal()
            chaos.client, old = heir, chaos.client
            # The old master comes back as a replica, as Sentinel has it: intents need one.
            old.replicaof("127.0.0.1", replica.port)
            try:
                took = mix.wait(200, meanwhile=workers.look)
                remark = f"{took:.0f} s, {mix.unanswered()} unanswered, {workers.ended} worker restarts"
                doubles = mix.doubles(mix.records())
                note("replica promoted without the last second", len(mix), mix.ended(), doubles, remark)
            finally:
                old.replicaof("NO", "ONE")
                chaos.client = old
            assert doubles == 0
            assert chaos.endpoint("echo").counters().duplicates == 0
        finally:
            heir.close()
            replica.close()


def _in_step(master: redis.Redis) -> bool:
    return int(master.execute_command("WAIT", 1, 1000)) == 1
