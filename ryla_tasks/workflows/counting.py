"""How many images a workflow will return."""

from __future__ import annotations

from typing import Any

from ryla_tasks.workflows.workflow import is_link

__all__ = ["expected_images"]

_SAVERS = frozenset({"SaveImage"})
_SAVERS_OF_ONE = frozenset({"SaveAnimatedWEBP", "SaveAnimatedPNG"})

#: Outputs that worker-comfyui does not return: previews are temporary files.
_SILENT = frozenset({"PreviewImage", "PreviewAny", "MaskPreview"})

_SOURCES_OF_ONE = frozenset({"LoadImage"})
_SOURCES_OF_BATCH = frozenset({"EmptyLatentImage", "EmptySD3LatentImage", "EmptyImage"})

# Nodes whose result is as many images or latents as the one input named here.
_ONE_TO_ONE = {
    "ClownsharKSampler_Beta": "latent_image",
    "ImageBlur": "image",
    "ImageCrop": "image",
    "ImageFlip": "image",
    "ImageInvert": "image",
    "ImageQuantize": "image",
    "ImageRotate": "image",
    "ImageScale": "image",
    "ImageScaleBy": "image",
    "ImageScaleToTotalPixels": "image",
    "ImageSharpen": "image",
    "ImageUpscaleWithModel": "image",
    "InpaintModelConditioning": "pixels",
    "KSampler": "latent_image",
    "KSamplerAdvanced": "latent_image",
    "LatentUpscale": "samples",
    "LatentUpscaleBy": "samples",
    "ReActorFaceSwap": "input_image",
    "SamplerCustom": "latent_image",
    "SamplerCustomAdvanced": "latent_image",
    "SetLatentNoiseMask": "samples",
    "VAEDecode": "samples",
    "VAEDecodeTiled": "samples",
    "VAEEncode": "pixels",
    "VAEEncodeForInpaint": "pixels",
    "VAEEncodeTiled": "pixels",
}
_REPEATERS = {"RepeatImageBatch": "image", "RepeatLatentBatch": "samples"}
_JOINERS = {"ImageBatch": ("image1", "image2"), "LatentBatch": ("samples1", "samples2")}

#: Longer chains of nodes than any person makes are not followed, as Python's stack has an end.
_MAX_DEPTH = 250

_NOT_OUTPUTS = frozenset({*_SOURCES_OF_ONE, *_SOURCES_OF_BATCH, *_ONE_TO_ONE, *_REPEATERS, *_JOINERS})


def expected_images(workflow: dict[str, Any]) -> int | None:
    """How many images a checked workflow returns through worker-comfyui, or None where that cannot be told.

    Conservative: a node at an end of the graph that is not known here may save images of its own, and one on the
    way to a save node may change their number; either gives None.
    """
    return _Counter(workflow).total()


class _Counter:
    def __init__(self, workflow: dict[str, Any]) -> None:
        self._workflow = workflow
        self._counts: dict[str, int | None] = {}
        self._depth = 0

    def total(self) -> int | None:
        linked = {value[0] for node in self._workflow.values() for value in node["inputs"].values() if is_link(value)}
        total = 0
        for node_id, node in self._workflow.items():
            kind = node["class_type"]
            if kind in _SAVERS:
                count = self._behind(node["inputs"].get("images"))
            elif kind in _SAVERS_OF_ONE:
                count = 1
            elif node_id in linked or kind in _SILENT or kind in _NOT_OUTPUTS:
                count = 0
            else:
                count = None
            if count is None:
                return None
            total += count
        return total or None

    def _behind(self, link: Any) -> int | None:
        """How many images come through this link. Each node is counted once, and one in a loop not at all."""
        if not is_link(link):
            return None
        node_id = link[0]
        if node_id not in self._counts:
            self._counts[node_id] = None
            self._depth += 1
            if self._depth <= _MAX_DEPTH:
                self._counts[node_id] = self._made_by(self._workflow[node_id])
            self._depth -= 1
        return self._counts[node_id]

    def _made_by(self, node: dict[str, Any]) -> int | None:
        kind, inputs = node["class_type"], node["inputs"]
        if kind in _SOURCES_OF_ONE:
            return 1
        if kind in _SOURCES_OF_BATCH:
            return self._number(inputs.get("batch_size", 1))
        if kind in _ONE_TO_ONE:
            return self._behind(inputs.get(_ONE_TO_ONE[kind]))
        if kind in _REPEATERS:
            return _product(self._behind(inputs.get(_REPEATERS[kind])), self._number(inputs.get("amount", 1)))
        if kind in _JOINERS:
            first, second = (self._behind(inputs.get(name)) for name in _JOINERS[kind])
            return None if first is None or second is None else first + second
        return None

    def _number(self, value: Any) -> int | None:
        if is_link(value):
            node = self._workflow[value[0]]
            value = node["inputs"].get("value") if node["class_type"] == "PrimitiveInt" else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def _product(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first * second
