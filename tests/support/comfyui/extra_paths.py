"""The model files that the stand-in finds as ComfyUI does: below its own `models` and in the folders of
`extra_model_paths.yaml`, at each look."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

__all__ = ["ExtraPaths"]


class ExtraPaths(Collection[str]):
    """The names of all files there, whatever their folder: the recorded choices do not say which they are of."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def __iter__(self) -> Iterator[str]:
        for folder in self._folders():
            for place, _folders, files in os.walk(folder, followlinks=True):
                yield from (str(Path(place, name).relative_to(folder)) for name in files)

    def _folders(self) -> Iterator[Path]:
        models = self._config.parent / "models"
        yield from models.iterdir() if models.is_dir() else ()
        for section in yaml.safe_load(self._config.read_text("utf-8")).values():
            base = Path(section["base_path"])
            for name, folders in section.items():
                if name != "base_path":
                    yield from map(base.joinpath, folders.split())

    def __contains__(self, name: object) -> bool:
        return any(one == name for one in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
