"""`python install_nodes.py nodes.json DIRECTORY` fetches the node packs at their commits, with their requirements.

For the build of the image. A pack's own install script is not run: such scripts download models, which belong on the
volume.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def install(pack: dict[str, str], folder: Path) -> None:
    """Fetch one pack. Raises `CalledProcessError` where that does not work, which ends the build."""
    here = folder / pack["name"]
    git = ["git", "-C", str(here)]
    subprocess.run(["git", "clone", "--filter=blob:none", pack["url"], str(here)], check=True)  # noqa: S603, S607
    subprocess.run([*git, "checkout", "--detach", pack["commit"]], check=True)  # noqa: S603
    requirements = here / "requirements.txt"
    if requirements.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "-r", str(requirements)], check=True)  # noqa: S603


def main() -> None:
    """Fetch all packs of the list."""
    for pack in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        install(pack, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
