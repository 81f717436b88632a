"""The trainer's pure parts: lines, bars, progress, configs, captions, why it ended."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from tests.support.ai_toolkit.run import Losses
from workers.lora_trainer.bars import Bar, parse_bar
from workers.lora_trainer.config import config_text, make_config
from workers.lora_trainer.dataset import captioned
from workers.lora_trainer.errors import DatasetInvalid, RequestInvalid
from workers.lora_trainer.lines import LineSplitter, Tail, without_secrets
from workers.lora_trainer.losses import LossRow, read_losses
from workers.lora_trainer.oom import advice, last_error
from workers.lora_trainer.progress import Tracker
from workers.lora_trainer.request import BASE_MODELS, TrainingRequest, parse_request
from workers.lora_trainer.settings import Settings
from workers.lora_trainer.tensors import read_header
from workers.lora_trainer.toolkit import toolkit_env

IMAGES = [{"url": f"https://example.com/{number}.png"} for number in range(3)]
ASKED: dict[str, Any] = {"trigger_word": "ohwx", "images": IMAGES}
NAME = "cor-1"

#: Others use the machine, too.
QUICK = settings(max_examples=100, deadline=None)


def printed(done: int, total: int, loss: float | None, elapsed: float) -> str:
    """One state of a bar, as tqdm itself prints it."""
    postfix = "" if loss is None else f"lr: 1.0e-04 loss: {loss:.3e}"
    return tqdm.format_meter(done, total, elapsed, prefix=NAME, postfix=postfix, ncols=160)


# Lines and bars.

GARBAGE = st.text(st.characters(exclude_characters="\r\n|", exclude_categories=["Cs"]), max_size=60)
BARS = st.builds(
    printed,
    st.integers(1, 5_000),
    st.just(5_000),
    st.none() | st.floats(1e-6, 10),
    st.floats(0.01, 200_000),
)


@QUICK
@given(st.lists(GARBAGE | BARS, max_size=12), st.data())
def test_lines_are_found_however_the_bytes_are_cut(lines: list[str], data: st.DataObject) -> None:
    ends = [data.draw(st.sampled_from(["\r", "\n", "\r\n"])) for _ in lines]
    stream = "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()
    splitter, found, at = LineSplitter(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 40))
        found += splitter.feed(stream[at : at + size])
        at += size
    found += splitter.feed(b"", last=True)
    joined = LineSplitter()
    assert found == joined.feed(stream) + joined.feed(b"", last=True)
    assert bars_in(found) == bars_in(lines)


def bars_in(lines: list[str]) -> list[Bar]:
    return [bar for line in lines if (bar := parse_bar(line)) is not None]


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 10**6), st.none() | st.floats(0, 10), st.floats(0.01, 350_000))
def test_a_bar_of_tqdm_is_read_back(done: int, total: int, loss: float | None, elapsed: float) -> None:
    done = min(done, total)
    line = printed(done, total, loss, elapsed)
    bar = parse_bar(line)
    assert bar is not None, line
    assert (bar.name, bar.done, bar.total) == (NAME, done, total)
    if loss is None:
        assert bar.loss is None
    else:
        assert bar.loss == pytest.approx(float(f"{loss:.3e}"))
    if done:
        left = (total - done) * elapsed / done
        assert bar.left_s == pytest.approx(left, abs=1.01)
    else:
        assert bar.left_s is None


@QUICK
@given(GARBAGE, BARS)
def test_what_is_before_and_after_a_bar_does_not_hide_it(garbage: str, line: str) -> None:
    bar = parse_bar(line)
    after = parse_bar(f"{line}{garbage}")
    assert after == bar
    before = parse_bar(f"{garbage} {line}")
    assert before is not None
    assert bar is not None
    assert (before.done, before.total, before.loss) == (bar.done, bar.total, bar.loss)


@QUICK
@given(st.text(max_size=400))
def test_anything_can_be_looked_at(text: str) -> None:
    parse_bar(text)
    last_error([text])
    tail = Tail(5)
    for line in LineSplitter().feed(text.encode("utf-8", "surrogatepass"), last=True):
        tail.add(without_secrets(line))


def test_a_loss_that_is_no_number_and_bytes_are_told_apart() -> None:
    bar = parse_bar(f"{NAME}:  1%|   | 5/500 [00:01<02:00, 4.03it/s, lr: 1.0e-04 loss: nan]")
    assert bar is not None
    assert bar.loss is not None
    assert math.isnan(bar.loss)
    assert parse_bar("model.safetensors:  12%|█▏  | 1.20G/9.80G [00:31<03:40, 39.0MB/s]") is None
    assert parse_bar("my_lora: 0%|  | 0/2000 [00:00<?, ?it/s]") == Bar("my_lora", 0, 2000)


def test_a_real_tqdm_writes_what_is_read() -> None:
    stream = io.StringIO()
    bar = tqdm(total=50, desc=NAME, file=stream, mininterval=0)
    for step in range(50):
        bar.set_postfix_str(f"lr: 1.0e-04 loss: {1 / (step + 1):.3e}")
        bar.update()
    bar.close()
    splitter = LineSplitter()
    lines = splitter.feed(stream.getvalue().encode()) + splitter.feed(b"", last=True)
    bars = bars_in(lines)
    assert len(bars) > 50
    assert bars[-1] == Bar(NAME, 50, 50, 0.0, 0.02)


def test_the_tail_keeps_one_line_of_each_bar() -> None:
    tail = Tail(3)
    for number in range(100):
        tail.add(f"a: {number}", bar="a")
    tail.add("words")
    tail.add("a: 100", bar="a")
    assert tail.lines() == ["a: 99", "words", "a: 100"]


# Progress.


@QUICK
@given(st.lists(st.one_of(
    st.builds(lambda done, loss: Bar(NAME, done, 100, 5.0, loss), st.integers(0, 100), st.none() | st.floats()),
    st.builds(lambda done: Bar("Caching latents to disk", done, 100), st.integers(0, 100)),
    st.builds(lambda done: Bar("Generating Images", done, 100), st.integers(0, 100)),
    st.builds(LossRow, st.integers(0, 200), st.none() | st.floats(), st.none() | st.floats(0.01, 5)),
    st.sampled_from(["Saving at step 5", "# OOM during training step, skipping batch 1/3 #", ""]),
), max_size=40), st.integers(0, 100))  # fmt: skip
def test_steps_never_go_back_and_all_that_is_told_is_json(seen: list[Any], start: int) -> None:
    tracker = Tracker(NAME, 100, start)
    step = tracker.step
    for at, one in enumerate(seen):
        if isinstance(one, Bar):
            tracker.bar(one, at)
        elif isinstance(one, LossRow):
            tracker.losses(one, at)
        else:
            tracker.line(one)
        assert step <= tracker.step <= 100
        step = tracker.step
        told = json.loads(json.dumps(tracker.progress(at).to_json(), allow_nan=False))
        assert 0 <= told["percent"] <= 97
        assert told.get("eta_s", 1) >= 0


def test_caching_is_not_training() -> None:
    tracker = Tracker(NAME, 100)
    tracker.bar(Bar("Caching latents to disk", 5, 10), 0.0)
    told = tracker.progress(0.0)
    assert (told.message, told.step, told.percent) == ("Caching latents to disk: 5 of 10", None, 3.5)
    tracker.bar(Bar(NAME, 0, 100), 1.0)
    assert tracker.progress(1.0).step is None
    tracker.bar(Bar(NAME, 1, 100, None, 0.5), 2.0)
    assert tracker.progress(2.0).to_json() == {
        "percent": 5.9, "message": "Training: step 1 of 100", "step": 1, "steps": 100, "loss": 0.5,
    }  # fmt: skip


def test_the_newer_of_bar_and_log_counts() -> None:
    tracker = Tracker(NAME, 100)
    tracker.bar(Bar(NAME, 10, 100, 90.0, 0.5), 0.0)
    tracker.losses(LossRow(12, 0.4, 2.0), 1.0)
    assert tracker.progress(1.0).eta_s == 176.0
    assert (tracker.step, tracker.loss) == (12, 0.4)
    tracker.losses(LossRow(11, 0.9, 2.0), 2.0)
    assert (tracker.step, tracker.loss) == (12, 0.4)
    tracker.bar(Bar(NAME, 15, 100, 60.0, 0.3), 3.0)
    assert tracker.progress(13.0).eta_s == 50.0
    assert (tracker.step, tracker.loss) == (15, 0.3)


def test_the_log_of_losses(tmp_path: Path) -> None:
    """As AI Toolkit writes it: step n is done when it is there, the first one is never logged."""
    file = tmp_path / "loss_log.db"
    assert read_losses(file) is None
    log = Losses(file)
    assert read_losses(file) is None
    for step in range(1, 101):
        log.pending.append((step, 1_000.0 + 2 * step, 1e-4, 1 / step))
    log.flush()
    assert read_losses(file) == LossRow(done=101, loss=0.01, rate_s=2.0)
    log.pending.append((101, 1_203.0, 1e-4, math.nan))
    log.flush()
    found = read_losses(file)
    assert found is not None
    assert (found.done, found.loss) == (102, None)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + bytes(500))
    assert read_losses(broken) is None


# The request.


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"trigger_word": " \n"}, RequestInvalid, "trigger_word"),
        ({"trigger_word": None}, RequestInvalid, "trigger_word"),
        ({"images": IMAGES[:2]}, DatasetInvalid, "images"),
        ({"images": None}, DatasetInvalid, "images"),
        ({"dataset_url": "https://example.com/a.zip"}, DatasetInvalid, "images"),
        ({"images": [*IMAGES, {"uri": "x"}]}, DatasetInvalid, "images.3.url"),
        ({"base_model": "sd15"}, RequestInvalid, "base_model"),
        ({"steps": 0}, RequestInvalid, "steps"),
        ({"steps": "many"}, RequestInvalid, "steps"),
        ({"rank": 512}, RequestInvalid, "rank"),
        ({"resolution": [512, 500]}, RequestInvalid, "resolution.1"),
        ({"learning_rate": math.nan}, RequestInvalid, "learning_rate"),
        ({"caption_dropout": 1.5}, RequestInvalid, "caption_dropout"),
        ({"sample_prompts": [""]}, RequestInvalid, "sample_prompts.0"),
        ({"trigger": "x"}, RequestInvalid, "trigger"),
    ],
)
def test_a_bad_request_names_its_field(changes: dict[str, Any], kind: type[RequestInvalid], field: str) -> None:
    with pytest.raises(RequestInvalid) as raised:
        parse_request({name: value for name, value in {**ASKED, **changes}.items() if value is not None})
    assert type(raised.value) is kind
    assert raised.value.details["field"] == field
    assert raised.value.code == ("dataset_invalid" if kind is DatasetInvalid else "request_invalid")


def test_a_bad_request_tells_no_values() -> None:
    secret = "https://s3.example.com/a.png?X-Amz-Signature=abc" + "x" * 5_000
    with pytest.raises(DatasetInvalid) as raised:
        parse_request({**ASKED, "images": [*IMAGES, {"url": secret}]})
    assert "Signature" not in json.dumps(raised.value.answer())


def test_names_of_runs_are_names_of_files() -> None:
    def named(**ryla: str) -> TrainingRequest:
        return parse_request({**ASKED, "ryla": ryla})

    assert named(correlation_id="abc").run_name("r-1") == "abc"
    assert named().run_name("c80ffee4-f315-u1") == "c80ffee4-f315-u1"
    assert named(job_id="j", correlation_id="c").folder_name("r") == "j"
    for bad in ("../x", ".x", "a/b", "a*", "x" * 200):
        with pytest.raises(RequestInvalid, match="correlation_id"):
            named(correlation_id=bad).run_name("r")


def test_signatures_do_not_make_another_training() -> None:
    def asked(**changes: Any) -> str:
        images = [{"url": f"https://s3.example.com/{number}.png?sig={changes.get('sig')}"} for number in range(3)]
        own = {name: value for name, value in changes.items() if name != "sig"}
        return parse_request({**ASKED, "images": images, **own}).fingerprint()

    assert asked(sig="a") == asked(sig="b", name="other", ryla={"attempt": 2})
    assert asked(sig="a") != asked(sig="a", rank=32)


# The config.


def the_config(**changes: Any) -> dict[str, Any]:
    gpu_gb = changes.pop("gpu_gb", None)
    request = parse_request({**ASKED, **changes})
    return make_config(request, name=NAME, images=Path("/d"), output=Path("/o"), gpu_gb=gpu_gb)


@pytest.mark.parametrize("base_model", BASE_MODELS)
def test_each_base_model_has_its_settings(base_model: str) -> None:
    config = the_config(base_model=base_model, steps=1500, rank=8, learning_rate=5e-5, sample_prompts=["x"])
    process = config["config"]["process"][0]
    expected = {
        "flux": ("black-forest-labs/FLUX.1-dev", "flux", "flowmatch", True, None),
        "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl", "ddpm", False, None),
        "qwen": ("Qwen/Qwen-Image", "qwen_image", "flowmatch", True, True),
        "z-image": ("Tongyi-MAI/Z-Image-Turbo", "zimage:turbo", "flowmatch", True, True),
    }[base_model]
    model, train = process["model"], process["train"]
    assert (
        model["name_or_path"], model["arch"], train["noise_scheduler"], model["quantize"], model.get("low_vram"),
    ) == expected  # fmt: skip
    assert process["sample"]["sampler"] == train["noise_scheduler"]
    assert (train["steps"], train["lr"], process["network"]["linear"]) == (1500, 5e-5, 8)
    assert config["config"]["name"] == NAME
    assert process["logging"] == {"log_every": 1, "use_ui_logger": True}
    assert ("assistant_lora_path" in model) == (base_model == "z-image")
    if base_model == "z-image":
        assert (process["sample"]["guidance_scale"], process["sample"]["sample_steps"]) == (1, 9)


def test_what_fits_the_gpu() -> None:
    def parts(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        process = the_config(**changes)["config"]["process"][0]
        return process["model"], process["train"]

    model, train = parts(base_model="qwen", gpu_gb=24)
    assert model["qtype"].startswith("uint3|")
    assert train["cache_text_embeddings"] is True
    assert "qtype" not in parts(base_model="qwen", gpu_gb=80)[0]
    assert "qtype" not in parts(base_model="qwen", gpu_gb=24, low_vram=False)[0]
    assert parts(quantize=False)[0]["quantize_te"] is False
    assert parts(base_model="sdxl", quantize=True)[0]["quantize"] is False
    assert parts(low_vram=True)[0]["low_vram"] is True


def replaced(text: str, env: dict[str, str]) -> str:
    """What AI Toolkit does to the text of a config before it is parsed."""
    return re.sub(r"\$\{([^}]+)\}", lambda match: env[match.group(1)], text)


@QUICK
@given(st.text(max_size=80), st.text(max_size=80))
def test_a_prompt_arrives_as_it_is_and_asks_for_nothing(prompt: str, word: str) -> None:
    prompt, word = f"a ${{HF_TOKEN}} {prompt}", f"w{word}$"
    try:
        request = parse_request({**ASKED, "trigger_word": word, "sample_prompts": [prompt]})
    except RequestInvalid:
        return
    config = make_config(request, name=NAME, images=Path("/d"), output=Path("/o"))
    text = config_text(config)
    assert replaced(text, {"HF_TOKEN": "secret"}) == text
    assert json.loads(text) == json.loads(json.dumps(config))
    assert json.loads(text)["config"]["process"][0]["sample"]["prompts"] == request.sample_prompts


def test_the_config_is_yaml_too() -> None:
    config = the_config(sample_prompts=["[trigger]: a 'quoted' # one"])
    assert yaml.safe_load(config_text(config)) == json.loads(config_text(config))


# Captions, memory, errors, files.


@QUICK
@given(st.text(max_size=60))
def test_every_caption_has_the_trigger_word(caption: str) -> None:
    found = captioned(caption, "ohwx")
    assert "ohwx" in found.lower()
    assert "[trigger]" not in found


def test_captions() -> None:
    assert captioned("", "ohwx") == "ohwx"
    assert captioned("photo of [trigger]", "ohwx") == "photo of ohwx"
    assert captioned("at the sea", "ohwx") == "ohwx, at the sea"
    assert captioned("Ohwx smiles", "ohwx") == "Ohwx smiles"


def test_advice_ends_where_nothing_is_left_to_change() -> None:
    least = parse_request({**ASKED, "resolution": 512, "low_vram": True, "rank": 4})
    assert advice(least) == []
    most = parse_request({**ASKED, "quantize": False, "sample_prompts": ["x"], "batch_size": 4})
    assert [change["field"] for change in advice(most, "sampling")] == [
        "sample_prompts", "batch_size", "resolution", "quantize", "low_vram", "rank",
    ]  # fmt: skip


def test_the_error_that_counts_is_the_last_one() -> None:
    skipped = ["# OOM during training step, skipping batch 1/3 #", "Traceback (most recent call last):"]
    error = last_error([*skipped, '  File "run.py", line 1', "ValueError: wrong shape"])
    assert (error.kind, error.words, error.is_memory) == ("ValueError", "wrong shape", False)
    error = last_error([*skipped, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"])
    assert (error.kind, error.is_memory) == ("OutOfMemoryError", True)
    error = last_error(["RuntimeError: OOM during training step 3 times in a row, aborting training"])
    assert error.is_memory
    assert last_error(["Error running job: CUDA out of memory."]).is_memory
    assert not last_error(skipped).is_memory
    assert last_error([]).words == ""


def test_a_safetensors_file_is_whole_or_not(tmp_path: Path) -> None:
    header = json.dumps({
        "__metadata__": {"training_info": '{"step": 250}', "n": 1},
        "a": {"dtype": "F16", "shape": [8], "data_offsets": [0, 16]},
    }).encode()  # fmt: skip
    whole = len(header).to_bytes(8, "little") + header + bytes(16)
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole)
    found = read_header(path)
    assert found is not None
    assert (found.step, found.tensors, found.bytes) == (250, 1, len(whole))
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read_header(path) is None
    path.write_bytes(whole + b"x")
    assert read_header(path) is None


@QUICK
@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_file_is_too_strange_to_be_looked_at(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "strange.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + data)
    read_header(path)


def test_settings_name_what_is_wrong(tmp_path: Path) -> None:
    found = Settings.from_env({"RYLA_VOLUME": str(tmp_path), "RYLA_TRAINER_TIME_LIMIT_S": "90"})
    assert (found.volume, found.time_limit_s, found.gpu_gb) == (tmp_path, 90, None)
    assert Settings.from_env({"RYLA_VOLUME": "/nowhere"}).volume is None
    with pytest.raises(ValueError, match="RYLA_TRAINER_QUIET_S"):
        Settings.from_env({"RYLA_TRAINER_QUIET_S": "soon"})


def test_the_environment_of_the_trainer(tmp_path: Path) -> None:
    env = toolkit_env({"RUNPOD_AI_API_KEY": "k", "BUCKET_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "t"}, volume=tmp_path)
    assert env["HF_TOKEN"] == "t"
    assert env["HF_HOME"] == str(tmp_path / "huggingface")
    assert env["PYTHONUNBUFFERED"] == "1"
    assert not {"RUNPOD_AI_API_KEY", "BUCKET_SECRET_ACCESS_KEY"} & env.keys()
