"""Images and captions, as they come from the outside: by URL, in zips, and with bad intentions."""

from __future__ import annotations

import asyncio
import io
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from trainer_bench import Bench, picture, zipped

from workers.common import fetching
from workers.common.fetching import FetchFailed
from workers.lora_trainer.archive import Limits, unpack
from workers.lora_trainer.dataset import Dataset, prepare
from workers.lora_trainer.errors import DatasetInvalid
from workers.lora_trainer.request import parse_request

LIMITS = Limits(files=20, file_bytes=100_000, total_bytes=300_000)


def prepared(bench: Bench, folder: Path, asked: dict[str, Any]) -> Dataset:
    request = parse_request({"trigger_word": "ohwx", **asked})
    return asyncio.run(prepare(request, folder, bench.settings, lambda _done, _total: None))


def refused(bench: Bench, folder: Path, asked: dict[str, Any]) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as raised:
        prepared(bench, folder, asked)
    return raised.value


def test_images_by_url_get_names_endings_and_captions(bench: Bench, tmp_path: Path) -> None:
    images = [
        {"url": bench.files.add("/a", picture("JPEG"), "image/jpeg"), "caption": "[trigger] at the\n sea"},
        {"url": bench.files.add("/b.jpg", picture("PNG"), "application/octet-stream"), "caption": "smiling"},
        {"url": bench.files.add("/c", picture("WEBP"), "image/webp")},
    ]
    made = prepared(bench, tmp_path / "d", {"images": images, "resolution": 256})
    assert {file.name: file.read_text() for file in made.folder.glob("*.txt")} == {
        "image_000.txt": "ohwx at the sea\n", "image_001.txt": "ohwx, smiling\n", "image_002.txt": "ohwx\n",
    }  # fmt: skip
    assert sorted(file.name for file in made.folder.iterdir() if file.suffix != ".txt") == [
        "image_000.jpg", "image_001.png", "image_002.webp",
    ]  # fmt: skip
    assert made.warnings[0] == "images.0.url is 96x128, smaller than the resolution of 256"


def test_a_zip_with_captions(bench: Bench, tmp_path: Path) -> None:
    files = {f"set/{number}.JPG": picture("JPEG", color=number) for number in range(3)}
    more = {"set/1.txt": b"[trigger] laughs\n", "__MACOSX/set/._1.JPG": b"x", "set/.DS_Store": b"x", "notes.md": b"x"}
    url = bench.files.add("/set.zip", zipped({**files, **more}), "application/zip")
    made = prepared(bench, tmp_path / "d", {"dataset_url": url})
    assert made.images == 3
    assert sorted(file.read_text() for file in made.folder.glob("*.txt")) == ["ohwx\n", "ohwx\n", "ohwx laughs\n"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GIF89a" + bytes(100), "not a readable"),
        (picture()[:-30], "not a readable"),
        (picture(size=(8, 8)), "only 8x8"),
        (picture()[:16] + struct.pack(">II", 60_000, 60_000) + picture()[24:], "not a readable|too many"),
        (b"", "not a readable"),
    ],
)
def test_a_bad_image_is_named(bench: Bench, tmp_path: Path, data: bytes, reason: str) -> None:
    images = bench.images(3)
    images.insert(1, {"url": bench.files.add("/bad.png", data)})
    error = refused(bench, tmp_path / "d", {"images": images})
    assert error.field == "images.1.url"
    assert any(part in error.reason for part in reason.split("|")), error.reason


@pytest.mark.parametrize(
    ("path", "kind", "reason"), [("/gone.png", "", "not there"), ("/page.png", "text/html", "content type text/html")]
)
def test_what_is_not_an_image_at_its_url(bench: Bench, tmp_path: Path, path: str, kind: str, reason: str) -> None:
    url = bench.files.add(path, b"<html>", kind)
    error = refused(bench, tmp_path / "d", {"images": [*bench.images(3), url]})
    assert error.field == "images.3.url"
    assert reason in error.reason
    assert "secret" not in str(error.answer())


