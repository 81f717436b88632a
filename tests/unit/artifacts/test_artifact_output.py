from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from artifact_samples import FILES, b64, picture
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.artifacts import Downloaded, LocalStore, OutputLimits, collect, decode_output
from ryla_tasks.errors import Category, JobError, JobFailed, OutputInvalid, OutputMissing

PNG = picture("PNG")
JPEG = picture("JPEG")
SECRET = "https://bucket.example.com/job/a1b2.png?X-Amz-Signature=topsecret"


def image(name: str, data: bytes) -> dict[str, str]:
    return {"filename": name, "type": "base64", "data": b64(data)}


def no_fetch(url: str) -> Downloaded:
    raise AssertionError("nothing to fetch")


def test_worker_comfyui_images_in_their_order() -> None:
    output = {"images": [image("a_00001_.png", PNG), image("b.jpeg", JPEG)]}
    before = copy.deepcopy(output)
    decoded = decode_output(output, expected=2)
    assert [(file.filename, file.content_type, file.data) for file in decoded.files] == [
        ("a_00001_.png", "image/png", PNG),
        ("b.jpeg", "image/jpeg", JPEG),
    ]
    assert decoded.data is None
    assert decoded.warnings == ()
    assert output == before


@pytest.mark.parametrize("extension", FILES)
def test_every_known_type_under_a_wrong_name_gets_its_own(extension: str) -> None:
    content_type, data = FILES[extension]
    wrong = "png" if extension != "png" else "webp"
    (file,) = decode_output({"images": [image(f"out.{wrong}", data)]}).files
    assert (file.filename, file.content_type) == (f"out.{extension}", content_type)


@pytest.mark.parametrize("expected", [1, None])
@pytest.mark.parametrize(
    "output",
    [
        {"message": b64(PNG), "status": "success"},
        {"message": b64(PNG), "status": "success", "refresh_worker": False},
        {"message": "data:image/png;base64," + b64(PNG), "status": "success"},
        {"images": [b64(PNG)]},
        {"images": ["data:image/png;base64," + b64(PNG)]},
        {"images": [{"filename": "image.png", "type": "base64", "data": "data:image/png;base64," + b64(PNG)}]},
        {"image": b64(PNG)},
        {"images": [{"image": b64(PNG)}]},
        {"filename": "image.png", "type": "base64", "data": b64(PNG)},
        [b64(PNG)],
        [{"images": [b64(PNG)]}],
        b64(PNG),
        "data:image/png;base64," + b64(PNG),
        {"images": ["\n".join(b64(PNG)[i : i + 76] for i in range(0, len(b64(PNG)), 76))]},
    ],
)
def test_other_shapes_with_one_image(output: Any, expected: int | None) -> None:
    decoded = decode_output(output, expected=expected)
    assert [(file.data, file.content_type) for file in decoded.files] == [(PNG, "image/png")]
    assert decoded.files[0].filename.endswith(".png")
    assert decoded.data is None


@pytest.mark.parametrize(
    "output",
    [
        {"answer": 42, "nested": {"images": [1]}},
        {"message": "done", "status": "success"},
        {"images": [{"label": "cat", "score": 0.5}], "status": "ok"},
        {"files": ["a/b.txt"]},
        [1, 2, {"a": None}],
        "a sentence",
        "https://example.com/page",
        0,
        False,
        {"error": None, "value": 1},
        {"errors": ["mine"], "value": 1},
    ],
)
def test_other_json_is_kept_as_it_is(output: Any) -> None:
    decoded = decode_output(output, expected=None)
    assert decoded.files == ()
    assert decoded.data == output
    assert decoded.warnings == ()


def test_json_beside_files_is_kept_without_them() -> None:
    output = {
        "finalLoss": 0.1,
        "artifacts": [{"url": SECRET, "fileName": "my.safetensors", "kind": "lora"}],
        "video": b64(FILES["mp4"][1]),
    }
    decoded = decode_output(output)
    assert decoded.data == {"finalLoss": 0.1, "artifacts": [{"kind": "lora"}]}
    assert [file.filename for file in decoded.files] == ["my.safetensors", "file.mp4"]
    assert [file.url for file in decoded.files] == [SECRET, None]


def test_a_lora_is_a_file_where_it_has_a_url() -> None:
    stored = {"filename": "c.safetensors", "type": "s3_url", "data": SECRET, "sha256": "ab", "bytes": 5, "kind": "lora"}
    decoded = decode_output({"lora": stored, "files": [], "steps": 9})
    assert [(file.filename, file.url) for file in decoded.files] == [("c.safetensors", SECRET)]
    assert decoded.data["lora"] == {"sha256": "ab", "bytes": 5}
    on_volume = {**stored, "type": "volume", "data": "/runpod-volume/models/loras/c.safetensors"}
    decoded = decode_output({"lora": on_volume, "steps": 9})
    assert decoded.files == ()
    assert decoded.data["lora"] == on_volume


