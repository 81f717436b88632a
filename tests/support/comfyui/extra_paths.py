"""The model files that the stand-in finds as ComfyUI does: in the folders of `extra_model_paths.yaml`, at each look."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

__all__ = ["ExtraPaths"]


class ExtraPaths(Collection[str]):
    """The names of all files there, whatever their folder: the recorded choices do not say which they are of."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def __iter__(self) -> Iterator[str]:
        for section in yaml.safe_load(self._config.read_text("utf-8")).values():
            base = Path(section["base_path"])
            for name, folders in section.items():
                if name == "base_path":
                    continue
                for folder in map(base.joinpath, folders.split()):
                    yield from (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def __contains__(self, name: object) -> bool:
        return any(one == name for one in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
