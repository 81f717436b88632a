"""How many faces a picture shows: what the ComfyUI worker asks before it queues a workflow that needs one.

`RYLA_FACE_DETECTOR` names the function, as `module:function`. In this image it is `count_faces`, which uses the
detector of InsightFace that the face nodes use themselves. Where other models are wanted, name another function.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from workers.common.failures import JobFailure

__all__ = ["count_faces", "count_faces_haar"]

#: Packs of InsightFace, each with a detector; the first that is there is used.
_PACKS = ("antelopev2", "buffalo_l", "buffalo_s")
#: ReActor and PuLID look at pictures of this size, and so does this.
_SIZE = (640, 640)


def count_faces(path: Path) -> int:
    """Count faces with InsightFace. Its models are on the volume, in `models/insightface/models`: none is fetched."""
    cv2 = import_module("cv2")
    picture = cv2.imread(str(path))
    return len(_insightface().get(picture)) if picture is not None else 0


@cache
def _insightface() -> Any:
    root = Path(os.environ.get("COMFYUI_DIR", "/comfyui")) / "models/insightface"
    pack = next((name for name in _PACKS if any((root / "models" / name).glob("*.onnx"))), None)
    if pack is None:
        raise JobFailure(
            "missing_model",
            "A model that the workflow needs is not on the GPU worker.",
            {"reason": f"none of {', '.join(_PACKS)} is in {root / 'models'}"},
        )
    # On the CPU: a detector takes a fraction of a second there, and none of ComfyUI's memory on the GPU.
    analysis = import_module("insightface.app").FaceAnalysis(
        name=pack, root=str(root), allowed_modules=["detection"], providers=["CPUExecutionProvider"]
    )
    analysis.prepare(ctx_id=-1, det_size=_SIZE)
    return analysis


def count_faces_haar(path: Path) -> int:
    """Count frontal faces with the cascade that OpenCV brings along: no models to fetch, and profiles are not found."""
    cv2 = import_module("cv2")
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        return 0
    found = _haar().detectMultiScale(picture, scaleFactor=1.1, minNeighbors=5, minSize=(40, 40))
    return len(found)


@cache
def _haar() -> Any:
    cv2 = import_module("cv2")
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))
