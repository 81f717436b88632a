"""A GPU worker's words, taken apart as far as they go: its exception's class, ComfyUI's types, the nodes at fault.

Shapes (each has a recorded payload in the tests):

- the `runpod` SDK: a handler's exception as a JSON string with `error_type`, `error_message`, `error_traceback`;
- worker-comfyui: `error` as a text, with `details` (a list of texts) beside it or in the output;
- ComfyUI's answer to POST /prompt: `error` with a `type`, and `node_errors`; its message `execution_error`;
- the workers of this repository: `error` as a sentence, with a `code` and `details` in the output;
- anything else, which is kept as text.

Whatever comes, nothing is raised.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ryla_tasks.jobs.redact import redacted

__all__ = ["NOTHING", "NodeFault", "Report", "read_report"]

#: Longer words of a worker are cut before they are searched.
_MOST_TEXT = 20_000

#: JSON in JSON in JSON: a worker that raises with ComfyUI's answer as its message.
_DEEPEST = 4

_MOST_FAULTS = 20
_MOST_REASON = 300
_LONGEST_CODE = 50

# str(type(error)) in the runpod SDK, a dotted path in ComfyUI, a bare name elsewhere.
_CLASS = re.compile(r"(?:<class ')?([\w.]{1,200})(?:'>)?\Z")
# worker-comfyui writes an execution_error, and each of the node_errors, as one line of text.
_RUN_LINE = re.compile(r"Node Type: (\S{1,100}), Node ID: (\S{1,50}), Message: ([^\n]*)")
_CHECK_LINE = re.compile(r"Node (\S{1,50}) \((errors|class_type)\): ([^\n]*)")
_RAW = "Raw response: "


@dataclass(frozen=True, slots=True)
class NodeFault:
    """One node of a workflow and what is wrong with it. `kind` is ComfyUI's own word for it, empty where it has none.

    `title` is what the workflow's author calls the node. `value` is what the input was given, where ComfyUI tells; it
    may be a prompt, so it is for decisions only.
    """

    node: str
    class_type: str = ""
    input: str = ""
    kind: str = ""
    reason: str = ""
    value: Any = field(default=None, repr=False, compare=False)
    title: str = ""

    def to_json(self) -> dict[str, str]:
        """For a developer, without what is not known."""
        known = {
            "node": self.node,
            "class": self.class_type,
            "title": self.title if self.title != self.class_type else "",
            "input": self.input,
            "type": self.kind,
        }
        return {name: text for name, text in {**known, "reason": self.reason}.items() if text}


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker said. `exception` is a class name without its module, `comfy` a type of error or message, `code`
    the word that a worker of ours has for it."""

    text: str = ""
    exception: str = ""
    comfy: str = ""
    nodes: tuple[NodeFault, ...] = ()
    code: str = ""


NOTHING = Report()


def read_report(*said: Any) -> Report:
    """Take apart all that a worker said about one failure; the first that names a thing counts."""
    found = _Found()
    for one in said:
        _read(one, found, 0)
    text, nodes = "\n".join(found.texts)[:_MOST_TEXT], tuple(found.nodes[:_MOST_FAULTS])
    return Report(text, found.exception, found.comfy, nodes, found.code)


@dataclass(slots=True)
class _Found:
    texts: list[str] = field(default_factory=list)
    exception: str = ""
    comfy: str = ""
    nodes: list[NodeFault] = field(default_factory=list)
    code: str = ""


def _read(said: Any, found: _Found, depth: int) -> None:
    if depth > _DEEPEST or not said:
        return
    if isinstance(said, str):
        _read_text(said, found, depth)
    elif isinstance(said, Mapping):
        _read_object(said, found, depth)
    elif isinstance(said, (list, tuple)):
        for one in said[:_MOST_FAULTS]:
            _read(one, found, depth + 1)


def _read_text(text: str, found: _Found, depth: int) -> None:
    value = _json(text)
    if isinstance(value, (dict, list)):
        _read(value, found, depth + 1)
        return
    text = text[:_MOST_TEXT]
    found.texts.append(text)
    for class_type, node, message in _RUN_LINE.findall(text):
        found.comfy = found.comfy or "execution_error"
        found.nodes.append(NodeFault(node, class_type, reason=_short(message)))
    found.nodes.extend(_checked_lines(text))
    _, raw, answer = text.partition(_RAW)
    if raw:
        _read(_json(answer), found, depth + 1)


