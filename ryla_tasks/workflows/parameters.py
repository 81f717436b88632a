"""The kinds of parameter that a template may have: what each admits, and where its value goes.

A kind is a pydantic model, so a manifest that describes a parameter wrongly is refused when it is loaded; `accept`
judges one value given by a caller. Values keep their JSON type: nothing is converted, so the text "512" is no width.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ryla_tasks.errors import InvalidJob
from ryla_tasks.workflows.images import BadImage, input_image

__all__ = [
    "MAX_DRAWN_SEED",
    "BoolParameter",
    "ChoiceParameter",
    "FloatParameter",
    "ImageParameter",
    "IntParameter",
    "Parameter",
    "SeedParameter",
    "Target",
    "TextParameter",
]

#: ComfyUI takes seeds of 64 bits.
MAX_SEED = 2**64 - 1

#: Seeds drawn here stay within what JavaScript and Lua hold exactly, so that a browser shows the true one.
MAX_DRAWN_SEED = 2**53 - 1

_STEP_TOLERANCE = 1e-6


class _Model(BaseModel):
    # Strict: a manifest that says "true" where true is meant is a mistake, not a spelling.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Target(_Model):
    """An input of a node of the workflow: where a parameter's value goes."""

    node: str
    input: str


class _Parameter(_Model):
    """What all kinds have. A parameter is required or has a default, so that every render says what it used.

    `targets` may be missing where the value goes elsewhere: into a joined text, or it switches an optional part.
    `internal` parameters are set by the library (a file name prefix for each job, say), not offered to users.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
    description: Annotated[str, Field(min_length=1)]
    targets: Annotated[tuple[Target, ...], Field(strict=False)] = ()
    required: bool = False
    internal: bool = False

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        default = self.default_value
        if self.required == (default is not None):
            raise ValueError(f"parameter {self.name!r} must be either required or have a default")
        if default is not None:
            self.accept(default)
        return self

    @property
    def default_value(self) -> Any:
        """The value when none is given; None if there is no such value."""
        return getattr(self, "default", None)

    def accept(self, value: Any) -> Any:
        """Return the value if it is admitted, else raise `InvalidJob` that says what is."""
        if not self._admits(value):
            raise InvalidJob(f"{self.name}: {_shown(value)} is not {self.allowed}", field=self.name)
        return value

    def put(self, value: Any) -> Any:
        """What goes into the workflow for an admitted value."""
        return value

    @property
    def allowed(self) -> str:
        """What is admitted, in words that follow "is not"."""
        raise NotImplementedError

    def _admits(self, value: Any) -> bool:
        raise NotImplementedError


class TextParameter(_Parameter):
    """Text, put in literally: quotes, braces and placeholders mean nothing. All of it must match `pattern`, if any."""

    type: Literal["text"]
    default: str | None = None
    min_length: Annotated[int, Field(ge=0)] = 0
    max_length: Annotated[int, Field(ge=1)] = 100_000
    pattern: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_pattern(cls, values: Any) -> Any:
        try:
            re.compile(values.get("pattern") or "")
        except (AttributeError, TypeError, re.error) as error:
            raise ValueError(f"pattern: {error}") from None
        return values

    @property
    def allowed(self) -> str:
        matching = f" that match {self.pattern}" if self.pattern else ""
        return f"text of {self.min_length} to {self.max_length} characters{matching}"

    def _admits(self, value: Any) -> bool:
        if not isinstance(value, str) or not self.min_length <= len(value) <= self.max_length:
            return False
        return _is_unicode(value) and (self.pattern is None or re.fullmatch(self.pattern, value) is not None)


class IntParameter(_Parameter):
    """A whole number in a range, by steps counted from `min`."""

    type: Literal["int"]
    min: int
    max: int
    step: Annotated[int, Field(ge=1)] = 1
    default: int | None = None

    @property
    def allowed(self) -> str:
        steps = f" in steps of {self.step}" if self.step > 1 else ""
        return f"a whole number from {self.min} to {self.max}{steps}"

    def _admits(self, value: Any) -> bool:
        return _is_int(value) and self.min <= value <= self.max and (value - self.min) % self.step == 0


class FloatParameter(_Parameter):
    """A number in a range, by steps counted from `min` if there is a `step`."""

    type: Literal["float"]
    min: float
    max: float
    step: Annotated[float, Field(gt=0)] | None = None
    default: float | None = None

    @property
    def allowed(self) -> str:
        steps = f" in steps of {self.step:g}" if self.step else ""
        return f"a number from {self.min:g} to {self.max:g}{steps}"

    def _admits(self, value: Any) -> bool:
        if not (_is_int(value) or isinstance(value, float)) or not self.min <= value <= self.max:
            return False
        steps = (value - self.min) / self.step if self.step else 0.0
        return abs(steps - round(steps)) <= _STEP_TOLERANCE


class SeedParameter(_Parameter):
    """A seed. Without one a random one is drawn and reported."""

    type: Literal["seed"]
    max: Annotated[int, Field(ge=0, le=MAX_SEED)] = MAX_SEED

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        if self.required or self.internal:
            raise ValueError(f"parameter {self.name!r}: a seed is neither required nor internal")
        return self

    @property
    def allowed(self) -> str:
        return f"a whole number from 0 to {self.max}; leave it out for a random one"

    def _admits(self, value: Any) -> bool:
        return _is_int(value) and 0 <= value <= self.max


class BoolParameter(_Parameter):
    """True or false."""

    type: Literal["bool"]
    default: bool | None = None

    @property
    def allowed(self) -> str:
        return "true or false"

    def _admits(self, value: Any) -> bool:
        return isinstance(value, bool)


class ChoiceParameter(_Parameter):
    """One of a few values, each text or a number. `values` says what is put in for each choice, if not itself."""

    type: Literal["choice"]
    choices: Annotated[tuple[str | int | float, ...], Field(min_length=1, strict=False)]
    default: str | int | float | None = None
    values: dict[str, str | int | float] | None = None

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.values is not None and self.values.keys() != set(self.choices):
            raise ValueError(f"parameter {self.name!r}: values must have each of its choices, and nothing else")
        return self

    def put(self, value: Any) -> Any:
        return value if self.values is None else self.values[value]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(repr(choice) for choice in self.choices)

    def _admits(self, value: Any) -> bool:
        # By type too, as True == 1 == 1.0.
        return any(type(value) is type(choice) and value == choice for choice in self.choices)


class ImageParameter(_Parameter):
    """An image: `{"url": ...}`, `{"image": <base64 or data URI>}`, or the name of a file that the worker has or gets.

    Its targets get the file name under which the image is sent. With the default "" it may be left out, which takes
    an optional part. `needs_face` asks the worker to fail where it finds no face in it.
    """

    type: Literal["image"]
    default: Literal[""] | None = None
    needs_face: bool = False

    @property
    def allowed(self) -> str:
        return 'an image: {"url": ...}, {"image": <base64>}, an artifact of a result, or a file name'

    def accept(self, value: Any) -> Any:
        """As for the others; an error says what is wrong with the image."""
        if value == "" and self.default == "":
            return value
        try:
            input_image(value, self.name)
        except BadImage as error:
            raise InvalidJob(f"{self.name}: {error}", field=self.name) from None
        return value


Parameter = Annotated[
    TextParameter | IntParameter | FloatParameter | SeedParameter | BoolParameter | ChoiceParameter | ImageParameter,
    Field(discriminator="type"),
]


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair passes for text in Python, and cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value in an error: numbers and such as they are, of text no more than its length, as prompts are private."""
    if value is None or isinstance(value, (bool, float)) or (_is_int(value) and abs(value) < 10**30):
        return repr(value)
    if isinstance(value, str):
        return f"the text of {len(value)} characters given"
    return f"the {type(value).__name__} given"
