"""`python -m workers.comfyui`: connects the volume, starts ComfyUI, and takes jobs until RunPod ends the worker."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

from workers.comfyui.faces import load_detector
from workers.comfyui.handler import Worker
from workers.comfyui.settings import Settings
from workers.comfyui.supervisor import State, Supervisor
from workers.comfyui.volume import connect
from workers.common.reporting import runpod_sender
from workers.common.sdk import start_sdk
from workers.common.storing import Store

_GRACE_S = 10.0

log = logging.getLogger(__name__)


def main() -> int:
    """Run the worker. Returns 1 where ComfyUI could not be kept running, so that the container is replaced."""
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO").upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.from_env()
        store, detector = Store.from_env(), load_detector(settings.detector)
    except ValueError as error:
        log.error("%s", error)
        return 2
    if settings.folder is not None and settings.command:
        connect(settings.volume, settings.folder)
    supervisor = Supervisor(
        settings.command,
        settings.url,
        folder=settings.folder,
        start_s=settings.start_s,
        most_restarts=settings.most_restarts,
        on_given_up=lambda: _leave(worker),
    )
    worker = Worker(settings, supervisor, sender=runpod_sender, store=store, detector=detector)
    supervisor.start()
    try:
        start_sdk({"handler": worker.handle, "concurrency_modifier": worker.concurrency})
    finally:
        given_up = supervisor.state is State.GIVEN_UP
        supervisor.stop()
    return 1 if given_up else 0


def _leave(worker: Worker) -> None:
    """End this process in an orderly way; and if RunPod's SDK takes its time over that, without its consent."""

    def leave() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while worker.in_hand:
            time.sleep(0.1)
        # What the last job answered is being sent.
        time.sleep(_GRACE_S)
        logging.shutdown()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
