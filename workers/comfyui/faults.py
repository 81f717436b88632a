"""What ComfyUI says is wrong, as JSON: node, class, title, input, reason. Pure.

The codes are rows of the verdict table of `ryla_tasks` (docs/errors.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workers.common.failures import JobFailure

__all__ = ["died", "prompt_refused", "run_failed", "title_of", "unreachable"]

_MODELS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
_IMAGE_LOADERS = frozenset({"LoadImage", "LoadImageMask", "LoadImageOutput", "LoadVideo"})
_MOST_REASON = 500
_MOST_NODES = 50

_SENTENCES = {
    "missing_node": "The workflow uses a node that the GPU worker does not have.",
    "workflow_incomplete": "The workflow has no output.",
    "missing_model": "A model that the workflow needs is not on the GPU worker.",
    "missing_image": "An input image of the workflow is missing.",
    "invalid_workflow": "The workflow is not valid.",
    "node_failed": "A step of the workflow failed on the GPU worker.",
    "interrupted": "The work was interrupted on the GPU worker.",
    "comfyui_died": "ComfyUI broke off on the GPU worker.",
    "comfyui_unreachable": "ComfyUI did not start on the GPU worker.",
}
_WHOLE = {
    "invalid_prompt": "missing_node",
    "missing_node_type": "missing_node",
    "prompt_no_outputs": "workflow_incomplete",
    "no_prompt": "workflow_incomplete",
}


def failure(code: str, details: dict[str, Any], *, refresh: bool = False) -> JobFailure:
    return JobFailure(code, _SENTENCES[code], details, refresh=refresh)


def died(*, refresh: bool = False) -> JobFailure:
    """ComfyUI ended while it worked on the job. `refresh`: it has done so too often."""
    return failure("comfyui_died", {}, refresh=refresh)


def unreachable(*, refresh: bool = False) -> JobFailure:
    """ComfyUI does not answer, and did not when the job came."""
    return failure("comfyui_unreachable", {}, refresh=refresh)


def title_of(workflow: Mapping[str, Any], node_id: str) -> str:
    """What the author of a workflow calls a node, or its class."""
    node = workflow.get(node_id)
    if not isinstance(node, Mapping):
        return ""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) and title else str(node.get("class_type", ""))


def prompt_refused(answer: Any, workflow: Mapping[str, Any]) -> JobFailure:
    """The failure for an answer of POST /prompt: a refusal, or one that was taken with `node_errors`."""
    answer = answer if isinstance(answer, Mapping) else {}
    error = answer.get("error")
    error = error if isinstance(error, Mapping) else {"message": str(error or "")}
    kind = str(error.get("type", ""))
    nodes = list(_nodes(answer.get("node_errors"), workflow))[:_MOST_NODES]
    details = {"type": kind, "reason": _words(error), "nodes": nodes}
    return failure(_code(kind, nodes), {name: value for name, value in details.items() if value})


def _code(kind: str, nodes: list[dict[str, Any]]) -> str:
    if kind in _WHOLE:
        return _WHOLE[kind]
    if any(_is_missing_model(node) for node in nodes):
        return "missing_model"
    if any(node["type"] == "custom_validation_failed" and node["class"] in _IMAGE_LOADERS for node in nodes):
        return "missing_image"
    return "invalid_workflow"


def _is_missing_model(node: Mapping[str, Any]) -> bool:
    return node["type"] == "value_not_in_list" and str(node.get("value", "")).lower().endswith(_MODELS)


def _nodes(errors: Any, workflow: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if not isinstance(errors, Mapping):
        return
    for node_id, about in errors.items():
        if not isinstance(about, Mapping):
            continue
        for error in about.get("errors") or ():
            extra = error.get("extra_info") or {}
            node = {
                "node": str(node_id),
                "class": str(about.get("class_type", "")),
                "title": title_of(workflow, str(node_id)),
                "input": str(extra.get("input_name", "")),
                "type": str(error.get("type", "")),
                "reason": _words(error),
            }
            # What a choice was given is a name. What another input was given may be a prompt.
            if node["type"] == "value_not_in_list":
                node["value"] = str(extra.get("received_value", ""))[:200]
            yield node


def run_failed(messages: Any, workflow: Mapping[str, Any]) -> JobFailure | None:
    """The failure that the messages of an entry in /history tell; None where they tell of none."""
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, list) or len(message) != 2 or not isinstance(message[1], Mapping):
            continue
        kind, data = message
        node_id, class_type = str(data.get("node_id", "")), str(data.get("node_type", ""))
        node = {"node": node_id, "class": class_type, "title": title_of(workflow, node_id)}
        if kind == "execution_interrupted":
            return failure("interrupted", {"nodes": [node]})
        if kind == "execution_error":
            reason = str(data.get("exception_message", "")).strip()[:_MOST_REASON]
            trace = data.get("traceback")
            lines = [str(line)[:300] for line in trace[-3:]] if isinstance(trace, list) else []
            return failure(
                "node_failed",
                {
                    "exception_type": str(data.get("exception_type", ""))[:200],
                    "exception_message": reason,
                    "nodes": [{**node, "reason": reason}],
                    "traceback": lines,
                },
            )
    return None


def _words(error: Mapping[str, Any]) -> str:
    parts = (str(error.get(name) or "") for name in ("message", "details"))
    return ": ".join(part for part in parts if part)[:_MOST_REASON]
