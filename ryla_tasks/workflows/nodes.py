"""Whether a ComfyUI would take a workflow: its rules, held against what its /object_info says of its nodes.

Stricter than ComfyUI in two ways: every node is looked at, not only those that an output needs, and an input that the
node does not have is a warning, where ComfyUI ignores it and the value has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ryla_tasks.workflows.workflow import is_link, is_model_file

__all__ = ["Findings", "MissingModel", "Problem", "check_nodes", "declared_input"]

#: Types that no value can stand for. Node packs have widgets for types of their own.
_LINKED = frozenset({"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "CONTROL_NET", "SIGMAS"})

_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `kind` is ComfyUI's word where it has one."""

    kind: str
    message: str
    node: str = ""
    class_type: str = ""
    input: str = ""

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("kind", "message", "node", "class_type", "input")}


@dataclass(frozen=True, slots=True)
class MissingModel:
    """A model file that the node does not find."""

    file: str
    node: str
    class_type: str
    input: str

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("file", "node", "class_type", "input")}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found. `warnings` are nothing that ComfyUI would refuse."""

    missing_nodes: tuple[str, ...] = ()
    missing_models: tuple[MissingModel, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether ComfyUI would take it."""
        return not (self.missing_nodes or self.missing_models or self.problems)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "missing_nodes": list(self.missing_nodes),
            "missing_models": [model.to_json() for model in self.missing_models],
            "problems": [problem.to_json() for problem in self.problems],
            "warnings": [warning.to_json() for warning in self.warnings],
        }


def check_nodes(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> Findings:
    """Hold a checked workflow against `nodes`, the answer of a ComfyUI's GET /object_info."""
    missing = dict.fromkeys(node["class_type"] for node in workflow.values() if node["class_type"] not in nodes)
    found = [*_found_in(workflow, nodes)]
    problems = [one for one in found if isinstance(one, Problem) and one.kind != "unknown_input"]
    if not missing and not any(nodes[node["class_type"]].get("output_node") for node in workflow.values()):
        problems.append(Problem("prompt_no_outputs", "no node of the workflow is an output node"))
    return Findings(
        tuple(missing),
        tuple(one for one in found if isinstance(one, MissingModel)),
        tuple(problems),
        tuple(one for one in found if isinstance(one, Problem) and one.kind == "unknown_input"),
    )


def _found_in(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[Problem | MissingModel]:
    for node_id, node in workflow.items():
        if node["class_type"] in nodes:
            yield from _Node(node_id, node, workflow, nodes).found()


class _Node:
    """One node, as ComfyUI's validate_inputs looks at it."""

    def __init__(
        self, node_id: str, node: Mapping[str, Any], workflow: Mapping[str, Any], nodes: Mapping[str, Any]
    ) -> None:
        self._id, self._class, self._inputs = node_id, node["class_type"], node["inputs"]
        self._workflow, self._nodes = workflow, nodes
        declared = nodes[self._class].get("input") or {}
        self._required = declared.get("required") or {}
        self._known = {**self._required, **(declared.get("optional") or {})}

    def found(self) -> Iterator[Problem | MissingModel]:
        for name in self._required:
            if name not in self._inputs:
                yield self._problem("required_input_missing", name, "is required, and not there")
        for name, value in self._inputs.items():
            if name not in self._known:
                yield self._problem("unknown_input", name, "is no input of this node, so its value has no effect")
                continue
            kind, options = _declaration(self._known[name])
            if isinstance(value, (list, tuple)):
                yield from self._link(name, value, kind)
            else:
                yield from self._value(name, value, kind, options)

    def _link(self, name: str, value: Any, kind: Any) -> Iterator[Problem]:
        if not is_link(value) or value[0] not in self._workflow:
            yield self._problem("bad_linked_input", name, "is no link to a node of the workflow")
            return
        source = self._nodes.get(self._workflow[value[0]]["class_type"])
        if source is None:
            return
        outputs = source.get("output") or []
        if not 0 <= value[1] < len(outputs):
            yield self._problem(
                "bad_linked_input", name, f"wants output {value[1]} of node {value[0]!r}, of a few only"
            )
        elif not _types_meet(outputs[int(value[1])], kind):
            yield self._problem(
                "return_type_mismatch", name, f"takes {_word(kind)}, not {_word(outputs[int(value[1])])}"
            )

    def _value(self, name: str, value: Any, kind: Any, options: Mapping[str, Any]) -> Iterator[Problem | MissingModel]:
        if isinstance(kind, list) or kind == "COMBO":
            yield from self._choice(
                name, value, kind if isinstance(kind, list) else options.get("options", ()), options
            )
            return
        if kind in _CONVERTERS:
            try:
                value = _CONVERTERS[kind](value)
            except (TypeError, ValueError):
                yield self._problem("invalid_input_type", name, f"is no {kind}")
                return
        elif kind in _LINKED:
            # ComfyUI lets it through, and the node fails when it runs.
            yield self._problem("invalid_input_type", name, f"takes a link to {kind}, not a value")
            return
        if isinstance(value, (int, float)):
            if "min" in options and value < options["min"]:
                yield self._problem("value_smaller_than_min", name, f"{value} is less than {options['min']}")
            if "max" in options and value > options["max"]:
                yield self._problem("value_bigger_than_max", name, f"{value} is more than {options['max']}")

    def _choice(self, name: str, value: Any, kind: Any, options: Mapping[str, Any]) -> Iterator[Problem | MissingModel]:
        choices = kind if isinstance(kind, list) else options.get("options", ())
        # What is uploaded with the job, or listed by a request of its own, is in no list yet.
        if value in choices or any(key.endswith("_upload") or key == "remote" for key in options):
            return
        if is_model_file(value):
            yield MissingModel(value, self._id, self._class, name)
        else:
            yield self._problem("value_not_in_list", name, "is none of the values that this node takes")

    def _problem(self, kind: str, name: str, says: str) -> Problem:
        message = f"input {name!r} of node {self._id!r} ({self._class}) {says}"
        return Problem(kind, message, self._id, self._class, name)


def _types_meet(given: Any, taken: Any) -> bool:
    """ComfyUI's validate_node_input: types may be several with commas, and * is any."""
    if given == taken:
        return True
    if not isinstance(given, str) or not isinstance(taken, str):
        return False
    ours, theirs = set(given.split(",")), set(taken.split(","))
    return "*" in ours | theirs or bool(ours & theirs)


def _word(kind: Any) -> str:
    return kind if isinstance(kind, str) else "a choice"


def declared_input(nodes: Mapping[str, Any], class_type: str, name: str) -> tuple[Any, Mapping[str, Any]]:
    """The type of a node's input and its options, as /object_info has them; ("", {}) for one that is not there."""
    declared = nodes.get(class_type, {}).get("input") or {}
    found = (declared.get("required") or {}).get(name) or (declared.get("optional") or {}).get(name)
    return _declaration(found or [""])


def _declaration(declared: Any) -> tuple[Any, Mapping[str, Any]]:
    kind, *more = declared
    return kind, more[0] if more and isinstance(more[0], Mapping) else {}