def test_no_private_address_is_asked(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = bench.images(3)
    monkeypatch.delenv("RYLA_WORKER_ALLOW_PRIVATE")
    error = refused(bench, tmp_path / "d", {"images": images})
    assert error.details["cause"] == "fetch_refused"
    for host in ("https://169.254.169.254/latest/meta-data", "https://localhost/x.png", "file:///etc/passwd"):
        assert refused(bench, tmp_path / "e", {"images": [host] * 3}).code == "dataset_invalid"
    assert bench.files.asked == []


def test_a_server_that_is_down_is_not_the_callers_fault(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    images = bench.images(3)
    bench.files.close()
    with pytest.raises(FetchFailed) as raised:
        prepared(bench, tmp_path / "d", {"images": images})
    assert raised.value.code == "fetch_failed"
    assert raised.value.details["field"].startswith("images.")


def test_limits_of_number_and_size(bench: Bench, tmp_path: Path) -> None:
    bench.settings = type(bench.settings)(**{**vars(bench.settings), "most_images": 3, "most_image_bytes": 5_000})
    assert "at most 3" in refused(bench, tmp_path / "a", {"images": bench.images(4)}).reason
    large = bench.files.add("/large.png", picture() + bytes(10_000))
    assert refused(bench, tmp_path / "b", {"images": [*bench.images(2), large]}).field == "images.2.url"
    two = bench.files.add("/two.zip", zipped({"1.png": picture(), "2.png": picture()}), "application/zip")
    assert "at least 3" in refused(bench, tmp_path / "c", {"dataset_url": two}).reason


# Zips alone.


def unpacked(tmp_path: Path, data: bytes) -> list[str]:
    (tmp_path / "a.zip").write_bytes(data)
    return sorted(path.name for path in unpack(tmp_path / "a.zip", tmp_path / "to", LIMITS))


def link() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return made.getvalue()


def lying() -> bytes:
    """A file of 200 kB that claims to have 10 bytes, in both of its headers."""
    data = bytearray(zipped({"a.png": bytes(200_000)}))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(mark) + at
        data[start : start + 4] = (10).to_bytes(4, "little")
    return bytes(data)


def zip64_end() -> bytes:
    data = zipped({"a.png": b"x"})
    end = data.rindex(b"PK\x05\x06")
    return data[:end] + b"PK\x06\x06" + bytes(52) + b"PK\x06\x07" + bytes(16) + data[end:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not a zip", id="no zip"),
        pytest.param(zipped({"a.png": b"x"})[:-4], id="cut off"),
        pytest.param(zipped({"../a.png": b"x"}), id="out of the folder"),
        pytest.param(zipped({"x/../../a.png": b"x"}), id="out of the folder, hidden"),
        pytest.param(zipped({"/etc/a.png": b"x"}), id="absolute"),
        pytest.param(zipped({"..\\a.png": b"x"}), id="out of the folder, for Windows"),
        pytest.param(zipped({"C:\\a.png": b"x"}), id="a drive"),
        pytest.param(zipped({f"{number}.png": b"x" for number in range(30)}), id="too many files"),
        pytest.param(zipped({"a.png": bytes(200_000)}), id="a bomb"),
        pytest.param(zipped({f"{number}.png": bytes(99_000) for number in range(5)}), id="a bomb of several"),
        pytest.param(lying(), id="a bomb that lies"),
        pytest.param(zipped({"a.txt": bytes(50_000)}), id="a caption too long"),
        pytest.param(zipped({"x/a.png": b"x", "y/A.png": b"x"}), id="doubled names"),
        pytest.param(link(), id="a link"),
        pytest.param(zip64_end(), id="zip64"),
    ],
)
def test_zips_that_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetInvalid) as raised:
        unpacked(tmp_path, data)
    assert raised.value.field == "dataset_url"
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "to"]
    assert outside == [tmp_path / "a.zip"]
    assert sum(path.stat().st_size for path in (tmp_path / "to").glob("*")) < LIMITS.total_bytes


def test_a_zip_is_unpacked_flat(tmp_path: Path) -> None:
    assert unpacked(tmp_path, zipped({"x/y/a.PNG": b"x", "b.txt": b"y", "c.exe": b"z"})) == ["a.png", "b.txt"]
