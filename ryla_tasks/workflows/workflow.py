"""ComfyUI workflows as users give them: whether one is in API format, and what can be read from it.

API format is what ComfyUI's POST /prompt takes: `{node id: {"class_type": name, "inputs": {name: value or link}}}`,
a link being `[node id, output number]`.
"""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from ryla_tasks.errors import InvalidJob

__all__ = ["check_workflow", "find_seed", "is_link", "is_model_file", "model_files"]

#: The endings of the files that ComfyUI's loaders take (folder_paths.supported_pt_extensions, and those of node packs).
_MODEL_ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".onnx", ".gguf")

_SEED_INPUTS = ("seed", "noise_seed")


def is_link(value: Any) -> bool:
    """Whether an input's value is a link to another node's output, in ComfyUI's own sense."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
        and not isinstance(value[1], bool)
    )


def check_workflow(workflow: Any) -> None:
    """Raise `InvalidJob`, with the place in its `field`, unless this is a whole workflow in API format.

    Whether the endpoint knows the nodes and has the models is not checked: that depends on the endpoint.
    """
    if not isinstance(workflow, dict):
        raise InvalidJob(f"workflow: a workflow is a JSON object, not {type(workflow).__name__}", field="workflow")
    if not workflow:
        raise InvalidJob("workflow: it is empty", field="workflow")
    _refuse_other_formats(workflow)
    for node_id, node in workflow.items():
        _check_node(node_id, node)
    _check_json(workflow)
    for node_id, node in workflow.items():
        for name, value in node["inputs"].items():
            if is_link(value) and value[0] not in workflow:
                raise InvalidJob(
                    f"workflow: input {name!r} of node {node_id!r} ({node['class_type']}) is linked to node "
                    f"{value[0]!r}, which is not there",
                    field=f"workflow.{node_id}.inputs.{name}",
                )


def model_files(workflow: dict[str, Any]) -> tuple[str, ...]:
    """The model files that a checked workflow names in its inputs, each once, in order."""
    values = (value for node in workflow.values() for value in node["inputs"].values())
    return tuple(dict.fromkeys(value for value in values if is_model_file(value)))


def is_model_file(value: Any) -> TypeGuard[str]:
    """Whether an input's value is named like a model file."""
    return isinstance(value, str) and value.lower().endswith(_MODEL_ENDINGS)


def find_seed(workflow: dict[str, Any]) -> int | None:
    """The seed that a checked workflow runs with, or None if there is none, or more than one."""
    seeds = set()
    for node in workflow.values():
        inputs = node["inputs"]
        if inputs.get("add_noise") == "disable":  # the second half of a split sampling: its seed is not used
            continue
        for name in _SEED_INPUTS:
            value = _followed(workflow, inputs.get(name))
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                seeds.add(value)
    return seeds.pop() if len(seeds) == 1 else None


def _followed(workflow: dict[str, Any], value: Any) -> Any:
    """The number behind a link to a PrimitiveInt."""
    if not is_link(value):
        return value
    node = workflow[value[0]]
    return node["inputs"].get("value") if node["class_type"] == "PrimitiveInt" else None


def _refuse_other_formats(workflow: dict[str, Any]) -> None:
    if isinstance(workflow.get("nodes"), list) and "links" in workflow:
        raise InvalidJob(
            "workflow: this is the format in which ComfyUI's editor saves, which cannot be run. Open it in ComfyUI and "
            "choose 'Workflow > Export (API)'; in older versions switch on 'Enable Dev mode Options' in the settings, "
            "then 'Save (API Format)'. Give the file that this writes",
            field="workflow",
        )
    for name in ("prompt", "workflow"):
        inner = workflow.get(name)
        if isinstance(inner, dict) and "class_type" not in inner:
            raise InvalidJob(
                f"workflow: the workflow seems to be inside {name!r}; give that part alone", field="workflow"
            )


def _check_node(node_id: Any, node: Any) -> None:
    place = f"workflow.{node_id}"
    if not isinstance(node_id, str):
        raise InvalidJob(f"workflow: node id {node_id!r} is not text; JSON has text keys only", field="workflow")
    if not isinstance(node, dict):
        raise InvalidJob(f"workflow: node {node_id!r} is not an object with class_type and inputs", field=place)
    if not isinstance(node.get("class_type"), str) or not node["class_type"]:
        raise InvalidJob(f"workflow: node {node_id!r} has no class_type", field=f"{place}.class_type")
    if not isinstance(node.get("inputs"), dict):
        raise InvalidJob(f"workflow: node {node_id!r} has no inputs (they may be empty)", field=f"{place}.inputs")


def _check_json(workflow: dict[str, Any]) -> None:
    for node_id, node in workflow.items():
        try:
            json.dumps(node, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else _reason(error)
            raise InvalidJob(
                f"workflow: node {node_id!r} cannot be sent as JSON: {reason}", field=f"workflow.{node_id}"
            ) from None


def _reason(error: Exception) -> str:
    """The encoder's reason; a UnicodeEncodeError's text would quote the whole node."""
    return "text that is not valid Unicode" if isinstance(error, UnicodeError) else str(error)
