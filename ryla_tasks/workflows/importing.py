"""A first manifest for a workflow that somebody exported from the ComfyUI editor: what in it is likely to be set.

A guess, to be read and mended by its owner: parameters get wide bounds, and the values of the workflow as defaults.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ryla_tasks.workflows.counting import expected_images
from ryla_tasks.workflows.workflow import check_workflow, is_link, is_model_file

__all__ = ["guessed_manifest"]

#: Inputs that hold text, in nodes of any class.
_TEXTS = ("text", "prompt", "value", "string", "clip_l", "t5xxl", "text_g", "text_l")

#: Where node classes look for the files that an input names: folders under ComfyUI's `models`.
_FOLDERS = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "vae_name": "vae",
    "lora_name": "loras",
    "control_net_name": "controlnet",
    "pulid_file": "pulid",
    "ipadapter_file": "ipadapter",
    "style_model_name": "style_models",
    "swap_model": "insightface",
    "face_restore_model": "facerestore_models",
}
_MODEL_NAMES = {"ckpt_name": "checkpoint", "unet_name": "model", "vae_name": "vae", "control_net_name": "controlnet"}
_LORA_OUTPUTS = {"LoraLoader": ["model", "clip"], "LoraLoaderModelOnly": ["model"]}
_IMAGE_LOADERS = ("LoadImage", "LoadImageMask")
_SAVERS = ("SaveImage", "SaveAnimatedWEBP", "SaveAnimatedPNG")


def guessed_manifest(name: str, workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest, as JSON, for a workflow in API format. Raises `InvalidJob` for one that is not."""
    plain = json.loads(json.dumps(dict(workflow))) if isinstance(workflow, Mapping) else workflow
    check_workflow(plain)
    return _Guess(name, plain).manifest()


