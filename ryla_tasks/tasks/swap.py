"""`swap_face`: the face of one image, put into another."""

from __future__ import annotations

from typing import Any

from ryla_tasks.errors import InvalidJob
from ryla_tasks.tasks.image import generate_image
from ryla_tasks.tasks.plan import JobPlan

__all__ = ["METHODS", "swap_face"]

#: Ways to do it, and the template of each.
METHODS = {"reactor": "face-swap-reactor", "faceid": "face-swap-faceid"}


def swap_face(
    previous: Any = None,
    *,
    image: Any = None,
    face: Any = None,
    method: str = "reactor",
    prompt: str | None = None,
    seed: int | None = None,
    template: str | None = None,
    **params: Any,
) -> JobPlan:
    """Put the face of `face` into `image`, on the `special` endpoint.

    Each is `{"url": "https://..."}`, `{"image": <base64>}`, or an artifact of a result; one that is not given is taken
    from the `previous` result in a chain, `image` first. `method` is "reactor", which exchanges the face and leaves
    the rest as it is, or "faceid", which paints the image anew after the face and takes a prompt and a seed. `params`
    are further parameters of its template, or of `template`, one of your own.

    Where one of the images shows no face the job fails with the code `no_face`. Raises `InvalidJob` naming the field.
    """
    if template is None and method not in METHODS:
        raise InvalidJob(f"method: {str(method)[:40]!r} is none of {', '.join(METHODS)}", field="method")
    given = {"image": image, "face": face, "prompt": prompt, "seed": seed, **params}
    given = {name: value for name, value in given.items() if value is not None}
    return generate_image(previous, template=template or METHODS[method], **given)
