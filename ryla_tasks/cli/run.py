"""`ryla run`: enqueue a job from the command line, and wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ryla_tasks.cli.exits import Exit
from ryla_tasks.cli.output import console, json_option, print_json
from ryla_tasks.cli.params import asked_for, param_options, parse_json, read_json
from ryla_tasks.errors import InvalidJob

if TYPE_CHECKING:
    from ryla_tasks.job import Job

__all__ = ["common_options", "enqueue", "run"]

F = TypeVar("F", bound=Callable[..., Any])

_COMMON = (
    click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the end, showing the progress."),
    click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this."),
    click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write the job's files here."),
    click.option("--user", "user_id", help="The user whose job it is."),
    click.option("--tag", "tags", multiple=True, help="A tag; may be repeated."),
    click.option("--priority", type=click.Choice(["high", "normal", "low"]), help="How soon it is taken."),
    click.option("--deadline", "deadline_s", type=float, metavar="SECONDS", help="When to give up, from now."),
    click.option(
        "--max-cost",
        "max_cost_usd",
        type=click.FloatRange(min=0, min_open=True),
        metavar="USD",
        help="The most that it may cost.",
    ),
    click.option("--idempotency-key", help="The same key of the same user gives the same job."),
    json_option,
)


def common_options(function: F) -> F:
    """The options of every job, for `enqueue`."""
    for option in reversed(_COMMON):
        function = option(function)
    return function


@click.group()
def run() -> None:
    """Enqueue a job, and wait for it.

    Some worker has to run on the same Redis: `ryla worker`, or all of `ryla dev`.
    """


@run.command()
@param_options
@click.option("--template", help="A workflow template.  [default: z-image-turbo, without --workflow]")
@click.option(
    "--workflow",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with a workflow in ComfyUI's API format, in place of a template.",
)
@common_options
def image(
    prompt: str | None,
    params: tuple[str, ...],
    images: tuple[str, ...],
    template: str | None,
    workflow: Path | None,
    **common: Any,
) -> None:
    """Generate images from a template or a ComfyUI workflow.

    \b
    ryla run image -p "a lighthouse at dusk" --param width=768 --out pictures
    ryla run image --template face-swap-reactor --image image=beach.jpg --image face=me.jpg
    """
    from ryla_tasks import generate_image

    asked = asked_for(prompt, params, images)
    if workflow is not None:
        asked["workflow"] = read_json(workflow, "--workflow")
    if template is not None or workflow is None:
        asked["template"] = template or "z-image-turbo"
    enqueue(generate_image, (), asked, **common)


@run.command()
@click.argument("name")
@click.option(
    "--input",
    "job_input",
    required=True,
    metavar="JSON|@FILE",
    help="What the endpoint's handler gets: a JSON object, or @ and a file with one.",
)
@common_options
def endpoint(name: str, job_input: str, **common: Any) -> None:
    """Run the endpoint NAME of the settings with any input.

    \b
    ryla run endpoint upscale --input '{"url": "https://example.org/cat.png"}'
    """
    from ryla_tasks import run_endpoint

    text = job_input
    if job_input.startswith("@"):
        try:
            text = Path(job_input[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidJob(f"--input: {error.filename}: {error.strerror}", field="input") from error
    enqueue(run_endpoint, (name, parse_json(text, "--input")), {}, **common)


def enqueue(
    task: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait: bool,
    timeout: float | None,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Enqueue a job, and wait for it unless told not to."""
    from ryla_tasks.job import Job

    given = {name: value for name, value in options.items() if value}
    job = Job(task.apply_async(args, {**kwargs, **given}).id)
    if wait:
        _wait(job, timeout, out, as_json=as_json)
    elif as_json:
        print_json({"job_id": job.id, "status": str(job.status)})
    else:
        click.echo(job.id)


def _wait(job: Job, timeout: float | None, out: Path | None, *, as_json: bool) -> None:
    from ryla_tasks.cli.following import end_code, ended_document, follow, print_end, save_files
    from ryla_tasks.cli.views import SilentView, view_for

    screen = console()
    if not as_json:
        screen.print(f"Job {job.id}")
    start = time.monotonic()
    with SilentView() if as_json else view_for(as_json=False) as view:
        record = follow(job, view, timeout=timeout)
    code = end_code(record)
    files = save_files(job, out) if out is not None and code is Exit.OK else []
    if as_json:
        print_json({**ended_document(record, files), "waited_s": round(time.monotonic() - start, 3)})
    else:
        print_end(screen, record, files)
    click.get_current_context().exit(code)
