"""Image parameters: the forms of a value, what is sent, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ryla_tasks.errors import InvalidJob
from ryla_tasks.simulator.programs.painter import paint
from ryla_tasks.simulator.programs.workflow import Picture
from ryla_tasks.workflows import Manifest, Template, get_template
from ryla_tasks.workflows.images import BadImage, input_image

PNG = paint(Picture("a face", "", 1, 16, 16, 1, 0, "face.png", "3"))
BASE64 = base64.b64encode(PNG).decode()
URL = "https://store.example/a/b.webp?signature=secret"

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "2": {"class_type": "LoadImageMask", "inputs": {"image": "b.png", "channel": "red"}},
    "3": {"class_type": "Mix", "inputs": {"image": ["1", 0], "mask": ["2", 0]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
}


def template(**changes: Any) -> Template:
    described = {
        "format": 1,
        "name": "sample",
        "title": "Sample",
        "description": "For tests.",
        "parameters": [
            {
                "name": "face",
                "type": "image",
                "description": "A face.",
                "required": True,
                "needs_face": True,
                "targets": [{"node": "1", "input": "image"}],
            },
            {
                "name": "mask",
                "type": "image",
                "description": "A mask.",
                "default": "",
                "targets": [{"node": "2", "input": "image"}],
            },
        ],
        "nodes": ["LoadImage", "LoadImageMask", "Mix", "SaveImage"],
        "models": [],
        "output_nodes": ["4"],
        "expected_seconds": 5,
        "optional": [{"parameter": "mask", "bypass": {"2": [["1", 1]]}}],
        **changes,
    }
    return Template(Manifest.model_validate(described), WORKFLOW)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({"url": URL}, {"url": URL}),
        (URL, {"url": URL}),
        ({"image": BASE64}, {"image": BASE64}),
        ({"image": f"data:image/png;base64,{BASE64}"}, {"image": f"data:image/png;base64,{BASE64}"}),
        (f"data:image/png;base64,{BASE64}", {"image": f"data:image/png;base64,{BASE64}"}),
        ("faces/me.png", None),
    ],
)
def test_each_form_of_an_image(value: Any, sent: dict[str, str] | None) -> None:
    rendered = template().render(face=value, mask={"image": BASE64})
    face, mask = rendered.images
    assert rendered.workflow["1"]["inputs"]["image"] == face.name
    assert rendered.workflow["2"]["inputs"]["image"] == mask.name
    assert face.to_json() == (None if sent is None else {"name": face.name, **sent})
    assert face.name != mask.name
    assert rendered.faces == (face.name,)
    assert rendered.params["face"] == value
    assert "secret" not in repr(rendered)


def test_names_say_what_is_in_them_and_stay_the_same() -> None:
    first = template().render(face={"url": URL}).images[0].name
    assert first.startswith("face-")
    assert first.endswith(".webp")
    assert template().render(face=URL).images[0].name == first
    assert template().render(face={"url": f"{URL}2"}).images[0].name != first
    assert template().render(face={"url": "https://store.example/a"}).images[0].name.endswith(".png")


def test_an_image_that_is_left_out_takes_its_nodes_along() -> None:
    for rendered in (template().render(face="a.png"), template().render(face="a.png", mask="")):
        assert "2" not in rendered.workflow
        assert rendered.workflow["3"]["inputs"]["mask"] == ["1", 1]
        assert [image.name for image in rendered.images] == ["a.png"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "face is required"),
        ("", "a file name has 1 to 255"),
        ("../secret.png", "stays within"),
        ("/etc/passwd", "stays within"),
        ("a\\b.png", "file name"),
        (7, "not int"),
        ([], "not list"),
        ({}, "an image is"),
        ({"url": URL, "image": BASE64}, "an image is"),
        ({"key": "a/b.png", "content_type": "image/png"}, "an image is"),
        ({"url": 5}, "its url must be text"),
        ({"url": "ftp://example.org/a.png"}, "one of https"),
        ({"url": "https://"}, "with a host"),
        ({"url": "https://user:secret@example.org/a.png"}, "without a user name"),
        ({"url": "https://example.org/a b.png"}, "without blanks"),
        ({"url": "https://example.org/" + "a" * 5000}, "4096"),
        ({"image": ""}, "base64 text or a data URI"),
        ({"image": "secret!"}, "not base64"),
        ({"image": "data:text/plain;base64,AAAA"}, "data:image/"),
        ({"image": base64.b64encode(b"no picture at all").decode()}, "no PNG, JPEG, WebP or GIF"),
        ({"image": base64.b64encode(PNG[:60]).decode()}, "cut short"),
        ("http://[::1", "one of https"),
        ("\ud800.png", "Unicode"),
    ],
)
def test_what_is_no_image_is_refused_where_it_is_given(value: Any, says: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        template().render_with({"face": value})
    assert caught.value.field == "face"
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.recursive(st.none() | st.text() | st.binary() | st.integers(), lambda one: st.dictionaries(st.text(), one)))
def test_anything_else_is_a_bad_image_or_a_name(value: Any) -> None:
    try:
        image = input_image(value, "face")
    except BadImage:
        return
    assert image.name
    assert isinstance(value, str)


def test_an_optional_image_must_have_a_part_that_goes_with_it() -> None:
    """Without one the LoadImage node would be sent without a file."""
    with pytest.raises(ValidationError, match=r"'mask' may be left out.*optional"):
        template(optional=[])


def test_built_in_templates_say_in_which_images_a_face_must_be() -> None:
    swapped = get_template("face-swap-reactor").render(image=URL, face={"image": BASE64})
    assert swapped.faces == tuple(image.name for image in swapped.images)
    posed = get_template("character-sheet-pose").render(image="me.png", pose="p.png")
    assert posed.faces == ("me.png",)
