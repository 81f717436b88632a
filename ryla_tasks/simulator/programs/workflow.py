"""Reads from a ComfyUI workflow what the simulated image worker needs to know.

A workflow in API format is `{node id: {"class_type": ..., "inputs": {name: value or [node id, output]}}}` (ComfyUI,
POST /prompt). Nodes are known by what they have, not by a list of classes: custom nodes name things alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .base import ProgramError

__all__ = ["Picture", "read_workflow"]

_MAX_SIDE = 4096
_MAX_PICTURES = 64
_TEXT_INPUTS = ("text", "prompt", "clip_l", "t5xxl", "text_g", "text_l", "string", "value")
_NUMBER_INPUTS = ("value", "int", "number", "seed", "noise_seed", "INT")


@dataclass(frozen=True, slots=True)
class Picture:
    """One image that the workflow would save."""

    prompt: str
    negative: str
    seed: int
    width: int
    height: int
    steps: int
    index: int
    filename: str
    node: str


def read_workflow(workflow: Any, default_steps: int) -> list[Picture]:
    """The images that a workflow would save, in order; raises `ProgramError` as a worker would fail."""
    nodes = _nodes(workflow)
    pictures: list[Picture] = []
    for node_id, node in nodes.items():
        if node["class_type"].startswith("SaveImage"):
            pictures += _Branch(nodes, node_id).pictures(default_steps, first=len(pictures))
            if len(pictures) > _MAX_PICTURES:
                raise ProgramError(f"The simulator paints at most {_MAX_PICTURES} images for one job")
    return pictures


def _nodes(workflow: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(workflow, Mapping) or not workflow:
        raise ProgramError("Workflow validation failed: the workflow is not an object of nodes (API format)")
    nodes: dict[str, dict[str, Any]] = {}
    for node_id, node in workflow.items():
        if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
            raise ProgramError(f"Workflow validation failed: node {node_id} has no class_type")
        inputs = node.get("inputs", {})
        if not isinstance(inputs, Mapping):
            raise ProgramError(f"Workflow validation failed: inputs of node {node_id} are not an object")
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, Mapping) else None
        nodes[str(node_id)] = {
            "class_type": node["class_type"],
            "inputs": inputs,
            "title": title if isinstance(title, str) else node["class_type"],
        }
    return nodes


class _Branch:
    """One saving node and all that it depends on, nearest first: what is nearest has the last word."""

    def __init__(self, nodes: Mapping[str, dict[str, Any]], output_id: str) -> None:
        self._nodes = nodes
        self._output = nodes[output_id]["inputs"]
        self._upstream = [nodes[one] for one in self._walk(output_id)]

    def pictures(self, default_steps: int, first: int) -> list[Picture]:
        width, height = self._side("width"), self._side("height")
        prefix = self._output.get("filename_prefix")
        stem = prefix if isinstance(prefix, str) else "ComfyUI"
        sampler = next((node for node in self._upstream if "positive" in node["inputs"]), None)
        node = sampler["title"] if sampler else next((one["title"] for one in self._upstream), "SaveImage")
        return [
            Picture(
                prompt=self._prompt("positive") or self._prompt("conditioning") or self._any_text(),
                negative=self._prompt("negative"),
                seed=self._number("seed", "noise_seed") or 0,
                width=width,
                height=height,
                steps=max(self._number("steps") or default_steps, 1),
                index=index,
                filename=f"{stem}_{first + index + 1:05d}_.png",
                node=node,
            )
            for index in range(min(max(self._number("batch_size") or 1, 1), _MAX_PICTURES + 1))
        ]

    def _walk(self, start: str) -> Iterator[str]:
        seen, level = {start}, [start]
        while level:
            yield from level
            following: list[str] = []
            for node_id in level:
                for link in self._links(node_id):
                    if link not in seen:
                        seen.add(link)
                        following.append(link)
            level = following

    def _links(self, node_id: str) -> Iterator[str]:
        for value in self._nodes[node_id]["inputs"].values():
            if (target := self._target(value)) is not None:
                yield target

    def _target(self, value: Any) -> str | None:
        linked = isinstance(value, list) and len(value) == 2 and str(value[0]) in self._nodes
        return str(value[0]) if linked else None

    def _number(self, *names: str) -> int | None:
        for node in self._upstream:
            for name in names:
                value = node["inputs"].get(name)
                if (target := self._target(value)) is not None:
                    inputs = self._nodes[target]["inputs"]
                    value = next((inputs[one] for one in _NUMBER_INPUTS if one in inputs), None)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return int(value)
        return None

    def _side(self, name: str) -> int:
        side = self._number(name)
        if side is None:
            return 512
        if not 16 <= side <= _MAX_SIDE:
            raise ProgramError(f"Workflow validation failed: {name} {side} is not within 16 to {_MAX_SIDE}")
        return side

    def _prompt(self, name: str) -> str:
        """The text at the end of the nearest input of this name, through whatever lies between."""
        for node in self._upstream:
            if (target := self._target(node["inputs"].get(name))) is not None:
                return next(filter(None, map(self._text, self._walk(target))), "")
        return ""

    def _any_text(self) -> str:
        for node in self._upstream:
            if "TextEncode" in node["class_type"]:
                for name in _TEXT_INPUTS:
                    value = node["inputs"].get(name)
                    if isinstance(value, str) and value:
                        return value
        return ""

    def _text(self, node_id: str) -> str:
        inputs = self._nodes[node_id]["inputs"]
        return next((inputs[name] for name in _TEXT_INPUTS if isinstance(inputs.get(name), str)), "")
