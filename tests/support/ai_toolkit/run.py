"""A stand-in for AI Toolkit's `run.py`: the same command line, config, files, log and exit codes, without a model.

    python run.py CONFIG [-n NAME] [-l LOG] [-r]

What it does, it does as AI Toolkit 0.12.26 does: `${VARIABLES}` in the config's text are replaced by the environment,
bars go to stderr by tqdm itself, words to stdout, losses to `loss_log.db`; a checkpoint is written under its final
name, `optimizer.pt` after it, old ones are removed; a run goes on from the newest file of its name by the step in its
metadata; SIGINT ends it with exit code 0, an error with 1. How it behaves, by the environment:

| variable | |
|---|---|
| AITK_STEP_S | seconds a step (0.01) |
| AITK_LOAD_S | seconds that loading the model takes (0) |
| AITK_SAVE_S | seconds that writing a checkpoint takes, in small pieces (0) |
| AITK_MODE | what goes wrong, see below |
| AITK_AT | the step at which it does (10) |
| AITK_PID_FILE | where to write the process id |
| AITK_STORY_FILE | where to add `began STEP`, `hangs`, and `interrupted` when it is stopped as it should be |

Modes: `oom` (every step from AITK_AT on), `oom_thrice` (then it goes on), `oom_load`, `crash`, `gated`,
`disk_full`, `gpu_broken`, `killed`, `nan`, `hang`, `no_lora`, `stubborn` (SIGINT and SIGTERM do nothing).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

STEP_S = float(os.environ.get("AITK_STEP_S", "0.01"))
LOAD_S = float(os.environ.get("AITK_LOAD_S", "0"))
SAVE_S = float(os.environ.get("AITK_SAVE_S", "0"))
MODE = os.environ.get("AITK_MODE", "")
AT = int(os.environ.get("AITK_AT", "10"))

CUDA_OOM = (
    "CUDA out of memory. Tried to allocate 304.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 131.50 MiB is"
    " free. Including non-PyTorch memory, this process has 23.50 GiB memory in use."
)


class OutOfMemoryError(RuntimeError):
    """As PyTorch's."""


OutOfMemoryError.__module__ = "torch"


class GatedRepoError(OSError):
    """As Hugging Face's."""


GatedRepoError.__module__ = "huggingface_hub.errors"


def tell(words: str) -> None:
    if story := os.environ.get("AITK_STORY_FILE"):
        with Path(story).open("a") as file:
            print(words, file=file)


