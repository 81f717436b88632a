"""`python -m workers.lora_trainer` takes jobs from RunPod until it is told to stop."""

from __future__ import annotations

import logging

from workers.common.sdk import start_sdk
from workers.lora_trainer.handler import make_handler


def main() -> None:
    """Start RunPod's SDK with the handler. One job at a time: a training takes the whole GPU."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    start_sdk({"handler": make_handler()})


if __name__ == "__main__":
    main()
