"""`ryla run sheet | swap | train | variations`: the tasks beside plain images."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click

from ryla_tasks.cli.params import asked_for, param_options, read_json
from ryla_tasks.cli.run import common_options, enqueue, run
from ryla_tasks.errors import InvalidJob

__all__ = ["run", "sheet", "swap", "train", "variations"]

_METHODS = ("reactor", "faceid")


@run.command()
@click.option("--base", metavar="FILE|URL", help="The character: an image file, or an https URL.")
@click.option("--angle", "angles", multiple=True, help="An angle; may be repeated.  [default: eight of them]")
@click.option("--seed", type=int, help="The same for all angles.  [default: a random one]")
@click.option("--min-cells", type=int, help="How many must have an image in the end.  [default: 1]")
@click.option("--resume", metavar="ID", help="Make what is missing of the sheet ID, in place of a new one.")
@param_options
@common_options
def sheet(
    base: str | None,
    angles: tuple[str, ...],
    seed: int | None,
    min_cells: int | None,
    resume: str | None,
    prompt: str | None,
    params: tuple[str, ...],
    images: tuple[str, ...],
    **common: Any,
) -> None:
    """Show a character from several angles, a job for each.

    \b
    ryla run sheet --base girl.png --angle front --angle side-left --angle back --out sheet
    ryla run sheet --resume ID
    """
    from ryla_tasks import make_character_sheet

    given = {"angles": list(angles) or None, "seed": seed, "min_cells": min_cells, "resume": resume}
    asked = {**asked_for(prompt, params, images), **{name: value for name, value in given.items() if value is not None}}
    if base is not None:
        asked["image"] = _picture(base, "--base")
    enqueue(make_character_sheet, (), asked, **common)


@run.command()
@click.option("--base", required=True, metavar="FILE|URL", help="The image that gets the face.")
@click.option("--face", required=True, metavar="FILE|URL", help="The image that the face is taken from.")
@click.option("--method", type=click.Choice(_METHODS), default="reactor", show_default=True, help="How.")
@click.option("--seed", type=int, help="For faceid.  [default: a random one]")
@param_options
@common_options
def swap(
    base: str,
    face: str,
    method: str,
    seed: int | None,
    prompt: str | None,
    params: tuple[str, ...],
    images: tuple[str, ...],
    **common: Any,
) -> None:
    """Put the face of one image into another.

    \b
    ryla run swap --base beach.jpg --face me.jpg --out swapped
    """
    from ryla_tasks import swap_face

    asked = {**asked_for(prompt, params, images), "method": method, "seed": seed}
    asked |= {"image": _picture(base, "--base"), "face": _picture(face, "--face")}
    enqueue(swap_face, (), {name: value for name, value in asked.items() if value is not None}, **common)


@run.command()
@click.option("--trigger-word", required=True, help="The word that stands for the character in prompts.")
@click.option("--image", "urls", multiple=True, metavar="URL", help="An image to train on, by https; 3 or more.")
@click.option(
    "--images",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A JSON file with a list of {"url", "caption"} in place of --image.',
)
@click.option("--dataset", "dataset_url", metavar="URL", help="A zip of images and captions in place of both.")
@click.option("--base-model", type=click.Choice(["flux", "sdxl", "qwen", "z-image"]), default="flux", show_default=True)
@click.option("--steps", type=int, default=2_000, show_default=True)
@click.option("--rank", type=int, default=16, show_default=True)
@click.option("--learning-rate", type=float, default=1e-4, show_default=True)
@click.option("--name", help="A name for people.")
@common_options
def train(
    urls: tuple[str, ...],
    file: Path | None,
    name: str | None,
    dataset_url: str | None,
    **rest: Any,
) -> None:
    """Train a LoRA of a character. With the defaults that takes 1 to 1.5 hours.

    \b
    ryla run train --trigger-word rylagirl --images images.json --no-wait
    """
    from ryla_tasks import train_lora

    named = ("trigger_word", "base_model", "steps", "rank", "learning_rate")
    asked: dict[str, Any] = {one: rest.pop(one) for one in named}
    images = read_json(file, "--images") if file is not None else list(urls) or None
    given = {"images": images, "dataset_url": dataset_url, "name": name}
    asked |= {one: value for one, value in given.items() if value is not None}
    enqueue(train_lora, (), asked, **rest)


@run.command()
@click.option("-n", "--count", "n", type=int, default=3, show_default=True, help="How many.")
@click.option("--template", default="z-image-turbo", show_default=True, help="A workflow template.")
@click.option("--seed", type=int, help="The seed that all come from.  [default: a random one]")
@click.option("--separate", is_flag=True, help="Each a job of its own, with a seed of its own.")
@param_options
@common_options
def variations(
    n: int,
    template: str,
    seed: int | None,
    separate: bool,
    prompt: str | None,
    params: tuple[str, ...],
    images: tuple[str, ...],
    **common: Any,
) -> None:
    """Generate several images of one prompt, to choose from.

    \b
    ryla run variations -p "a lighthouse at dusk" -n 4 --out pictures
    """
    from ryla_tasks import generate_variations

    asked = {**asked_for(prompt, params, images), "n": n, "template": template}
    asked |= {"seed": seed} if seed is not None else {}
    asked |= {"separate": True} if separate else {}
    enqueue(generate_variations, (), asked, **common)


def _picture(text: str, option: str) -> dict[str, str]:
    """An image on the command line: a URL, or a file of this machine."""
    if text.startswith("https://"):
        return {"url": text}
    try:
        return {"image": base64.b64encode(Path(text).read_bytes()).decode()}
    except OSError as error:
        raise InvalidJob(f"{option}: {text}: {error.strerror}", field=option) from error
