"""Child processes: their output, their end, their restarts, and that none is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from ryla_tasks.cli.processes import Child
from ryla_tasks.cli.supervisor import Backoff, Program, Supervisor

SLEEP = ["/bin/sleep", "60"]
#: Says that it is ready, and takes no notice of SIGTERM and SIGQUIT.
STUBBORN = ["/bin/sh", "-c", "trap '' TERM QUIT; echo ready; while :; do sleep 0.05; done"]


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_a_child_hands_on_its_lines_and_then_its_end() -> None:
    seen: SimpleQueue[object] = SimpleQueue()
    Child("x", shell("echo one; echo two >&2; printf three; exit 7"), on_line=seen.put, on_end=seen.put)
    got = [seen.get(timeout=10) for _ in range(4)]
    assert got[:3] == ["one", "two", "three"]
    child = got[3]
    assert isinstance(child, Child)
    assert (child.returncode, child.how_it_ended, child.running) == (7, "exit code 7", False)


def test_bytes_that_are_no_text_do_not_end_the_reading() -> None:
    seen: SimpleQueue[object] = SimpleQueue()
    Child("x", shell(r"printf '\377\n'; echo after"), on_line=seen.put)
    assert [seen.get(timeout=10), seen.get(timeout=10)] == ["�", "after"]


def test_stop_asks_first_and_kills_the_whole_group_then() -> None:
    polite = Child("polite", SLEEP)
    polite.stop(10)
    assert polite.how_it_ended == "SIGTERM"
    seen: SimpleQueue[str] = SimpleQueue()
    stubborn = Child("stubborn", STUBBORN, on_line=seen.put)
    assert seen.get(timeout=10) == "ready"
    below = psutil.Process(stubborn.pid).children(recursive=True)
    stubborn.stop(0.2)
    assert stubborn.how_it_ended == "SIGKILL"
    assert not psutil.wait_procs(below, timeout=5)[1]


def test_a_child_ends_with_its_parent_even_if_that_is_killed() -> None:
    code = (
        "import sys, time; from ryla_tasks.cli.processes import Child\n"
        "print(Child('x', ['/bin/sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    parent = psutil.Popen([sys.executable, "-c", code], stdout=-1, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    # Where nobody reaps orphans it stays as a zombie, which has ended as well.
    end = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the child outlived its parent"
        time.sleep(0.02)


def test_the_wait_before_a_restart_doubles_and_begins_anew_after_a_good_run() -> None:
    backoff = Backoff(first=1, most=6, good=60)
    assert [backoff.after(0.1) for _ in range(5)] == [1, 2, 4, 6, 6]
    assert [backoff.after(60), backoff.after(59)] == [1, 2]


def supervised(programs: list[Program], *, signals: int = 0, **options: object) -> tuple[int, list[str], set[int]]:
    """Run a supervisor; so many signals come at its start. Returns its code, what it said, and the first pids."""
    said: list[str] = []
    first: set[int] = set()

    def started(pids: Mapping[str, int]) -> None:
        first.update(pids.values())
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)

    supervisor = Supervisor(programs, say=said.append, **options)  # type: ignore[arg-type]
    code = supervisor.run(started)
    assert not [pid for pid in first if psutil.pid_exists(pid)]
    return code, said, first


def test_a_signal_stops_all() -> None:
    before = signal.getsignal(signal.SIGTERM)
    code, said, pids = supervised([Program("a", SLEEP), Program("b", SLEEP, kept=True)], signals=1)
    assert (code, said, len(pids)) == (0, ["SIGTERM: stopping"], 2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_third_signal_kills() -> None:
    ready: list[str] = []

    def on_line(line: str) -> None:
        ready.append(line)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)  # signals of one number that come at once are one

    code, said, _ = supervised([Program("a", STUBBORN, on_line=on_line)])
    assert (code, ready) == (0, ["ready"])
    assert said == ["SIGINT: stopping", "SIGINT: stopping now", "SIGINT: stopping: killing a"]


def test_who_does_not_end_in_time_is_killed() -> None:
    def stop(_line: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    code, said, _ = supervised([Program("a", STUBBORN, on_line=stop)], patience_s=0.2)
    assert (code, said) == (0, ["SIGTERM: stopping", "no end in time: killing a"])


def test_a_kept_program_is_started_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    script = f"echo x >> {marks}; [ $(wc -l < {marks}) -ge 2 ] && exit 0; kill -9 $$"
    code, said, _ = supervised([Program("a", shell(script), kept=True)])
    assert (code, len(said)) == (0, 3)
    assert "SIGKILL; starting it again in 1 s" in said[0]
    assert "is started again, as pid" in said[1]
    assert "exit code 0; somebody else asked it to" in said[2]


@pytest.mark.parametrize(("status", "kept"), [(0, False), (3, False), (2, True)])
def test_the_end_of_any_other_ends_all_with_1(status: int, kept: bool) -> None:
    code, said, _ = supervised([Program("stays", SLEEP), Program("goes", shell(f"exit {status}"), kept=kept)])
    assert code == 1
    assert len(said) == 1
    assert f"has ended: exit code {status}" in said[0]


def test_what_is_wrong_elsewhere_ends_all_with_1() -> None:
    code, said, _ = supervised([Program("a", SLEEP)], check=lambda: "Redis has ended")
    assert (code, said) == (1, ["Redis has ended"])


def test_a_program_that_is_not_there_leaves_none_running() -> None:
    pids: list[int] = []
    before = set(psutil.Process().children())
    with pytest.raises(FileNotFoundError):
        Supervisor([Program("a", SLEEP), Program("b", ["/no/such/program"])], say=pids.append).run()  # type: ignore[arg-type]
    running = [one for one in psutil.Process().children() if one not in before and one.status() != "zombie"]
    assert not [one.cmdline() for one in running if one.cmdline()[:1] == SLEEP[:1]]
