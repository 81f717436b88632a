"""Parts of a template that are left out where a parameter is empty: their nodes go, and links are led past them.

The ComfyUI editor's "bypass" in the parsed tree, declared by the manifest: what came out of a node that is left out
comes from one of its own inputs instead, or from another node, or is not there at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ryla_tasks.workflows.workflow import is_link

__all__ = ["OptionalPart", "is_empty", "misfit", "without"]

#: In place of one output: an input of the same node, a link to another node's output, or nothing.
Instead = str | Annotated[tuple[str, int], Field(strict=False)] | None


class OptionalPart(BaseModel):
    """Nodes that are left out where `parameter` is empty: "" or false.

    `bypass` says for each of them what takes the place of its outputs, in their order: the name of an input of the
    same node, whose link is passed on; a link `[node, output]`; or null, and the input that wanted it is left out.
    Outputs that only nodes of the same part use need nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    parameter: str
    bypass: Annotated[dict[str, Annotated[tuple[Instead, ...], Field(strict=False)]], Field(min_length=1)]


def is_empty(value: Any) -> bool:
    """Whether a parameter's value leaves its optional part out."""
    return value is False or value == ""


def without(workflow: dict[str, Any], parts: Sequence[OptionalPart]) -> dict[str, Any]:
    """The workflow without these parts, its links led past them. The nodes are those of `workflow`, changed."""
    if not parts:
        return workflow
    gone = {node_id for part in parts for node_id in part.bypass}
    kept = {node_id: node for node_id, node in workflow.items() if node_id not in gone}
    for node in kept.values():
        for name, value in list(node["inputs"].items()):
            if is_link(value) and value[0] in gone:
                link = _led_past(value, workflow, parts, gone)
                if link is None:
                    del node["inputs"][name]
                else:
                    node["inputs"][name] = list(link)
    return kept


def _led_past(
    link: Any, workflow: Mapping[str, Any], parts: Sequence[OptionalPart], gone: Collection[str]
) -> Sequence[Any] | None:
    """Where a link to a node that is left out leads instead. A manifest that passed `misfit` has no dead ends."""
    while link is not None and link[0] in gone:
        part = next(part for part in parts if _covers(part, link))
        instead = part.bypass[link[0]][link[1]]
        link = workflow[link[0]]["inputs"][instead] if isinstance(instead, str) else instead
    return link  # type: ignore[no-any-return]


def _covers(part: OptionalPart, link: Any) -> bool:
    return 0 <= int(link[1]) < len(part.bypass.get(link[0], ()))


def misfit(parts: Sequence[OptionalPart], workflow: Mapping[str, Any]) -> str:
    """Why these parts cannot be left out of the workflow, each alone or any of them together; empty where they can."""
    for part in parts:
        for problem in _problems(part, workflow):
            return f"optional part {part.parameter!r}: {problem}"
    everything = {node_id for part in parts for node_id in part.bypass}
    if everything >= workflow.keys():
        return "optional parts: nothing is left without them"
    return ""


def _problems(part: OptionalPart, workflow: Mapping[str, Any]) -> Iterator[str]:
    for node_id, outputs in part.bypass.items():
        if node_id not in workflow:
            yield f"node {node_id!r} is not in the workflow"
            return
        for instead in outputs:
            if isinstance(instead, str) and not is_link(workflow[node_id]["inputs"].get(instead)):
                yield f"node {node_id!r} has no input {instead!r} that is a link"
            if isinstance(instead, tuple) and (instead[0] not in workflow or instead[0] in part.bypass):
                yield f"the link to node {instead[0]!r} in place of an output of {node_id!r} leads nowhere"
    for user_id, node in workflow.items():
        for name, value in node["inputs"].items():
            if user_id in part.bypass or not is_link(value) or value[0] not in part.bypass:
                continue
            if not _covers(part, value):
                yield f"input {name!r} of node {user_id!r} needs output {value[1]} of node {value[0]!r}"
            elif _loops(value, part, workflow):
                yield f"input {name!r} of node {user_id!r} is led round in a circle"


def _loops(link: Any, part: OptionalPart, workflow: Mapping[str, Any]) -> bool:
    seen = set()
    while link is not None and link[0] in part.bypass:
        if (link[0], link[1]) in seen or not _covers(part, link):
            return True
        seen.add((link[0], link[1]))
        instead = part.bypass[link[0]][link[1]]
        link = workflow[link[0]]["inputs"].get(instead) if isinstance(instead, str) else instead
        if link is not None and not is_link(link):
            return True
    return False