@pytest.mark.parametrize("output", [None, {}, [], "", {"images": []}, {"images": [], "errors": []}])
@pytest.mark.parametrize("expected", [None, 1])
def test_completed_without_output_is_missing(output: Any, expected: int | None) -> None:
    with pytest.raises(OutputMissing) as caught:
        decode_output(output, expected=expected)
    assert caught.value.info["code"] == "output_missing"


def test_success_no_images_is_missing() -> None:
    with pytest.raises(OutputMissing) as caught:
        decode_output({"status": "success_no_images", "images": []}, expected=None)
    assert caught.value.details["status"] == "success_no_images"


def test_json_where_images_were_asked_for_is_missing() -> None:
    with pytest.raises(OutputMissing):
        decode_output({"answer": 42}, expected=1)


def test_errors_with_fewer_images_than_asked_list_the_errors() -> None:
    output = {"images": [image("a.png", PNG)], "errors": ["node 9: out of memory", {"node": 3}]}
    with pytest.raises(OutputInvalid) as caught:
        decode_output(output, expected=2)
    assert caught.value.details["errors"] == ["node 9: out of memory", '{"node": 3}']
    with pytest.raises(OutputInvalid):
        decode_output({"images": [], "errors": ["x"]}, expected=None)


@pytest.mark.parametrize("expected", [1, None])
def test_errors_with_all_images_present_are_warnings(expected: int | None) -> None:
    decoded = decode_output({"images": [image("a.png", PNG)], "errors": [f"no upload to {SECRET}"]}, expected=expected)
    assert decoded.warnings == ("no upload to https://bucket.example.com/...",)
    assert len(decoded.files) == 1


def test_fewer_images_without_any_error_are_not_accepted_in_silence() -> None:
    with pytest.raises(OutputInvalid, match="1 of 2"):
        decode_output({"images": [image("a.png", PNG)]}, expected=2)


@pytest.mark.parametrize(
    ("output", "code", "category"),
    [
        ({"error": "Job processing failed", "details": ["node 3: no", SECRET]}, "worker_error", Category.PERMANENT),
        ({"error": {"type": "X"}, "images": [image("a.png", PNG)]}, "worker_error", Category.PERMANENT),
        ({"status": "error", "message": "No space left on device"}, "disk_full", Category.RECOVERABLE),
    ],
)
def test_an_error_inside_the_output_fails_the_job(output: Any, code: str, category: Category) -> None:
    with pytest.raises(JobFailed) as caught:
        decode_output(output, expected=1)
    assert type(caught.value) is JobFailed
    assert caught.value.details["error"]
    assert (caught.value.info["code"], caught.value.category) == (code, category)
    assert "topsecret" not in str(caught.value.args)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b64(PNG)[:-1], "base64"),
        (b64(PNG)[:50] + "*" + b64(PNG)[51:], "base64"),
        (b64(PNG).replace("/", "_") + "_", "base64"),
        ("", "empty"),
        ("\u00e9", "base64"),
        ("data:image/png," + b64(PNG), "not base64"),
        (b64(PNG[:-20]), "cut short"),
        (b64(JPEG[:-20]), "cut short"),
        (b64(b"<html>no such key</html>"), "not PNG"),
        (b64(b"\x89PNG"), "not PNG"),
    ],
)
def test_a_bad_image_is_named_with_its_reason(content: str, why: str) -> None:
    output = {"images": [image("a.png", PNG), {"filename": "bad.png", "type": "base64", "data": content}]}
    with pytest.raises(OutputInvalid) as caught:
        decode_output(output, expected=2)
    assert "image 2 of 2 (bad.png)" in caught.value.details
    assert why in caught.value.details
    assert str(caught.value).startswith("Image 2 of 2 (bad.png) ")
    assert caught.value.info["category"] == "permanent"


@pytest.mark.parametrize("bad", [None, 5, {"filename": "x.png"}, {"type": "s3_url", "data": "s3://b/k"}, "not base64"])
def test_whatever_stands_where_an_image_should_is_refused_by_number(bad: Any) -> None:
    with pytest.raises(OutputInvalid) as caught:
        decode_output({"images": [b64(PNG), bad]}, expected=2)
    assert "image 2 of 2" in caught.value.details


