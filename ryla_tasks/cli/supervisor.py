"""Keeps child processes running until they are to stop: restarts some, and ends with the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import FrameType

from ryla_tasks.cli.exits import Exit
from ryla_tasks.cli.processes import Child

__all__ = ["Backoff", "Program", "Supervisor"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. One that is `kept` is started again when it ends; the end of any other ends everything.

    `on_line` gets the lines of its output; without it they go where ours go.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] | None = None
    kept: bool = False
    on_line: Callable[[str], None] | None = None


@dataclass
class Backoff:
    """The wait before a restart, in seconds: doubles from `first` to `most`, and begins anew after a run of `good`."""

    first: float = 1.0
    most: float = 30.0
    good: float = 60.0
    _next: float = field(default=0.0, init=False)

    def after(self, ran_s: float) -> float:
        """How long to wait after a run that long."""
        wait = self.first if ran_s >= self.good or not self._next else self._next
        self._next = min(wait * 2, self.most)
        return wait


class Supervisor:
    """Runs programs side by side in the main thread until SIGINT or SIGTERM, or until one that is not kept ends.

    The first signal asks all children to end (SIGTERM: a Celery worker finishes its steps), a second one presses them
    (SIGQUIT: it gives its messages back and ends), a third, or `patience_s` seconds, kills them. `say` is told what
    happens. `check` is called each second and returns what is wrong, which ends everything.

    A kept child that ends with exit code 0 was asked to by somebody else (Celery's remote shutdown), so all end, with
    0. One that ends with exit code 2 does not accept its command line, and a restart would not help: all end, with 1.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        say: Callable[[str], None],
        check: Callable[[], str] = lambda: "",
        patience_s: float | None = None,
    ) -> None:
        self._programs = {program.name: program for program in programs}
        self._say = say
        self._check = check
        self._patience_s = patience_s
        # Unlike an Event or a Queue, a SimpleQueue may be put to from a signal handler.
        self._inbox: SimpleQueue[Child | signal.Signals] = SimpleQueue()
        self._children: dict[str, Child] = {}
        self._backoffs = {program.name: Backoff() for program in programs}
        self._restarts: dict[str, float] = {}
        self._asked = 0
        self._kill_at: float | None = None
        self._code = int(Exit.OK)

    def run(self, on_started: Callable[[Mapping[str, int]], None] = lambda _pids: None) -> int:
        """Run until the end, and return the exit code. Nothing is left running, whatever is raised."""
        with self._catching_signals():
            try:
                for program in self._programs.values():
                    self._start(program)
                on_started({name: child.pid for name, child in self._children.items()})
                while self._children or (self._restarts and not self._asked):
                    self._step()
            finally:
                for child in self._children.values():
                    child.kill()
        return self._code

    def _step(self) -> None:
        try:
            message = self._inbox.get(timeout=self._pause())
        except Empty:
            self._tick()
            return
        if isinstance(message, Child):
            self._ended(message)
        else:
            self._press(f"{message.name}: stopping")

    def _pause(self) -> float:
        """How long there is nothing to do."""
        times = [*self._restarts.values(), *([self._kill_at] if self._kill_at is not None else [])]
        return max(0.0, min([_TICK_S, *(moment - time.monotonic() for moment in times)]))

    def _tick(self) -> None:
        now = time.monotonic()
        if self._asked:
            if self._kill_at is not None and now >= self._kill_at:
                self._kill_at = None
                self._kill("no end in time")
            return
        for name in [name for name, moment in self._restarts.items() if now >= moment]:
            del self._restarts[name]
            self._start(self._programs[name])
            self._say(f"{name} is started again, as pid {self._children[name].pid}")
        wrong = self._check()
        if wrong:
            self._fail(wrong)

    def _start(self, program: Program) -> None:
        self._children[program.name] = Child(
            program.name, program.command, env=program.env, on_line=program.on_line, on_end=self._inbox.put
        )

    def _ended(self, child: Child) -> None:
        del self._children[child.name]
        how = f"{child.name} (pid {child.pid}) has ended: {child.how_it_ended}"
        if self._asked:
            return
        if child.returncode == Exit.USAGE or not self._programs[child.name].kept:
            self._fail(how)
        elif child.returncode == 0:
            self._press(f"{how}; somebody else asked it to")
        else:
            wait = self._backoffs[child.name].after(time.monotonic() - child.started)
            self._restarts[child.name] = time.monotonic() + wait
            self._say(f"{how}; starting it again in {wait:g} s")

    def _fail(self, why: str) -> None:
        self._code = int(Exit.FAILED)
        self._press(why)

    def _press(self, why: str) -> None:
        """Go one step further in stopping."""
        self._asked += 1
        if self._asked == 1 and self._patience_s is not None:
            self._kill_at = time.monotonic() + self._patience_s
        if self._asked > 2:
            self._kill(why)
            return
        self._say(why if self._asked == 1 else f"{why} now")
        for child in self._children.values():
            child.send(signal.SIGTERM if self._asked == 1 else signal.SIGQUIT)

    def _kill(self, why: str) -> None:
        self._say(f"{why}: killing {', '.join(self._children) or 'nothing'}")
        for child in self._children.values():
            child.kill()

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        def catch(number: int, _frame: FrameType | None) -> None:
            self._inbox.put(signal.Signals(number))

        before = {number: signal.signal(number, catch) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