class _Guess:
    def __init__(self, name: str, workflow: dict[str, Any]) -> None:
        self._name = name
        self._workflow = workflow
        self._parameters: list[dict[str, Any]] = []
        self._optional: list[dict[str, Any]] = []
        self._taken: set[tuple[str, str]] = set()

    def manifest(self) -> dict[str, Any]:
        self._prompts()
        self._images()
        batch = self._sizes()
        self._numbers()
        self._seeds()
        self._loras()
        self._models()
        outputs = self._outputs()
        self._prefixes(outputs)
        count = expected_images(self._workflow) or 1
        size = next((one["default"] for one in self._parameters if one["name"] == batch), 1)
        whole = batch and count % size == 0
        return {
            "format": 1,
            "name": self._name,
            "title": self._name,
            "description": "Imported from the ComfyUI editor.",
            "parameters": self._parameters,
            "nodes": list(dict.fromkeys(node["class_type"] for node in self._workflow.values())),
            "models": self._files(),
            "output_nodes": outputs,
            "images": count // size if whole else count,
            **({"batch_parameter": batch} if whole else {}),
            "expected_seconds": 30,
            **({"optional": self._optional} if self._optional else {}),
        }

    def _add(self, name: str, kind: str, says: str, places: list[tuple[str, str]], **more: Any) -> str:
        """Add a parameter for the places that have none yet; returns the name that it got."""
        places = [place for place in places if place not in self._taken]
        if not places:
            return ""
        self._taken |= set(places)
        known = {parameter["name"] for parameter in self._parameters}
        unique = next(one for one in (name, *(f"{name}_{n}" for n in range(2, 1000))) if one not in known)
        targets = [{"node": node, "input": key} for node, key in places]
        self._parameters.append({"name": unique, "type": kind, "description": says, **more, "targets": targets})
        return unique

    def _places(self, *names: str, kinds: tuple[type, ...]) -> Iterator[tuple[str, str]]:
        """The inputs of these names that hold a value of these kinds."""
        for node_id, node in self._workflow.items():
            for name in names:
                value = node["inputs"].get(name)
                if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
                    yield node_id, name

    def _value(self, place: tuple[str, str]) -> Any:
        return self._workflow[place[0]]["inputs"][place[1]]

    def _prompts(self) -> None:
        found = {"positive": self._text_behind("positive"), "negative": self._text_behind("negative")}
        prompt = found["positive"] or next(
            (place for place in self._places(*_TEXTS, kinds=(str,)) if self._is_encoder(place[0])), None
        )
        if prompt:
            self._add(
                "prompt", "text", "What the image shows.", [prompt], required=True, min_length=1, max_length=20000
            )
        if found["negative"]:
            place = found["negative"]
            says = "What the image must not show."
            self._add("negative_prompt", "text", says, [place], max_length=20000, default=self._value(place))

    def _is_encoder(self, node_id: str) -> bool:
        return "TextEncode" in self._workflow[node_id]["class_type"]

    def _text_behind(self, name: str) -> tuple[str, str] | None:
        """The text at the other end of the first link of this name, through whatever lies between."""
        for node in self._workflow.values():
            if is_link(link := node["inputs"].get(name)):
                return self._nearest_text(link[0])
        return None

    def _nearest_text(self, start: str) -> tuple[str, str] | None:
        seen, line = {start}, [start]
        for node_id in line:
            inputs = self._workflow[node_id]["inputs"]
            for name in _TEXTS:
                if isinstance(inputs.get(name), str):
                    return node_id, name
            if self._workflow[node_id]["class_type"] == "ConditioningZeroOut":
                return None  # its text has no effect
            links = [value[0] for value in inputs.values() if is_link(value)]
            line += [link for link in dict.fromkeys(links) if link not in seen]
            seen.update(links)
        return None

    def _images(self) -> None:
        for node_id, node in self._workflow.items():
            if node["class_type"] in _IMAGE_LOADERS and isinstance(node["inputs"].get("image"), str):
                name = "mask" if node["class_type"] == "LoadImageMask" else "image"
                self._add(name, "image", "An image that the workflow takes.", [(node_id, "image")], required=True)

    def _sizes(self) -> str:
        """Width, height and batch size of the first empty latent or image; returns the name of the last of them."""
        for node_id, node in self._workflow.items():
            inputs = node["inputs"]
            if "Empty" not in node["class_type"] or not {"width", "height"} <= inputs.keys():
                continue
            for name in ("width", "height"):
                if _is_whole(inputs[name]):
                    step = next(step for step in (16, 8, 1) if inputs[name] % step == 0)
                    bounds = {"min": 16, "max": max(4096, inputs[name]), "step": step, "default": inputs[name]}
                    if inputs[name] >= 16:
                        self._add(name, "int", f"{name.capitalize()} in pixels.", [(node_id, name)], **bounds)
            size = inputs.get("batch_size")
            if _is_whole(size) and size >= 1:
                bounds = {"min": 1, "max": max(8, size), "default": size}
                return self._add(
                    "count", "int", "How many images, made in one run.", [(node_id, "batch_size")], **bounds
                )
            return ""
        return ""

    def _numbers(self) -> None:
        for name, low, high, says in (
            ("steps", 1, 100, "Sampling steps."),
            ("cfg", 0, 30, "How closely the image follows the prompt."),
            ("guidance", 0, 100, "How closely the image follows the prompt, for models with guidance built in."),
            ("denoise", 0, 1, "How much is painted anew."),
        ):
            places = list(self._places(name, kinds=(int, float)))
            # Those that hold the same value most likely go together.
            same = [place for place in places if self._value(place) == self._value(places[0])]
            if not same or self._value(same[0]) < low:
                continue
            value = self._value(same[0])
            whole = name == "steps" and all(_is_whole(self._value(place)) for place in same)
            kind = "int" if whole else "float"
            self._add(name, kind, says, same, min=low, max=max(high, value), default=value)

    def _seeds(self) -> None:
        places = [
            place
            for place in self._places("seed", "noise_seed", kinds=(int,))
            if self._workflow[place[0]]["inputs"].get("add_noise") != "disable"
        ]
        if places:
            self._add("seed", "seed", "The same seed and parameters give the same image.", places)

    def _loras(self) -> None:
        for node_id, node in self._workflow.items():
            outputs, inputs = _LORA_OUTPUTS.get(node["class_type"]), node["inputs"]
            if not outputs or not isinstance(inputs.get("lora_name"), str):
                continue
            says = "File name of a LoRA in ComfyUI's folder loras; with an empty one no LoRA is loaded."
            place = (node_id, "lora_name")
            name = self._add("lora", "text", says, [place], max_length=255, default=inputs["lora_name"])
            strengths = [
                (node_id, key)
                for key in ("strength_model", "strength_clip")
                if isinstance(inputs.get(key), (int, float))
            ]
            if strengths:
                value = inputs[strengths[0][1]]
                bounds = {"min": min(-5, value), "max": max(5, value), "default": value}
                self._add(f"{name}_strength", "float", "How much the LoRA changes.", strengths, **bounds)
            if all(is_link(inputs.get(output)) for output in outputs):
                self._optional.append({"parameter": name, "bypass": {node_id: outputs}})

    def _models(self) -> None:
        for node_id, node in self._workflow.items():
            for name, value in node["inputs"].items():
                if is_model_file(value) and re.fullmatch(r"[a-z][a-z0-9_]*", name):
                    says = f"File name of a model, for {node['class_type']}."
                    shown = _MODEL_NAMES.get(name, name)[:50]
                    self._add(shown, "text", says, [(node_id, name)], min_length=1, max_length=255, default=value)

    def _files(self) -> list[dict[str, str]]:
        """The model files, with the folders where they are likely to be; a LoRA is the user's own."""
        files: dict[str, str] = {}
        for node in self._workflow.values():
            for name, value in node["inputs"].items():
                if is_model_file(value) and name != "lora_name":
                    files.setdefault(value, _folder(node["class_type"], name))
        return [{"folder": folder, "file": file} for file, folder in files.items()]

    def _outputs(self) -> list[str]:
        savers = [node_id for node_id, node in self._workflow.items() if node["class_type"] in _SAVERS]
        linked = {value[0] for node in self._workflow.values() for value in node["inputs"].values() if is_link(value)}
        return (
            savers or [node_id for node_id in self._workflow if node_id not in linked] or [next(iter(self._workflow))]
        )

    def _prefixes(self, outputs: list[str]) -> None:
        places = [place for place in self._places("filename_prefix", kinds=(str,)) if place[0] in outputs]
        says = "Start of the file names on the worker; one of its own for each job."
        bounds = {"internal": True, "min_length": 1, "max_length": 100, "default": "ryla"}
        self._add("filename_prefix", "text", says, places, **bounds)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _folder(class_type: str, name: str) -> str:
    if name in _FOLDERS:
        return _FOLDERS[name]
    if "clip_vision" in name or "CLIPVision" in class_type:
        return "clip_vision"
    if name.startswith("clip_name"):
        return "text_encoders"
    if "Upscale" in class_type:
        return "upscale_models"
    return "models"
