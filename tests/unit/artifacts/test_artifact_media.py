from __future__ import annotations

import io

import pytest
from artifact_samples import FILES, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ryla_tasks.artifacts.media import BadFile, inspect


@pytest.mark.parametrize("extension", FILES)
def test_a_whole_file_is_known_by_its_bytes(extension: str) -> None:
    content_type, data = FILES[extension]
    media = inspect(data)
    assert media is not None
    assert (media.content_type, media.extension) == (content_type, extension)


@pytest.mark.parametrize("extension", FILES)
def test_a_file_cut_anywhere_is_never_taken_for_a_whole_one(extension: str) -> None:
    _, data = FILES[extension]
    for length in range(len(data)):
        try:
            media = inspect(data[:length])
        except BadFile:
            continue
        assert media is None, f"cut at {length} of {len(data)}"
        assert length < 64


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_other_modes_and_animations_pass(kind: str, mode: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour).convert(mode) for colour in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    assert inspect(out.getvalue()) is not None


def test_a_progressive_jpeg_with_metadata_passes() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "made by a test \xff\xd9"
    Image.open(io.BytesIO(picture("JPEG", size=64))).save(out, "JPEG", progressive=True, exif=exif)
    assert inspect(out.getvalue()) is not None
    assert inspect(out.getvalue() + b"\0\0\0") is not None


def test_a_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(picture("PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(BadFile, match="checksum"):
        inspect(bytes(data))


def test_a_png_of_header_and_end_alone_is_no_picture() -> None:
    data = picture("PNG")
    with pytest.raises(BadFile, match="without"):
        inspect(data[:33] + data[-12:])


def test_nothing_is_refused_and_unknown_bytes_are_unknown() -> None:
    with pytest.raises(BadFile, match="empty"):
        inspect(b"")
    assert inspect(b"hello") is None


@given(st.sampled_from(sorted(FILES)), st.binary(max_size=80), st.integers(0, 200))
def test_any_bytes_give_a_type_or_bad_file_and_nothing_else(extension: str, junk: bytes, position: int) -> None:
    data = FILES[extension][1]
    try:
        inspect(data[:position] + junk)
        inspect(data[:position] + junk + data[position:])
    except BadFile as error:
        assert str(error)  # noqa: PT017 - either outcome is right, any other exception is not
