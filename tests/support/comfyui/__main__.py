"""`python -m tests.support.comfyui --port 0 --base DIR`: a stand-in ComfyUI; prints its address when it listens."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from aiohttp import web

from tests.support.comfyui.extra_paths import ExtraPaths
from tests.support.comfyui.server import Options, StandIn
from tests.support.comfyui.validation import load_object_info


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.comfyui", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--base", type=Path, required=True, help="where input, output and temp are")
    parser.add_argument("--object-info", type=Path, help="another /object_info than the recorded one")
    parser.add_argument("--files", type=json.loads, help="a JSON list of the model files it has; without it: any")
    parser.add_argument("--read-paths", action="store_true", help="it has what extra_model_paths.yaml names alone")
    parser.add_argument("--step-s", type=float, default=0.02, help="how long a step of a sampler takes")
    parser.add_argument("--boot-s", type=float, default=0.0, help="how long it takes to listen")
    parser.add_argument("--fail", action="store_true", help="end at once, with an error")
    parser.add_argument("--no-faces", action="store_true", help="face swaps find no face, and change nothing")
    return parser.parse_args()


async def _serve(said: argparse.Namespace) -> None:
    info = json.loads(said.object_info.read_text()) if said.object_info else load_object_info()
    files = ExtraPaths(said.base / "extra_model_paths.yaml") if said.read_paths else said.files
    options = Options(said.base, info, files, said.step_s, not said.no_faces)
    runner = web.AppRunner(StandIn(options).app)
    await runner.setup()
    await web.TCPSite(runner, said.host, said.port).start()
    print(f"http://{said.host}:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    said = _arguments()
    if said.fail:
        sys.exit("it does not start")
    time.sleep(said.boot_s)
    asyncio.run(_serve(said))


main()
