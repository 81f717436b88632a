"""How worker-comfyui fails a workflow that wants a node or a model which its ComfyUI does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..config import EndpointConfig
from .base import ProgramError

__all__ = ["preflight", "refuse_what_is_missing"]


def preflight(workflow: Mapping[str, Any], config: EndpointConfig) -> dict[str, Any]:
    """What the ComfyUI worker of this project answers to `{"workflow": ..., "check": true}`: nothing is run."""
    nodes = [node for node in workflow.values() if isinstance(node, Mapping)]
    values = [value for node in nodes for value in dict(node.get("inputs") or {}).values()]
    missing_nodes = [node["class_type"] for node in nodes if node.get("class_type") in config.missing_nodes]
    missing_models = [value for value in values if isinstance(value, str) and value in config.missing_models]
    return {
        "ok": not (missing_nodes or missing_models),
        "missing_nodes": list(dict.fromkeys(missing_nodes)),
        "missing_models": list(dict.fromkeys(missing_models)),
    }


def refuse_what_is_missing(workflow: Mapping[str, Any], config: EndpointConfig) -> None:
    """Raises `ProgramError` with the words of worker-comfyui 5.8.5; a missing node is found first, as by ComfyUI."""
    nodes = {str(node_id): node for node_id, node in workflow.items() if isinstance(node, Mapping)}
    for node_id, node in nodes.items():
        if node.get("class_type") in config.missing_nodes:
            raise ProgramError(_no_such_node(node_id, node["class_type"]))
    faults = [_no_such_model(node_id, node, config) for node_id, node in nodes.items()]
    if any(faults):
        raise ProgramError("\n".join(["Workflow validation failed:", *filter(None, faults)]))


def _no_such_node(node_id: str, class_type: str) -> str:
    said = f"Cannot execute because node {class_type} does not exist."
    error = {"type": "invalid_prompt", "message": said, "details": f"Node ID '#{node_id}'", "extra_info": {}}
    return f"{said}. Raw response: {json.dumps({'error': error, 'node_errors': {}})}"


def _no_such_model(node_id: str, node: Mapping[str, Any], config: EndpointConfig) -> str:
    """The lines about one node, its errors in Python's notation; nothing where it has all its models."""
    inputs = node.get("inputs")
    errors = [
        {
            "type": "value_not_in_list",
            "message": "Value not in list",
            "details": f"{name}: {value!r} not in []",
            "extra_info": {"input_name": name, "input_config": [[], {}], "received_value": value},
        }
        for name, value in (inputs.items() if isinstance(inputs, Mapping) else ())
        if isinstance(value, str) and value in config.missing_models
    ]
    if not errors:
        return ""
    return f"• Node {node_id} (errors): {errors!r}\n• Node {node_id} (class_type): {node.get('class_type')}"