def test_limits() -> None:
    limits = OutputLimits(max_file_bytes=len(PNG) - 1, max_files=1)
    for encoded in (b64(PNG), b64(PNG * 3)):
        with pytest.raises(OutputInvalid, match="too large"):
            decode_output({"images": [encoded]}, expected=1, limits=limits)
    with pytest.raises(OutputInvalid, match="too many"):
        decode_output({"images": [b64(JPEG), b64(JPEG)]}, expected=2, limits=limits)
    assert decode_output({"images": [b64(PNG)]}, limits=OutputLimits(max_file_bytes=len(PNG))).files


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\temp\\a.PNG", "a.png"),
        ("", "image.png"),
        ("...", "file.png"),
        ("a\n\x00b.png", "a_b.png"),
        ("x" * 400 + ".png", "x" * 120 + ".png"),
    ],
)
def test_names_are_made_safe(name: str, kept: str) -> None:
    assert decode_output({"images": [image(name, PNG)]}, expected=1).files[0].filename == kept


def test_collect_stores_under_deterministic_keys_and_repeats_itself(tmp_path: Path) -> None:
    output = {"images": [image("a.png", PNG), {"filename": "b.png", "type": "s3_url", "data": SECRET}]}
    store = LocalStore(tmp_path)
    asked = []

    def fetch(url: str) -> Downloaded:
        asked.append(url)
        return Downloaded(JPEG, "image/png")

    first = collect(decode_output(output, expected=2), store, "jobs/j1", fetch)
    second = collect(decode_output(output, expected=2), store, "jobs/j1", fetch)
    assert first == second
    assert asked == [SECRET, SECRET]
    assert [artifact.key for artifact in first] == [
        f"jobs/j1/00-{first[0].sha256[:16]}.png",
        f"jobs/j1/01-{first[1].sha256[:16]}.jpg",
    ]
    assert [artifact.filename for artifact in first] == ["a.png", "b.jpg"]
    assert [store.get(artifact.key) for artifact in first] == [PNG, JPEG]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(
    "got",
    [
        Downloaded(PNG[:-3], "image/png"),
        Downloaded(b"<html>", "text/html"),
        Downloaded(b"junk", "image/png"),
        Downloaded(b"", ""),
    ],
)
def test_a_downloaded_file_is_checked_too_and_its_url_stays_secret(tmp_path: Path, got: Downloaded) -> None:
    decoded = decode_output({"message": SECRET, "status": "success"}, expected=1)
    assert "topsecret" not in repr(decoded)
    with pytest.raises(OutputInvalid) as caught:
        collect(decoded, LocalStore(tmp_path), "p", lambda url: got)
    assert "topsecret" not in str(caught.value.args)
    assert "a1b2.png" in caught.value.details
    assert list(tmp_path.rglob("*")) == []


def test_collect_of_json_alone_stores_nothing(tmp_path: Path) -> None:
    assert collect(decode_output({"a": 1}), LocalStore(tmp_path), "p", no_fetch) == []


texts = st.text(max_size=20) | st.sampled_from([b64(PNG), SECRET, "success", "error", "base64", "s3_url"])
keys = st.sampled_from(["images", "message", "status", "errors", "error", "type", "data", "filename", "files", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=15,
)


@given(json_values, st.none() | st.integers(1, 3))
def test_any_json_is_decoded_or_refused_by_a_typed_error_without_secrets(output: Any, expected: int | None) -> None:
    before = copy.deepcopy(output)
    try:
        decoded = decode_output(output, expected=expected)
    except JobError as error:
        assert set(error.info) == {"code", "category", "details"}  # noqa: PT017 - both outcomes are right
        assert "topsecret" not in str(error.args)  # noqa: PT017
    else:
        assert expected is None or len(decoded.files) >= expected
        assert all((file.data is None) != (file.url is None) for file in decoded.files)
        assert "topsecret" not in repr(decoded)
    assert output == before


def test_what_the_comfyui_worker_of_this_repository_returns() -> None:
    output = {
        "images": [{"filename": "a.png", "type": "base64", "data": b64(PNG)}],
        "files": [
            {"filename": "v.mp4", "type": "s3_url", "data": "https://s3.example.com/v.mp4?sig=1", "kind": "video"},
            {"filename": "t.txt", "type": "base64", "data": b64(b"words"), "kind": "text"},
        ],
        "warnings": ["The input was not checked for faces."],
    }
    decoded = decode_output(output, expected=1)
    assert [file.filename for file in decoded.files] == ["a.png", "v.mp4", "t.txt"]
    assert (decoded.data, decoded.warnings) == (None, ("The input was not checked for faces.",))