def read_config(path: str, name: str | None) -> dict[str, Any]:
    def from_env(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ValueError(f"Environment variable {match[1]} not set. Please ensure it's defined before proceeding.")
        return os.environ[match[1]]

    text = re.sub(r"\$\{([^}]+)\}", from_env, Path(path).read_text("utf-8"))
    if path.endswith(".json"):
        config = json.loads(text)
    else:
        import yaml

        config = yaml.safe_load(text)
    name = name or config["config"]["name"]
    return json.loads(json.dumps(config).replace("[name]", name))


TABLES = """
PRAGMA journal_mode=WAL;
CREATE TABLE IF NOT EXISTS steps (step INTEGER PRIMARY KEY, wall_time REAL NOT NULL);
CREATE TABLE IF NOT EXISTS metric_keys (key TEXT PRIMARY KEY, first_seen_step INTEGER, last_seen_step INTEGER);
CREATE TABLE IF NOT EXISTS metrics (step INTEGER NOT NULL, key TEXT NOT NULL, value_real REAL, value_text TEXT,
    PRIMARY KEY (step, key), FOREIGN KEY (step) REFERENCES steps(step) ON DELETE CASCADE);
"""


class Losses:
    """`loss_log.db`, with AI Toolkit's tables."""

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        self.connection.executescript(TABLES)
        self.pending: list[tuple[int, float, float, float]] = []
        self.flushed = time.time()

    def log(self, step: int, rate: float, loss: float) -> None:
        self.pending.append((step, time.time(), rate, loss))
        if time.time() - self.flushed >= 0.25:
            self.flush()

    def flush(self) -> None:
        self.connection.execute("BEGIN")
        for step, at, rate, loss in self.pending:
            self.connection.execute("INSERT OR REPLACE INTO steps VALUES (?, ?)", (step, at))
            for key, value in (("learning_rate", rate), ("loss/loss", loss)):
                self.connection.execute("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, NULL)", (step, key, value))
        self.connection.execute("COMMIT")
        self.pending.clear()
        self.flushed = time.time()


class Trainer:
    def __init__(self, config: dict[str, Any]) -> None:
        self.name = config["config"]["name"]
        self.conf = config["config"]["process"][0]
        self.steps = self.conf["train"]["steps"]
        self.root = Path(self.conf["training_folder"]) / self.name
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "config.yaml").write_text(json.dumps(config))
        self.rate = float(self.conf["train"]["lr"])
        self.step = 0
        self.ooms = 0

    def run(self) -> None:
        print("")
        print("#############################################")
        print(f"# Running job: {self.name}")
        print("#############################################")
        print("")
        self.load()
        self.cache()
        self.resume()
        losses = Losses(self.root / "loss_log.db")
        start = self.step
        tell(f"began {start}")
        bar = tqdm(total=self.steps, desc=self.name, leave=True, initial=self.step, smoothing=0.7)
        for step in range(start, self.steps):
            self.step = step
            loss = self.train_step(step)
            if loss is not None:
                bar.set_postfix_str(f"lr: {self.rate:.1e} loss: {loss:.3e}")
            if step != start:
                if step % self.conf["save"]["save_every"] == 0:
                    print(f"\nSaving at step {step}")
                    self.save(step)
                if not self.conf["train"]["disable_sampling"] and step % self.conf["sample"]["sample_every"] == 0:
                    self.sample(step)
                losses.log(step, self.rate, loss if loss is not None else 0.0)
            bar.update(step + 1 - bar.n)
            self.step = step + 1
        bar.close()
        if MODE != "no_lora":
            self.save(None)
        if not self.conf["train"]["disable_sampling"]:
            self.sample(self.step)
        losses.flush()
        print("")

    def load(self) -> None:
        for _ in tqdm(range(3), desc="Loading checkpoint shards"):
            time.sleep(LOAD_S / 3)
        if MODE == "gated":
            raise GatedRepoError(
                "401 Client Error.\n\nCannot access gated repo for url"
                " https://huggingface.co/black-forest-labs/FLUX.1-dev/resolve/main/model_index.json?token=hf_abcdefghij."
            )
        if MODE == "oom_load":
            raise OutOfMemoryError(CUDA_OOM)

    def cache(self) -> None:
        folder = Path(self.conf["datasets"][0]["folder_path"])
        images = [file for file in sorted(folder.iterdir()) if file.suffix in (".jpg", ".jpeg", ".png", ".webp")]
        if not images:
            raise ValueError(f"No images found in {folder}")
        captions = [file.with_suffix(".txt").read_text("utf-8") for file in images]
        print(f"  -  Found {len(images)} images, {len(captions)} captions")
        for _ in tqdm(images, desc="Caching latents to disk"):
            time.sleep(STEP_S)

    def resume(self) -> None:
        found = [path for path in self.root.glob(f"{self.name}*") if path.exists()]
        if not found:
            return
        newest = max(found, key=lambda path: path.stat().st_ctime)
        print(f"#### IMPORTANT RESUMING FROM {newest} ####")
        data = newest.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
        if len(data) != 8 + length + end:
            raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
        self.step = json.loads(header["__metadata__"]["training_info"])["step"]
        print(f"Found step {self.step} in metadata, starting from there")
        if (self.root / "optimizer.pt").exists():
            print(f"Loading optimizer state from {self.root / 'optimizer.pt'}")

    def train_step(self, step: int) -> float | None:
        time.sleep(STEP_S)
        if step >= AT:
            self.go_wrong(step)
        if (MODE == "oom" and step >= AT) or (MODE == "oom_thrice" and AT <= step < AT + 3):
            self.ooms += 1
            if self.ooms > 3:
                raise RuntimeError("OOM during training step 3 times in a row, aborting training")
            print("")
            print("################################################")
            print(f"# OOM during training step, skipping batch {self.ooms}/3 #")
            print("################################################")
            print("")
            return None
        self.ooms = 0
        return math.nan if MODE == "nan" and step >= AT else 0.5 * math.exp(-step / 500) + 0.05

    def go_wrong(self, step: int) -> None:
        match MODE:
            case "crash":
                raise ValueError("mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)")
            case "gpu_broken":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case "disk_full":
                raise OSError(28, "No space left on device")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang" if step == AT:
                tell("hangs")
                time.sleep(3_600)

    def save(self, step: int | None) -> None:
        number = "" if step is None else f"_{step:09}"
        path = self.root / f"{self.name}{number}.safetensors"
        info = json.dumps({"step": self.step, "epoch": 0})
        tensor = "lora_unet.lora_down.weight"
        header = json.dumps(
            {
                "__metadata__": {"training_info": info, "format": "pt", "name": self.name},
                tensor: {"dtype": "F16", "shape": [16, 1024], "data_offsets": [0, 32_768]},
            }
        ).encode()
        with path.open("wb", buffering=0) as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _ in range(16):
                file.write(bytes([self.step % 251]) * 2_048)
                time.sleep(SAVE_S / 16)
        print(f"Saved checkpoint to {path}")
        (self.root / "optimizer.pt").write_bytes(os.urandom(4_096))
        print(f"Saved optimizer to {self.root / 'optimizer.pt'}")
        kept = self.conf["save"]["max_step_saves_to_keep"]
        old = sorted(self.root.glob(f"{self.name}_*.safetensors"), key=lambda path: path.stat().st_ctime)
        for path in old[:-kept]:
            print(f"Removing old save: {path}")
            path.unlink()

    def sample(self, step: int) -> None:
        folder = self.root / "samples"
        folder.mkdir(exist_ok=True)
        from PIL import Image

        for count, _prompt in enumerate(tqdm(self.conf["sample"]["prompts"], desc="Generating Images", leave=False)):
            Image.new("RGB", (64, 64), (step % 256, count, 99)).save(
                folder / f"{int(time.time() * 1000)}__{step:09}_{count}.jpg"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config_file_list", nargs="+")
    parser.add_argument("-r", "--recover", action="store_true")
    parser.add_argument("-n", "--name")
    parser.add_argument("-l", "--log")
    args = parser.parse_args()
    if pid_file := os.environ.get("AITK_PID_FILE"):
        Path(pid_file).write_text(str(os.getpid()))
    if MODE == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"Running {len(args.config_file_list)} job")
    for config in args.config_file_list:
        try:
            Trainer(read_config(config, args.name)).run()
        except Exception as error:
            print(f"Error running job: {error}")
            print("")
            print("========================================")
            print("Result:")
            print(" - 0 completed jobs")
            print(" - 1 failure")
            print("========================================")
            raise
        except KeyboardInterrupt:
            tell("interrupted")
            print("")
            print("========================================")
            print("Job stopped")
            print("========================================")
            sys.exit(0)


if __name__ == "__main__":
    main()
