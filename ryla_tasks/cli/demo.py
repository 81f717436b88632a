"""`ryla demo`: one image job end to end, with everything on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.output import console, json_option, print_json_line

if TYPE_CHECKING:
    from ryla_tasks.cli.processes import Child
    from ryla_tasks.jobs.record import JobRecord

__all__ = ["demo"]

_PROMPT = "a lighthouse on a cliff at dusk, its beam over a calm sea"

#: The simulated endpoint: slow enough that each phase is seen, quick enough that nobody waits.
_SIMULATED = {"cold_start_s": 2.0, "queue_delay_s": 0.5, "run_s": 4.0}
_POLLS = {"poll_min_s": 0.25, "poll_max_s": 0.5}

_PATIENCE_S = 60.0
_STOP_S = 5.0


@click.command()
@click.option("-p", "--prompt", default=_PROMPT, show_default=True, help="What the image shows.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("ryla-demo"),
    show_default=True,
    help="Where the image goes.",
)
@click.option("--width", type=int, default=768, show_default=True, help="Width in pixels.")
@click.option("--height", type=int, default=512, show_default=True, help="Height in pixels.")
@click.option("--sheet", "with_sheet", is_flag=True, help="Then make a character sheet from the image.")
@click.option("--verbose", "-v", is_flag=True, help="Show what Redis, the simulated RunPod and the worker log.")
@json_option
def demo(prompt: str, out: Path, width: int, height: int, with_sheet: bool, verbose: bool, as_json: bool) -> None:
    """Run one image job end to end, with everything on this machine, and leave a PNG.

    Starts a Redis, a simulated RunPod and a Celery worker, enqueues one job as a web app would, shows its progress,
    and stops all of them again. No account, no GPU, no cost: the picture is painted, and marked as simulated. With
    --json each event is a line, and the last line, of type "end", is the job with its files. With --sheet another job
    follows: the same character from eight sides, a simulated GPU for each.
    """
    log = _Log(verbose=verbose and not as_json)
    start = time.monotonic()
    if not as_json:
        console().print("Starting Redis, a simulated RunPod and a Celery worker")
    with _terminated_as_interrupted(), _system(log) as worker:
        record, files = _image({"prompt": prompt, "width": width, "height": height}, out, worker, as_json=as_json)
        if with_sheet and files:
            record, views = _sheet(record, out, worker, as_json=as_json)
            files = [*files, *views] if views else []
    took = time.monotonic() - start
    if as_json:
        from ryla_tasks.cli.following import ended_document

        print_json_line({"type": "end", **ended_document(record, files), "took_s": round(took, 3)})
    else:
        from ryla_tasks.cli.following import print_end

        print_end(console(), record, files)
        console().print(f"All in all {took:.1f} s; Redis, the simulated RunPod and the worker are stopped again.")
    if not files:
        log.show()
    click.get_current_context().exit(Exit.OK if files else Exit.FAILED)


class _Log:
    """The last lines of all children, to show where something went wrong."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._lines: deque[str] = deque(maxlen=60)

    def writer(self, name: str) -> Callable[[str], None]:
        def write(line: str) -> None:
            self._lines.append(f"{name:<9} | {line}")
            if self._verbose:
                click.echo(self._lines[-1], err=True)

        return write

    def show(self) -> None:
        for line in self._lines if not self._verbose else ():
            click.echo(line, err=True)


@contextmanager
def _system(log: _Log) -> Iterator[Child]:
    """Redis, a simulated RunPod and a worker, with this process's settings pointing there. Yields the worker."""
    from ryla_tasks.cli.local import LocalRunPod, celery_command, local_settings, wait_for_port, without_settings
    from ryla_tasks.cli.processes import Child
    from ryla_tasks.cli.worker import OUR_APP, worker_arguments
    from ryla_tasks.embedded import RedisServer

    with ExitStack() as stack:
        # Neither the user's settings nor a .env file shall send the demonstration to a real endpoint, or stop it.
        stack.enter_context(_environment({**without_settings(os.environ), "RYLA_ENV_FILE": ""}))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ryla-demo-")))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        runpod = LocalRunPod(folder, ["image", "special"], options=_SIMULATED)
        env = {**os.environ, **local_settings(redis.url, runpod, folder / "artifacts", **_POLLS)}
        stack.enter_context(_environment(env))
        simulator = Child("simulator", runpod.command, env=env, on_line=log.writer("simulator"))
        stack.callback(simulator.stop, _STOP_S)
        arguments = worker_arguments(4, "INFO", name="demo@%h")
        worker = Child("worker", celery_command(OUR_APP, *arguments), env=env, on_line=log.writer("worker"))
        stack.callback(worker.stop, _STOP_S)
        try:
            wait_for_port(runpod.port, "the simulated RunPod", alive=lambda: simulator.running)
            yield worker
        except Exception:
            log.show()
            raise


def _image(wish: dict[str, Any], out: Path, worker: Child, *, as_json: bool) -> tuple[JobRecord, list[Path]]:
    from ryla_tasks import generate_image

    job_id = generate_image.delay(template="z-image-turbo", user_id="demo", **wish).id
    return _one_job(job_id, wish["prompt"], out, worker, as_json=as_json)


def _sheet(image: JobRecord, out: Path, worker: Child, *, as_json: bool) -> tuple[JobRecord, list[Path]]:
    """A character sheet from the image of an ended job."""
    from ryla_tasks import make_character_sheet

    (artifact, *_) = (image.ending or {})["result"]["artifacts"]
    job_id = make_character_sheet.delay(image=artifact, user_id="demo", width=512, height=512).id
    return _one_job(job_id, "the same character from all sides", out, worker, as_json=as_json)


def _one_job(job_id: str, what: str, out: Path, worker: Child, *, as_json: bool) -> tuple[JobRecord, list[Path]]:
    """Follow an enqueued job to its end, and keep its pictures."""
    from ryla_tasks.cli.following import follow, save_files
    from ryla_tasks.cli.views import view_for
    from ryla_tasks.job import Job
    from ryla_tasks.jobs.states import State

    def check() -> None:
        if not worker.running:
            raise Failure(f"the worker has ended by itself: {worker.how_it_ended}", Exit.FAILED)

    job = Job(job_id)
    if not as_json:
        console().print(f"Job {job.id}: {what}", soft_wrap=True)
    with view_for(as_json=as_json) as view:
        record = follow(job, view, timeout=_PATIENCE_S, check=check)
    if record.state is not State.COMPLETED:
        return record, []
    files = save_files(job, out)
    for path in files:
        _check_png(path)
    return record, files


def _check_png(path: Path) -> None:
    """Raise `Failure` if a file is not a whole PNG."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise Failure(f"{path} is not a valid PNG: {error}", Exit.FAILED) from error


@contextmanager
def _environment(env: dict[str, str]) -> Iterator[None]:
    """Have this process read its settings from there."""
    from ryla_tasks.settings import reset_settings

    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    reset_settings()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        reset_settings()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: clean up and end."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)
