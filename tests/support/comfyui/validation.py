"""ComfyUI's checks of a prompt, made anew from what it answers: see the recordings in tests/data/comfyui.

`validate(prompt, object_info)` gives the `node_errors` that POST /prompt would give, and an empty dict where ComfyUI
would run the prompt as a whole. A choice of file names is open, because the recording is of an installation without
models, unless it is told which files there are. ComfyUI ignores inputs that a node does not have; `unknown_inputs`
finds those.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FILES_BESIDES", "Checked", "check", "load_object_info", "unknown_inputs", "validate"]

Prompt = Mapping[str, Any]
ObjectInfo = Mapping[str, Any]

_FILES = (
    ".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".yaml",
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm", ".wav", ".mp3", ".flac", ".latent",
)  # fmt: skip
#: Choices of files to which ComfyUI adds names that are none, so that they are not empty without models.
FILES_BESIDES = frozenset({("VAELoader", "vae_name")})
_IMAGE_LOADERS = frozenset({"LoadImage", "LoadImageMask", "LoadVideo"})
_ALWAYS_ALLOWED = frozenset({"upload", "control_after_generate", "choose file to upload"})
_CONVERT = {"INT": int, "FLOAT": float, "STRING": str}


@dataclass(slots=True)
class Checked:
    """The answer of POST /prompt, before anything runs. `error` is None where at least one output is good."""

    error: dict[str, Any] | None = None
    node_errors: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


def load_object_info() -> dict[str, Any]:
    """The recorded /object_info."""
    path = Path(__file__).parents[2] / "data/comfyui/object_info.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def validate(
    prompt: Prompt,
    object_info: ObjectInfo,
    *,
    files: Collection[str] | None = None,
    inputs: Collection[str] | None = None,
) -> dict[str, Any]:
    """The `node_errors` of a prompt. What ComfyUI says of a prompt as a whole stands under the key `prompt`.

    `files` are the model files that are installed (None: any), `inputs` the files in the input folder (None: any).
    """
    checked = check(prompt, object_info, files=files, inputs=inputs)
    whole = checked.error is not None and checked.error["type"] != "prompt_outputs_failed_validation"
    return {**checked.node_errors, **({"prompt": {"errors": [checked.error]}} if whole else {})}


def unknown_inputs(prompt: Prompt, object_info: ObjectInfo) -> dict[str, list[str]]:
    """For each node the inputs that its class does not have. ComfyUI ignores them; in a template they are mistakes."""
    found: dict[str, list[str]] = {}
    for node_id, node in prompt.items():
        known = object_info.get(node.get("class_type"), {}).get("input", {})
        names = {name for section in known.values() for name in section} | _ALWAYS_ALLOWED
        strange = sorted(set(node.get("inputs", {})) - names)
        if strange:
            found[node_id] = strange
    return found


def check(
    prompt: Prompt,
    object_info: ObjectInfo,
    *,
    files: Collection[str] | None = None,
    inputs: Collection[str] | None = None,
) -> Checked:
    """Check a prompt as POST /prompt does: each output node with all that it depends on."""
    outputs = []
    for node_id, node in prompt.items():
        class_type = node.get("class_type") if isinstance(node, Mapping) else None
        if class_type is None:
            return _refused(
                "invalid_prompt", "Cannot execute because a node is missing the class_type property.", node_id
            )
        if class_type not in object_info:
            return _refused("invalid_prompt", f"Cannot execute because node {class_type} does not exist.", node_id)
        if object_info[class_type].get("output_node"):
            outputs.append(node_id)
    if not outputs:
        return _refused("prompt_no_outputs", "Prompt has no outputs")
    return _Check(prompt, object_info, files, inputs).outputs(outputs)


def _refused(kind: str, message: str, node_id: str | None = None) -> Checked:
    details = "" if node_id is None else f"Node ID '#{node_id}'"
    return Checked({"type": kind, "message": message, "details": details, "extra_info": {}})


class _Check:
    def __init__(
        self,
        prompt: Prompt,
        object_info: ObjectInfo,
        files: Collection[str] | None,
        inputs: Collection[str] | None,
    ) -> None:
        self.prompt = prompt
        self.object_info = object_info
        self.files = files
        self.inputs = inputs
        self.found: dict[str, list[dict[str, Any]]] = {}
        self.good: dict[str, bool] = {}

    def outputs(self, outputs: list[str]) -> Checked:
        checked = Checked()
        for output in outputs:
            if self._node(output, ()):
                checked.outputs.append(output)
                continue
            for node_id in self._reached(output, set()):
                if not self.found.get(node_id):
                    continue
                error = checked.node_errors.setdefault(
                    node_id,
                    {
                        "errors": self.found[node_id],
                        "dependent_outputs": [],
                        "class_type": self.prompt[node_id]["class_type"],
                    },
                )
                error["dependent_outputs"].append(output)
        if not checked.outputs:
            kind, message = "prompt_outputs_failed_validation", "Prompt outputs failed validation"
            checked.error = {"type": kind, "message": message, "details": "", "extra_info": {}}
        return checked

    def _reached(self, node_id: str, seen: set[str]) -> Iterator[str]:
        if node_id in seen or node_id not in self.prompt:
            return
        seen.add(node_id)
        yield node_id
        for value in self.prompt[node_id].get("inputs", {}).values():
            if _is_link(value):
                yield from self._reached(str(value[0]), seen)

    def _node(self, node_id: str, above: tuple[str, ...]) -> bool:
        if node_id in self.good:
            return self.good[node_id]
        errors = self.found.setdefault(node_id, [])
        node = self.prompt[node_id]
        if node_id in above:
            errors.append(_error("exception_during_validation", "Exception when validating node", "a circle of links"))
            return False
        sources_good = True
        sections = self.object_info[node["class_type"]]["input"]
        for section in ("required", "optional"):
            for name, config in sections.get(section, {}).items():
                if name not in node.get("inputs", {}):
                    if section == "required":
                        extra = {"input_name": name}
                        errors.append(_error("required_input_missing", "Required input is missing", name, extra))
                    continue
                value = node["inputs"][name]
                if isinstance(value, list):
                    sources_good &= self._link(name, config, value, errors, (*above, node_id))
                else:
                    errors.extend(self._value(node["class_type"], name, config, value))
        self.good[node_id] = sources_good and not errors
        return self.good[node_id]

    def _link(
        self, name: str, config: list[Any], value: list[Any], errors: list[dict[str, Any]], above: tuple[str, ...]
    ) -> bool:
        """Check a link. Returns whether the node at its other end is good; its own errors go to `errors`."""
        extra = {"input_name": name, "input_config": _config(config), "received_value": value}
        if not _is_link(value):
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            errors.append(_error("bad_linked_input", message, name, extra))
            return True
        source, slot = str(value[0]), value[1]
        outputs = self.object_info[self.prompt[source]["class_type"]]["output"] if source in self.prompt else []
        if not isinstance(slot, int) or not 0 <= slot < len(outputs):
            extra = {"linked_node": value, "input_name": name}
            errors.append(
                _error("exception_during_inner_validation", "Exception when validating inner node", "", extra)
            )
            return True
        wanted, received = _type_of(config), outputs[slot]
        if not _fits(received, wanted):
            details = f"{name}, received_type({received}) mismatch input_type({wanted})"
            extra = {
                "input_name": name,
                "input_config": _config(config),
                "received_type": received,
                "linked_node": value,
            }
            message = "Return type mismatch between linked nodes"
            errors.append(_error("return_type_mismatch", message, details, extra))
            return True
        return self._node(source, above)

    def _value(self, class_type: str, name: str, config: list[Any], value: Any) -> Iterator[dict[str, Any]]:
        kind, options = _type_of(config), _options(config)
        extra = {"input_name": name, "input_config": _config(config)}
        if options is not None:
            yield from self._choice(class_type, name, config, options, value)
            return
        convert = _CONVERT.get(kind) if isinstance(kind, str) else None
        if convert is None:
            return
        try:
            number = convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            extra |= {"received_value": value, "exception_message": str(error)}
            message, details = f"Failed to convert an input value to a {kind} value", f"{name}, {value}, {error}"
            yield _error("invalid_input_type", message, details, extra)
            return
        limits = config[1] if len(config) > 1 else {}
        extra |= {"received_value": value}
        if isinstance(number, str):
            return
        if "min" in limits and number < limits["min"]:
            yield _error("value_smaller_than_min", f"Value {number} smaller than min of {limits['min']}", name, extra)
        if "max" in limits and number > limits["max"]:
            yield _error("value_bigger_than_max", f"Value {number} bigger than max of {limits['max']}", name, extra)

    def _choice(
        self, class_type: str, name: str, config: list[Any], options: list[Any], value: Any
    ) -> Iterator[dict[str, Any]]:
        if class_type in _IMAGE_LOADERS and name in ("image", "file"):
            if self.inputs is not None and value not in self.inputs:
                details = f"{name} - Invalid image file: {value}"
                message = "Custom validation failed for node"
                yield _error("custom_validation_failed", message, details, {"input_name": name})
            return
        is_open = (class_type, name) in FILES_BESIDES or _is_open(options, config)
        if is_open and isinstance(value, str) and value not in options:
            if self.files is None and (not options or value.lower().endswith(_FILES)):
                return
            if self.files is not None and value in self.files:
                return
        elif value in options and not (self.files is not None and _is_file(value) and value not in self.files):
            return
        shown = options if len(options) <= 20 else f"(list of length {len(options)})"
        extra = {"input_name": name, "input_config": _config(config), "received_value": value}
        yield _error("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {shown}", extra)


def _error(kind: str, message: str, details: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _config(config: list[Any]) -> list[Any]:
    return [config[0], config[1] if len(config) > 1 else {}]


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))


def _type_of(config: list[Any]) -> Any:
    return config[0]


def _options(config: list[Any]) -> list[Any] | None:
    """The options of a choice, in either of ComfyUI's two notations; None where an input is no choice."""
    if isinstance(config[0], list):
        return config[0]
    if config[0] == "COMBO":
        return list((config[1] if len(config) > 1 else {}).get("options") or [])
    return None


def _is_file(option: Any) -> bool:
    return isinstance(option, str) and option.lower().endswith(_FILES)


def _is_open(options: list[Any], config: list[Any]) -> bool:
    remote = len(config) > 1 and "remote" in config[1]
    return remote or not options or any(_is_file(option) for option in options)


def _fits(received: Any, wanted: Any) -> bool:
    """Whether an output may go into an input. A type is a word, several with commas, `*`, or a list of options."""
    if received == wanted or "*" in (received, wanted):
        return True
    if isinstance(received, list) or isinstance(wanted, list):
        return "COMBO" in (received, wanted)
    return bool(set(str(received).split(",")) & set(str(wanted).split(",")))
