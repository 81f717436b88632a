"""Large files, a LoRA say: fetched to disk, checked there, and stored from there, at no cost in memory."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from artifact_samples import picture, safetensors

from ryla_tasks.artifacts import Downloaded, LocalStore, collect, decode_output, fetch_url
from ryla_tasks.artifacts.media import Content, inspect
from ryla_tasks.errors import OutputInvalid

PNG, JPEG = picture("PNG"), picture("JPEG")
MEGABYTE = 1024 * 1024
SIZE = 96 * MEGABYTE
URL = "https://store.example/x.safetensors?sig=topsecret"


def mapped(data: bytes, folder: Path) -> mmap.mmap:
    path = folder / "mapped"
    path.write_bytes(data)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def trained(**lora: Any) -> dict[str, Any]:
    """What the trainer returns."""
    about = {"sha256": "0", "bytes": 1, "kind": "lora"}
    return {
        "lora": {"filename": "abc.safetensors", "type": "s3_url", "data": URL, **about, **lora},
        "files": [
            {"filename": "sample.png", "type": "s3_url", "data": "https://store.example/s.png", "kind": "sample"}
        ],
        "steps": 10,
        "base_model": "flux",
        "trigger_word": "x",
        "warnings": ["One image is small."],
    }


@pytest.mark.parametrize("sample", [PNG, JPEG, JPEG + b"\0" * 100, safetensors()])
def test_a_mapped_file_is_checked_as_one_in_memory(sample: bytes, tmp_path: Path) -> None:
    assert inspect(mapped(sample, tmp_path)) == inspect(sample)


def test_a_mapped_file_is_stored_whole_and_found_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    data = safetensors()
    kept = store.put("a/b.safetensors", mapped(data, tmp_path), "application/x-safetensors")
    assert store.get("a/b.safetensors") == data
    assert kept.bytes == len(data)
    before = (tmp_path / "store/a/b.safetensors").stat().st_mtime_ns
    assert store.put("a/b.safetensors", mapped(data, tmp_path), "application/x-safetensors") == kept
    assert (tmp_path / "store/a/b.safetensors").stat().st_mtime_ns == before
    store.put("a/b.safetensors", data[:-1] + b"x", "application/x-safetensors")
    assert store.get("a/b.safetensors") != data


def test_what_a_training_returns(tmp_path: Path) -> None:
    def fetch(url: str) -> Downloaded:
        data: Content = mapped(safetensors(), tmp_path) if url == URL else PNG
        return Downloaded(data, "application/octet-stream")

    decoded = decode_output(trained())
    lora, sample = collect(decoded, LocalStore(tmp_path / "store"), "lora/1/1", fetch)
    assert (lora.filename, lora.content_type) == ("abc.safetensors", "application/x-safetensors")
    assert sample.content_type == "image/png"
    assert decoded.data["lora"] == {"sha256": "0", "bytes": 1}
    assert (decoded.data["steps"], decoded.data["base_model"]) == (10, "flux")
    assert decoded.warnings == ("One image is small.",)
    assert "topsecret" not in json.dumps(decoded.data)


def test_a_lora_on_the_volume_is_no_file(tmp_path: Path) -> None:
    decoded = decode_output(trained(type="volume", data="/runpod-volume/models/loras/abc.safetensors") | {"files": []})
    assert decoded.files == ()
    assert decoded.data["lora"]["data"] == "/runpod-volume/models/loras/abc.safetensors"


def test_a_lora_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    decoded = decode_output(trained())
    with pytest.raises(OutputInvalid):
        collect(decoded, LocalStore(tmp_path), "k", lambda _url: Downloaded(safetensors()[:-9], ""))


def test_warnings_that_are_no_texts_stay_where_they_are() -> None:
    assert decode_output({"warnings": [1], "x": 2}).data == {"warnings": [1], "x": 2}


class Handler(BaseHTTPRequestHandler):
    """A safetensors file of SIZE bytes, made as it is sent."""

    def do_GET(self) -> None:
        header = json.dumps({"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
        head = len(header).to_bytes(8, "little") + header
        self.send_response(200)
        self.send_header("Content-Length", str(len(head) + SIZE))
        self.end_headers()
        self.wfile.write(head)
        for _ in range(SIZE // MEGABYTE):
            self.wfile.write(b"\1" * MEGABYTE)

    def log_message(self, *_args: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}/x.safetensors"
    http.shutdown()
    http.server_close()
    thread.join(5)


def test_a_large_download_lies_on_disk(server: str) -> None:
    got = fetch_url(server, allow_http_loopback=True)
    assert isinstance(got.data, mmap.mmap)
    assert len(got.data) > SIZE
    with pytest.raises(OutputInvalid, match="downloaded"):
        fetch_url(server, allow_http_loopback=True, max_bytes=SIZE)


_COLLECT = """
import resource, sys
from functools import partial
resource.setrlimit(resource.RLIMIT_DATA, (160 * 2**20, 160 * 2**20))  # a mapped file is not counted there
from ryla_tasks.artifacts import LocalStore, collect, decode_output, fetch_url

output = {"lora": {"filename": "a.safetensors", "type": "s3_url", "data": sys.argv[1]}}
fetch = partial(fetch_url, allow_http_loopback=True)
(kept,) = collect(decode_output(output), LocalStore(sys.argv[2]), "k", fetch)
print(kept.bytes)
"""


def test_collecting_it_takes_little_memory(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _COLLECT, server, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > SIZE
