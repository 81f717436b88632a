"""`ryla workflows check`: a template or a workflow, by itself, against a ComfyUI's nodes, or on a GPU worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.output import console, json_option, print_json
from ryla_tasks.cli.params import asked_for, param_options, read_json

if TYPE_CHECKING:
    from ryla_tasks.workflows import Template
    from ryla_tasks.workflows.nodes import Findings

__all__ = ["check"]

_COMFY_TIMEOUT_S = 30


@click.command()
@click.argument("what", metavar="NAME|FILE")
@param_options
@click.option("--endpoint", help="Ask a worker of this endpoint of the settings, by a job that runs nothing.")
@click.option("--comfy", metavar="URL", help="Ask a running ComfyUI for the nodes and models that it has.")
@click.option(
    "--object-info",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the answer of a ComfyUI's GET /object_info.",
)
@click.option("--timeout", type=click.FloatRange(min=0), default=600, show_default=True, help="Seconds for --endpoint.")
@json_option
def check(
    what: str,
    prompt: str | None,
    params: tuple[str, ...],
    images: tuple[str, ...],
    endpoint: str | None,
    comfy: str | None,
    object_info: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Check a template, or a FILE with a workflow in API format.

    By itself: the format, and that manifest and workflow fit. With --object-info or --comfy: that all nodes, inputs,
    values and model files are there, of a template with each of its optional parts. With --endpoint the same is asked
    of a worker there, for what the parameters given would render to; it costs a second of GPU time and, where no
    worker is up, a cold start. The worker must know the preflight: one that does not runs the workflow instead.

    \b
    ryla workflows check flux-pulid --endpoint image
    ryla workflows check my-workflow.json --comfy http://127.0.0.1:8188
    """
    if sum(map(bool, (endpoint, comfy, object_info))) > 1:
        raise click.UsageError("give one of --endpoint, --comfy and --object-info")
    template, workflow = _wanted(what, asked_for(prompt, params, images))
    if endpoint:
        found = _asked_of(endpoint, workflow, timeout)
    elif (nodes := _nodes(comfy, object_info)) is not None:
        found = _held_against(nodes, template, workflow).to_json()
    else:
        found = {"ok": True}
    ok = bool(found["ok"])
    document = {"checked": what, "against": endpoint or comfy or (str(object_info) if object_info else None), **found}
    if as_json:
        print_json(document)
    else:
        _print(document)
    click.get_current_context().exit(Exit.OK if ok else Exit.FAILED)


def _wanted(what: str, params: Mapping[str, Any]) -> tuple[Template | None, dict[str, Any]]:
    """The template and what it renders to with these parameters, or the workflow in a file."""
    from ryla_tasks.settings import get_settings
    from ryla_tasks.workflows import check_workflow, get_template
    from ryla_tasks.workflows.checking import sample

    if what.lower().endswith(".json") or "/" in what:
        if params:
            raise click.UsageError("only a template takes parameters")
        workflow = read_json(Path(what), "workflow")
        check_workflow(workflow)
        return None, workflow
    template = get_template(what, get_settings().templates_dir)
    required = {one.name: sample(one) for one in template.manifest.parameters if one.required and not one.internal}
    return template, template.render_with({**required, **params}).workflow


def _nodes(comfy: str | None, file: Path | None) -> dict[str, Any] | None:
    """What /object_info says, from a file or from a running ComfyUI."""
    if comfy is None and file is None:
        return None
    found = read_json(file, "--object-info") if file else _fetched(comfy or "")
    if (
        not found
        or not isinstance(found, dict)
        or not all(isinstance(one, dict) and "input" in one for one in found.values())
    ):
        raise Failure("That is not the answer of a ComfyUI's GET /object_info.", Exit.USAGE)
    return dict(found)


def _fetched(url: str) -> Any:
    import requests

    try:
        answer = requests.get(f"{url.rstrip('/')}/object_info", timeout=_COMFY_TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()
    except requests.RequestException as error:
        raise Failure(f"No ComfyUI answers at {url}: {type(error).__name__}", Exit.UNREACHABLE) from error


def _held_against(nodes: dict[str, Any], template: Template | None, workflow: dict[str, Any]) -> Findings:
    from ryla_tasks.workflows.checking import check_template
    from ryla_tasks.workflows.nodes import check_nodes

    return check_nodes(workflow, nodes) if template is None else check_template(template, nodes)


def _asked_of(endpoint: str, workflow: dict[str, Any], timeout: float) -> dict[str, Any]:
    """What a worker of the endpoint answers to a preflight, which is a job like any other."""
    from ryla_tasks import run_endpoint
    from ryla_tasks.cli.following import follow
    from ryla_tasks.cli.views import SilentView
    from ryla_tasks.job import Job

    job = Job(run_endpoint.apply_async((endpoint, {"workflow": workflow, "check": True})).id)
    follow(job, SilentView(), timeout=timeout)
    data = job.result().get("data")
    if not isinstance(data, dict) or not isinstance(data.get("ok"), bool):
        raise Failure(
            f"The worker of the endpoint {endpoint!r} does not know the preflight: it ran the workflow "
            f"(job {job.id}). That of this project does; of another one, ask its ComfyUI with --comfy.",
            Exit.FAILED,
        )
    return {
        "ok": data["ok"],
        "missing_nodes": list(data.get("missing_nodes") or []),
        "missing_models": list(data.get("missing_models") or []),
        "problems": list(data.get("problems") or []),
        "warnings": list(data.get("warnings") or []),
        "job_id": job.id,
    }


def _print(document: Mapping[str, Any]) -> None:
    out = console()
    against = document["against"]
    if document["ok"]:
        out.print(
            f"{document['checked']} is well formed." if against is None else f"{document['checked']} can run there."
        )
    else:
        out.print(f"{document['checked']} cannot run there:")
    for title, word in (("missing_nodes", "missing node"), ("missing_models", "missing model")):
        for one in document.get(title, ()):
            out.print(f"  {word}: {_line(one)}")
    for title, word in (("problems", "problem"), ("warnings", "warning")):
        for one in document.get(title, ()):
            out.print(f"  {word}: {one.get('message', one) if isinstance(one, Mapping) else one}")


def _line(one: Any) -> str:
    """A missing node or model, as a name or as an object with one."""
    if not isinstance(one, Mapping):
        return str(one)
    name = next((str(one[key]) for key in ("file", "name", "class_type", "value") if one.get(key)), str(dict(one)))
    where = f" (node {one['node']}, {one.get('class_type', '')})" if one.get("node") else ""
    return name + where
