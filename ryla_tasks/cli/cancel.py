"""`ryla cancel`: ask a job to stop."""

from __future__ import annotations

import time

import click

from ryla_tasks.cli.exits import Exit
from ryla_tasks.cli.output import console, json_option, print_json

__all__ = ["cancel"]


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until it has stopped.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="With --wait: no longer than this.")
@json_option
def cancel(job_id: str, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Ask the job ID to stop; one on a GPU is cancelled there.

    Exit code 1 where it is too late, with --wait also where the job ended otherwise before the cancel arrived.
    """
    from ryla_tasks.cli.documents import job_document
    from ryla_tasks.cli.following import follow
    from ryla_tasks.cli.views import SilentView, view_for
    from ryla_tasks.job import Job
    from ryla_tasks.jobs.states import State

    job = Job.get(job_id)
    asked = job.cancel()
    record = job.record
    if wait and asked:
        with SilentView() if as_json else view_for(as_json=False) as view:
            record = follow(job, view, timeout=timeout)
    if as_json:
        print_json({"asked": asked, **job_document(record, time.time())})
    elif not asked:
        console().print(f"Too late: job {job.id} is {record.state}.")
    else:
        state = "cancelled" if record.state is State.CANCELLED else f"{record.state}, and was asked to stop"
        console().print(f"Job {job.id} is {state}.")
    stopped = asked and (record.state is State.CANCELLED or not record.state.ended)
    click.get_current_context().exit(Exit.OK if stopped else Exit.FAILED)
