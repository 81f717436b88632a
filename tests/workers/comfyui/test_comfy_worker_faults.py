"""The ComfyUI worker when things go wrong in mid-job: cancels, deadlines, broken sockets, a dead or hanging ComfyUI."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from comfy_bench import Bench, bench, free_url, run, under_way, until, workflow

from tests.support.comfyui.process import ComfyProcess, control, look
from workers.comfyui.supervisor import State, Supervisor

LONG = {"steps": 500, "delay": 0.02}


def test_a_cancel_ends_the_job_and_comfyuis_work_at_once(made: Bench, comfy: ComfyProcess) -> None:
    async def go() -> float:
        async with under_way(made, {"workflow": workflow(_3=LONG)}, comfy.url) as task:
            prompt_id = comfy.seen()["running"]
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took = time.monotonic() - began
            sent = len(made.sent)
            assert comfy.seen()["interrupts"][-1] == prompt_id
            await until(lambda: comfy.seen()["running"] is None, 5)
            await until(lambda: made.worker.concurrency() == 1, 5)
            assert len(made.sent) == sent, "no progress after the end"
            return took

    assert run(go()) < 1.0
    assert made.left() == []
    assert run(made.do({"workflow": workflow()}))["images"], "the next job is done"


def test_a_cancel_of_a_prompt_that_waits_takes_it_out_of_the_queue(made: Bench, comfy: ComfyProcess) -> None:
    async def go() -> None:
        async with under_way(made, {"workflow": workflow(_3=LONG)}, comfy.url) as first:
            second = asyncio.create_task(made.do({"workflow": workflow(_3=LONG | {"seed": 5})}, "r-2"))
            before = len(comfy.seen()["prompts"])
            await until(lambda: len(comfy.seen()["prompts"]) > before or second.done())
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert len(comfy.seen()["deleted"]) == 1
            assert not first.done(), "the one that runs is left alone"

    run(go())


def test_a_job_that_takes_too_long_is_interrupted(comfy: ComfyProcess) -> None:
    with bench(comfy.base, comfy.url, deadline_s=0.6) as made:
        before = len(comfy.seen()["interrupts"])
        answer = run(made.do({"workflow": workflow(_3=LONG)}))
        assert (answer["code"], answer["details"]) == ("deadline", {"deadline_s": 0.6})
        assert len(comfy.seen()["interrupts"]) == before + 1
    with bench(comfy.base, comfy.url) as made:
        answer = run(made.do({"workflow": workflow(_3=LONG)}, policy={"executionTimeout": 3_000}))
        assert (answer["code"], answer["details"]) == ("deadline", {"deadline_s": 1.0})


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_a_socket_that_breaks_for_a_while(made: Bench, comfy: ComfyProcess, ends_meanwhile: bool) -> None:
    """ComfyUI tells nothing of a prompt that ended while the socket was down."""
    steps = 30 if ends_meanwhile else 120

    async def go() -> dict[str, object]:
        job = {"workflow": workflow(_3={"steps": steps, "delay": 0.02, "seed": int(ends_meanwhile)})}
        async with under_way(made, job, comfy.url) as task:
            sockets = comfy.seen()["sockets"]
            comfy.control(drop_sockets_s=1.2)
            answer = await task
            assert ends_meanwhile or comfy.seen()["sockets"] > sockets, "it has connected again"
            return answer

    assert run(go())["images"]
    percents = [update["percent"] for update in made.sent]
    assert percents == sorted(percents)


def test_a_comfyui_that_dies_is_restarted_and_takes_no_job_meanwhile(tmp_path: Path) -> None:
    url = free_url()

    async def killed(made: Bench, seed: int) -> dict[str, object]:
        made.sent.clear()
        supervisor = made.worker.supervisor
        async with under_way(made, {"workflow": workflow(_3=LONG | {"seed": seed})}, url) as task:
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGKILL)
            await until(lambda: made.worker.concurrency() == 0, 2)
            return await task

    async def go(made: Bench) -> None:
        supervisor = made.worker.supervisor
        answer = await killed(made, 1)
        assert (answer["code"], answer.get("refresh_worker")) == ("comfyui_died", None)
        await until(lambda: made.worker.concurrency() == 1)
        assert supervisor.generation == 2
        assert (await made.do({"workflow": workflow()}))["images"], "and this resets the count"
        for seed, refresh in ((2, None), (3, True)):
            answer = await killed(made, seed)
            assert (answer["code"], answer.get("refresh_worker")) == ("comfyui_died", refresh)
            if refresh is None:
                await until(lambda: made.worker.concurrency() == 1)
        assert supervisor.state is State.GIVEN_UP
        assert made.worker.concurrency() == 0
        answer = await made.do({"workflow": workflow()})
        assert (answer["code"], answer["refresh_worker"]) == ("comfyui_unreachable", True)

    with bench(tmp_path, url, owned=True, most_restarts=1) as made:
        run(go(made))


def test_a_job_that_comes_while_comfyui_starts_waits_for_it(tmp_path: Path) -> None:
    url = free_url()

    async def go(made: Bench) -> dict[str, object]:
        assert made.worker.supervisor.pid is not None
        os.kill(made.worker.supervisor.pid, signal.SIGKILL)
        await until(lambda: made.worker.concurrency() == 0)
        return await made.do({"workflow": workflow()})

    with bench(tmp_path, url, "--boot-s", "0.5", owned=True) as made:
        assert run(go(made))["images"]
        assert made.sent[0]["message"] == "ComfyUI is starting"


def test_a_comfyui_that_hangs_is_killed_and_restarted(tmp_path: Path) -> None:
    url = free_url()

    async def go(made: Bench) -> None:
        supervisor = made.worker.supervisor
        async with under_way(made, {"workflow": workflow(_3=LONG)}, url) as task:
            # As a reset by the network: the socket ends, and nothing answers.
            await asyncio.to_thread(control, url, drop_sockets_s=30)
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGSTOP)
            answer = await task
            assert answer["code"] == "comfyui_died"
        await until(lambda: made.worker.concurrency() == 1)
        assert supervisor.generation == 2

    with bench(tmp_path, url, owned=True, silent_s=0.5) as made:
        run(go(made))


def test_a_prompt_that_ignores_the_interrupt_costs_comfyui_its_life(tmp_path: Path) -> None:
    url = free_url()

    async def go(made: Bench) -> None:
        # A node that sleeps for long looks for an interrupt only afterwards.
        task = asyncio.create_task(made.do({"workflow": workflow(_3={"steps": 2, "delay": 60})}))
        await until(lambda: look(url)["node"] == "3")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.worker.concurrency() == 0, "no job while the last one still has the GPU"
        await until(lambda: made.worker.supervisor.generation == 2)
        await until(lambda: made.worker.concurrency() == 1)

    with bench(tmp_path, url, owned=True, stop_s=0.5) as made:
        run(go(made))


def test_a_comfyui_that_does_not_start_is_given_up() -> None:
    told: list[bool] = []
    supervisor = Supervisor(("false",), free_url(), most_restarts=2, on_given_up=lambda: told.append(True))
    supervisor.start()
    run(until(lambda: supervisor.state is State.GIVEN_UP))
    assert (told, supervisor.generation) == ([True], 3)
    supervisor.stop()