def _read_object(said: Mapping[str, Any], found: _Found, depth: int) -> None:
    if "exception_type" in said or "exception_message" in said:
        _read_run(said, found)
        return
    if said.get("type") in ("execution_error", "execution_interrupted"):
        found.comfy = found.comfy or str(said["type"])
        _read(said.get("data"), found, depth + 1)
        return
    if "error_type" in said or "error_message" in said:
        found.exception = found.exception or _class_name(said.get("error_type"))
        _read(said.get("error_message"), found, depth + 1)
        return
    found.code = found.code or _text(said.get("code"))[:_LONGEST_CODE]
    error = said.get("error")
    if isinstance(error, Mapping) and isinstance(error.get("type"), str):
        found.comfy = found.comfy or error["type"]
        found.texts.append(_words(error))
    else:
        _read(error, found, depth + 1)
    for name in ("node_errors", "nodes", "details", "message"):
        if name == "node_errors":
            found.nodes.extend(_node_errors(said.get(name)))
        elif name == "nodes":
            found.nodes.extend(_named_nodes(said.get(name)))
        else:
            _read(said.get(name), found, depth + 1)


def _read_run(said: Mapping[str, Any], found: _Found) -> None:
    """ComfyUI's `execution_error`: a node raised."""
    found.comfy = found.comfy or "execution_error"
    found.exception = found.exception or _class_name(said.get("exception_type"))
    message = _text(said.get("exception_message"))
    found.texts.append(message)
    if "node_id" not in said:
        found.nodes.extend(_named_nodes(said.get("nodes")))
        return
    found.nodes.append(NodeFault(_text(said.get("node_id")), _text(said.get("node_type")), reason=_short(message)))


def _named_nodes(nodes: Any) -> Iterator[NodeFault]:
    """Nodes as the workers of this repository name them: the keys of `NodeFault.to_json`, and `value`."""
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, Mapping):
            text = {key: _text(node.get(key)) for key in ("node", "class", "title", "input", "type")}
            yield NodeFault(
                text["node"],
                text["class"],
                text["input"],
                text["type"],
                _short(_text(node.get("reason"))),
                node.get("value"),
                text["title"],
            )


def _node_errors(errors: Any) -> Iterator[NodeFault]:
    """ComfyUI's `node_errors`: `{node: {"errors": [{type, message, details, extra_info}], "class_type"}}`."""
    if not isinstance(errors, Mapping):
        return
    for node, about in errors.items():
        if isinstance(about, Mapping):
            yield from _faults(str(node), _text(about.get("class_type")), about.get("errors"))


def _faults(node: str, class_type: str, errors: Any) -> Iterator[NodeFault]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, Mapping):
            extra = error.get("extra_info")
            extra = extra if isinstance(extra, Mapping) else {}
            name, kind = _text(extra.get("input_name")), _text(error.get("type"))
            yield NodeFault(node, class_type, name, kind, _short(_words(error)), extra.get("received_value"))


def _checked_lines(text: str) -> Iterator[NodeFault]:
    """The same as worker-comfyui writes it: `Node 2 (errors): [{'type': ...`, the list in Python's notation."""
    classes: dict[str, str] = {}
    errors: dict[str, Any] = {}
    for node, what, rest in _CHECK_LINE.findall(text):
        if what == "class_type":
            classes[node] = rest.strip()
        else:
            errors[node] = _literal(rest)
    for node, found in errors.items():
        yield from _faults(node, classes.get(node, ""), found)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _json(text: str) -> Any:
    """The JSON that a text is, None where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _class_name(value: Any) -> str:
    match = _CLASS.match(_text(value).strip())
    return match[1].rpartition(".")[2] if match else ""


def _words(error: Mapping[str, Any]) -> str:
    return ": ".join(text for text in (_text(error.get("message")), _text(error.get("details"))) if text)


def _text(value: Any) -> str:
    """The start of a text or a number; anything else is nothing."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return value[:_MOST_TEXT] if isinstance(value, str) else str(value)[:50]


def _short(text: str) -> str:
    return redacted(text.strip())[:_MOST_REASON]
