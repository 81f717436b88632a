"""Progress as server-sent events, through real servers: every event once and in order, and nobody held up by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ryla_tasks import Job, run_endpoint
from tests.conftest import QUICK
from tests.support.fleet import Fleet, eventually
from tests.support.servers import COMMANDS, Frame, Server, Stream, read_stream

KINDS = sorted(COMMANDS)


def slow_job(seconds: float = 2.0, steps: int = 60) -> Job:
    wish = {"n": 1, "simulate": {"seconds": seconds, "steps": steps}}
    return Job(run_endpoint.delay("echo", wish, user_id="ann").id)


def path_of(job: Job) -> str:
    return f"/ryla/jobs/{job.id}/events"


def told(frames: list[Frame]) -> list[str]:
    return [frame["id"] for frame in frames if "id" in frame]


def positions(job: Job) -> list[str]:
    return [event.position for event in job.events()]


def follow(
    server: Server, job: Job, *, cut_after_s: float = 20, frames: list[Frame] | None = None, most_cuts: int = 0
) -> tuple[list[Frame], int]:
    """Follow a job to its end, as a browser does; cut off wherever it is after an event, or so long without one, until
    there were so many cuts, and some events: then the job is cancelled. Frames, and connections made."""
    frames = [] if frames is None else frames
    last, connections = "", 0
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            stream = Stream(server, path_of(job), last=last, timeout=cut_after_s)
        except OSError:
            time.sleep(0.05)  # no server there: a browser comes back too
            continue
        connections += 1
        if most_cuts and connections > most_cuts and len(frames) > 10:
            job.cancel()
        if stream.status == 204:
            stream.close()
            return frames, connections
        assert stream.status == 200
        got = 0
        while (frame := stream.frame()) is not None:
            frames.append(frame)
            last = frame.get("id", last)
            if frame["event"] == "end":
                stream.close()
                return frames, connections
            got += 1
            if cut_after_s < 1:
                break
        stream.close()
        if not got:
            time.sleep(0.1)
    raise AssertionError(f"no end after {connections} connections")


@pytest.fixture(scope="module", params=KINDS)
def running(
    request: pytest.FixtureRequest, whole_fleet: Fleet, shared_worker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    env = whole_fleet.env(**QUICK, RYLA_WEB_STREAMS="2")
    with Server(request.param, env, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def server(served: Fleet, running: Server) -> Server:
    return running


def test_every_server_tells_every_event_once_and_in_order(server: Server) -> None:
    job = slow_job()
    frames, _ = follow(server, job)
    assert told(frames) == positions(job)
    assert [frame["data"]["phase"] for frame in frames[:-1]][-1] == "completed"
    assert frames[-1]["event"] == "end"
    assert frames[-1]["data"] == {"status": "completed"}
    assert len({frame["data"]["percent"] for frame in frames[:-1]}) > 3, "progress was seen"
    # Whoever has all is told to stay away; whoever has none, or a part, gets the rest.
    assert server.get(path_of(job) + "?after=" + told(frames)[-1]).status == 204
    assert told(read_stream(Stream(server, path_of(job), last=told(frames)[3]))) == told(frames)[4:]
    for user, path in (("ben", path_of(job)), ("ann", "/ryla/jobs/nonsense/events")):
        assert server.get(path, user).status == 404
    assert server.get(path_of(job), "").status == 401


def test_streams_hold_no_server(server: Server) -> None:
    """More pages look than there are threads: all of them get on, and everything else is answered meanwhile."""
    job = slow_job(3.0)
    followers = 10
    results: list[list[str]] = []

    def look() -> None:
        results.append(told(follow(server, job)[0]))

    threads = [threading.Thread(target=look) for _ in range(followers)]
    for thread in threads:
        thread.start()
    answered = 0
    while not job.status.ended:
        assert server.get("/ping").read() == b"pong"
        answered += 1
    for thread in threads:
        thread.join(30)
    assert answered > 5
    assert results == [positions(job)] * followers


def test_a_client_that_is_cut_off_50_times_gets_every_event_once(served: Fleet, tmp_path: Path) -> None:
    with Server("gthread", served.env(**QUICK), tmp_path / "log") as server:
        job = slow_job(20.0, 1_000)
        frames, connections = follow(server, job, cut_after_s=0.05, most_cuts=50)
    assert connections > 50
    assert len({frame["data"]["percent"] for frame in frames[:-1]}) > 2, "in the middle of it"
    assert told(frames) == positions(job)


def test_a_deploy_in_the_middle_loses_nothing(served: Fleet, tmp_path: Path) -> None:
    env = served.env(**QUICK)
    job = slow_job(60.0, 1_000)
    frames: list[Frame] = []
    connections: list[int] = []
    with ExitStack() as stack:
        server = stack.enter_context(Server("gthread", env, tmp_path / "log"))
        thread = threading.Thread(target=lambda: connections.append(follow(server, job, frames=frames)[1]))
        thread.start()
        eventually(lambda: len(frames) > 4, what="the job's progress is seen")
        server.stop()
        assert not job.status.ended
        stack.enter_context(Server("gthread", env, tmp_path / "log2", port=server.port))
        before = len(frames)
        eventually(lambda: len(frames) > before, what="it goes on")
        job.cancel()
        thread.join(30)
    assert connections[0] > 1
    assert told(frames) == positions(job)


def test_a_closed_stream_gives_its_seat_to_another(served: Fleet, tmp_path: Path) -> None:
    with Server("gthread", served.env(**QUICK, RYLA_WEB_STREAMS="1"), tmp_path / "log") as server:
        idle, job = (
            Job(run_endpoint.apply_async(("echo", {"n": 1}), {"user_id": "ann"}, countdown=600).id),
            slow_job(8.0),
        )

        def is_held() -> bool:
            """Whether a stream of the idle job stays open: nothing comes, and no end."""
            stream = Stream(server, path_of(idle), timeout=0.5)
            frames = [stream.frame(), stream.frame()]
            open_still = not stream.answer.isclosed()
            stream.close()
            return frames[0] is not None and frames[1] is None and open_still

        first = Stream(server, path_of(job))
        first.frame()
        assert not is_held(), "no seat is left: what there is comes at once, and then the stream ends"
        first.close()
        # The server notices when it sends the next events.
        eventually(is_held, timeout=15, every=0.1, what="the seat is free again")
        for one in (idle, job):
            one.cancel()


def test_redis_may_be_away_for_five_seconds(served: Fleet, tmp_path: Path) -> None:
    with Server("gthread", served.env(**QUICK), tmp_path / "log") as server:
        job = slow_job(60.0, 1_000)
        stream = Stream(server, path_of(job))
        frames = [frame for frame in (stream.frame() for _ in range(4)) if frame]
        assert len(frames) == 4
        served.redis.stop()
        time.sleep(5)
        served.redis.start()
        frames += filter(None, [stream.frame()])
        job.cancel()
        frames += read_stream(stream)
        assert frames[-1]["event"] == "end", "on the same connection"
    assert told(frames) == positions(job)
