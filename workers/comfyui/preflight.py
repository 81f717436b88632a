"""What a workflow needs and ComfyUI does not have: node classes, and model files. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.comfyui.faults import failure, title_of
from workers.common.failures import JobFailure

__all__ = ["Missing", "class_names", "find_missing"]

_MODELS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".torchscript")


@dataclass(slots=True)
class Missing:
    """Nodes at fault, as JSON. `node_classes` lack as a whole, at `models` a file is not in the list of choices."""

    node_classes: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        """The answer to a job that only asks."""
        return {
            "ok": not (self.node_classes or self.models),
            "missing_nodes": sorted({node["class"] for node in self.node_classes}),
            "missing_models": sorted({node["value"] for node in self.models}),
            "nodes": [*self.node_classes, *self.models],
        }

    def failure(self) -> JobFailure | None:
        """The failure of a job that needs what is missing. A missing node comes first: its models are unknown."""
        if self.node_classes:
            return failure("missing_node", {"type": "missing_node_type", "nodes": self.node_classes})
        if self.models:
            return failure("missing_model", {"type": "prompt_outputs_failed_validation", "nodes": self.models})
        return None


def class_names(workflow: Mapping[str, Any]) -> set[str]:
    """The classes of nodes that a workflow uses."""
    return {str(node["class_type"]) for node in workflow.values() if node.get("class_type")}


def find_missing(workflow: Mapping[str, Any], classes: Mapping[str, Any]) -> Missing:
    """Compare a workflow with what /object_info says of its classes.

    Only what is surely absent is found: a value that ComfyUI's own list of files does not have. Everything else that
    may be wrong with a workflow is for ComfyUI to tell.
    """
    missing = Missing()
    for node_id, node in workflow.items():
        class_type = str(node.get("class_type", ""))
        about = {"node": node_id, "class": class_type, "title": title_of(workflow, node_id)}
        if not class_type:
            continue
        if class_type not in classes:
            reason = f"{class_type} is not installed"
            missing.node_classes.append({**about, "type": "missing_node_type", "reason": reason})
            continue
        for name, options in _choices(classes[class_type]):
            value = node.get("inputs", {}).get(name)
            if isinstance(value, str) and value.lower().endswith(_MODELS) and value not in options:
                reason = f"Value not in list: {name}: '{value}'"
                missing.models.append(
                    {**about, "input": name, "type": "value_not_in_list", "reason": reason, "value": value}
                )
    return missing


def _choices(about: Mapping[str, Any]) -> Iterable[tuple[str, list[Any]]]:
    """The inputs of a class that are choices, in either of ComfyUI's notations. Those filled from elsewhere are not."""
    sections = about.get("input")
    for section in ("required", "optional"):
        fields = sections.get(section) if isinstance(sections, Mapping) else None
        for name, config in fields.items() if isinstance(fields, Mapping) else ():
            extra = config[1] if len(config) > 1 and isinstance(config[1], Mapping) else {}
            if extra.get("image_upload") or extra.get("video_upload") or extra.get("remote"):
                continue
            if isinstance(config[0], list):
                yield name, config[0]
            elif config[0] == "COMBO" and isinstance(extra.get("options"), list):
                yield name, extra["options"]
