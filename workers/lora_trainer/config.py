"""The config file for AI Toolkit's `run.py`, made from a request.

It is written as JSON, which AI Toolkit reads beside YAML: there is one way only to read a JSON string, whatever a
caller put into a prompt. AI Toolkit replaces `${NAME}` in the file's text by environment variables before it parses it,
so that a prompt could ask for HF_TOKEN; in JSON the dollar can be written so that there is nothing to replace.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workers.lora_trainer.request import TrainingRequest

__all__ = ["config_text", "make_config"]

#: Below this, Qwen needs its 3-bit form.
_SMALL_GPU_GB = 32.0
_CHECKPOINTS_KEPT = 4
_LARGEST_SAMPLE = 1_024

#: The parts of a config that are a base model's own: AI Toolkit's own settings for each.
_MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "flux": {
        "model": {"name_or_path": "black-forest-labs/FLUX.1-dev", "arch": "flux", "quantize": True},
        "train": {"noise_scheduler": "flowmatch"},
        "sample": {"sampler": "flowmatch", "guidance_scale": 4, "sample_steps": 20},
    },
    "sdxl": {
        "model": {"name_or_path": "stabilityai/stable-diffusion-xl-base-1.0", "arch": "sdxl", "quantize": False},
        "train": {"noise_scheduler": "ddpm"},
        "sample": {"sampler": "ddpm", "guidance_scale": 6, "sample_steps": 25},
    },
    "qwen": {
        "model": {"name_or_path": "Qwen/Qwen-Image", "arch": "qwen_image", "quantize": True, "low_vram": True},
        "train": {"noise_scheduler": "flowmatch", "timestep_type": "weighted"},
        "sample": {"sampler": "flowmatch", "guidance_scale": 3, "sample_steps": 25},
    },
    "z-image": {
        "model": {
            "name_or_path": "Tongyi-MAI/Z-Image-Turbo",
            "arch": "zimage:turbo",
            "quantize": True,
            "low_vram": True,
            # Without it, training undoes the distillation that makes the model fast.
            "assistant_lora_path": (
                "ostris/zimage_turbo_training_adapter/zimage_turbo_training_adapter_v2.safetensors"
            ),
        },
        "train": {"noise_scheduler": "flowmatch", "timestep_type": "weighted"},
        "sample": {"sampler": "flowmatch", "guidance_scale": 1, "sample_steps": 9},
    },
}

#: What makes Qwen fit into 24 GB: 3 bits a weight with the adapter that restores what this costs, and the text encoder
#: out of memory while it trains.
_QWEN_SMALL = {"qtype": "uint3|ostris/accuracy_recovery_adapters/qwen_image_torchao_uint3.safetensors"}


def make_config(
    request: TrainingRequest, *, name: str, images: Path, output: Path, gpu_gb: float | None = None
) -> dict[str, Any]:
    """The config as AI Toolkit takes it. The run's files come to `output/name`.

    `name` must be this job's alone: AI Toolkit goes on from the newest checkpoint that it finds under a name, whoever
    made it.
    """
    own = _MODELS[request.base_model]
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": str(output),
        "device": "cuda:0",
        "trigger_word": request.trigger_word,
        "network": {"type": "lora", "linear": request.rank, "linear_alpha": request.rank},
        "save": {
            "dtype": "float16",
            "save_every": request.save_every,
            "max_step_saves_to_keep": _CHECKPOINTS_KEPT,
            "push_to_hub": False,
        },
        "datasets": [_dataset(request, images)],
        "train": _train(request) | own["train"],
        "model": own["model"],
        "sample": _sample(request) | own["sample"],
        # Losses by the step in SQLite; see losses.py.
        "logging": {"log_every": 1, "use_ui_logger": True},
    }
    if request.seed is not None:
        process["training_seed"] = request.seed
    _fit(process, request, gpu_gb)
    meta = {"name": request.name or "[name]", "version": "1.0"}
    return {"job": "extension", "config": {"name": name, "process": [process]}, "meta": meta}


def config_text(config: dict[str, Any]) -> str:
    """The config as the text of a `.json` file, with nothing in it that looks like an environment variable."""
    return json.dumps(config, indent=1, ensure_ascii=True).replace("$", "\\u0024") + "\n"


def _dataset(request: TrainingRequest, images: Path) -> dict[str, Any]:
    return {
        "folder_path": str(images),
        "caption_ext": "txt",
        "caption_dropout_rate": request.caption_dropout,
        "shuffle_tokens": False,
        "cache_latents_to_disk": True,
        "resolution": request.resolutions,
    }


def _train(request: TrainingRequest) -> dict[str, Any]:
    return {
        "batch_size": request.batch_size,
        "steps": request.steps,
        "gradient_accumulation": 1,
        "train_unet": True,
        "train_text_encoder": False,
        "gradient_checkpointing": True,
        "optimizer": "adamw8bit",
        "lr": request.learning_rate,
        "dtype": "bf16",
        # A picture of the untrained model is nobody's sample.
        "skip_first_sample": True,
        "disable_sampling": not request.sample_prompts,
    }


def _sample(request: TrainingRequest) -> dict[str, Any]:
    side = min(request.resolutions[-1], _LARGEST_SAMPLE)
    return {
        "sample_every": request.save_every,
        "width": side,
        "height": side,
        "prompts": request.sample_prompts,
        "neg": "",
        "seed": request.seed if request.seed is not None else 42,
        "walk_seed": True,
    }


def _fit(process: dict[str, Any], request: TrainingRequest, gpu_gb: float | None) -> None:
    """Make it fit the GPU: the request's own wishes first, then what a small card needs."""
    model: dict[str, Any] = dict(process["model"])
    if request.quantize is not None and request.base_model != "sdxl":
        model["quantize"] = request.quantize
    if request.low_vram is not None:
        model["low_vram"] = request.low_vram
    model["quantize_te"] = model["quantize"]
    small = request.low_vram if request.low_vram is not None else gpu_gb is None or gpu_gb < _SMALL_GPU_GB
    if request.base_model == "qwen" and model["quantize"] and small:
        model |= _QWEN_SMALL
        process["train"]["cache_text_embeddings"] = True
    process["model"] = model
