"""What may be asked for, and the job that it is."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from ryla_tasks.artifacts import Artifact
from ryla_tasks.contrib.django import Rules, Visitor, Wish
from ryla_tasks.contrib.web import store_upload
from studio.models import Character, Work

__all__ = ["CharacterForm", "PictureForm", "SwapForm", "TrainingForm", "WorkForm"]

_TEMPLATES = {"z-image-turbo": "Quick: Z-Image Turbo", "flux-dev": "Detailed: FLUX.1 dev"}
_SHAPES = {"640x832": "Portrait", "768x768": "Square", "832x640": "Landscape"}


class CharacterForm(forms.ModelForm):
    """A new character."""

    class Meta:
        model = Character
        fields = ("name", "look")
        widgets: ClassVar = {"look": forms.Textarea(attrs={"rows": 3})}


class _ManyFilesInput(forms.FileInput):
    allow_multiple_selected = True


class _ManyFiles(forms.FileField):
    """Several files in one field."""

    widget = _ManyFilesInput(attrs={"accept": "image/*"})

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        """Each of them."""
        return [super(_ManyFiles, self).clean(one, initial) for one in data or [None]]


class WorkForm(forms.Form):
    """What is asked for of one character. Each kind says what job it is."""

    kind = ""
    prefix: str

    def __init__(self, character: Character, data: Any = None, files: Any = None) -> None:
        self.prefix = self.kind
        self.character = character
        super().__init__(data, files, label_suffix="")

    def wish(self) -> tuple[str, Wish]:
        """Its title, and its job. Raises `InvalidJob`."""
        raise NotImplementedError

    @property
    def user_id(self) -> str:
        """Whose the job is: only they may see it."""
        return str(self.character.owner_id)

    def upload(self, file: Any) -> dict[str, str]:
        """Keep a picture as an argument of a job."""
        return _given(store_upload(Visitor(self.user_id), file.read(Rules().most_upload + 1), Rules()))


class PictureForm(WorkForm):
    """One picture, or several to choose from."""

    kind = Work.Kind.PICTURE

    scene = forms.CharField(max_length=400, widget=forms.Textarea(attrs={"rows": 3}))
    template = forms.ChoiceField(label="Model", choices=_TEMPLATES.items())
    shape = forms.ChoiceField(choices=_SHAPES.items())
    count = forms.IntegerField(label="How many", min_value=1, max_value=4, initial=1)
    trained = forms.BooleanField(label="Use the trained likeness", required=False, initial=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.character.training is None:
            del self.fields["trained"]

    def wish(self) -> tuple[str, Wish]:
        given = self.cleaned_data
        width, height = map(int, given["shape"].split("x"))
        asked = {
            "template": given["template"],
            "prompt": f"{given['scene']}. {self.character.name} is {self.character.look}",
            "width": width,
            "height": height,
            "user_id": self.user_id,
        }
        training = self.character.training
        use = training is not None and given.get("trained") and given["template"] == "z-image-turbo"
        previous = (training.result,) if use and training is not None else ()
        if given["count"] == 1:
            return given["scene"], Wish("ryla.generate_image", previous, asked)
        return given["scene"], Wish("ryla.generate_variations", previous, {**asked, "n": given["count"]})


class SwapForm(WorkForm):
    """Another face in one of the pictures."""

    kind = Work.Kind.SWAP

    picture_of = forms.ChoiceField(label="Picture")
    face = forms.FileField(label="A photograph of the face", widget=forms.FileInput(attrs={"accept": "image/*"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pictures = {
            f"{work.pk}/{n}": (work.title, _given(artifact))
            for work in self.character.shots
            for n, artifact in enumerate(work.artifacts)
        }
        self.fields["picture_of"].choices = [(name, title) for name, (title, _) in self.pictures.items()]

    def wish(self) -> tuple[str, Wish]:
        given = self.cleaned_data
        title, picture = self.pictures[given["picture_of"]]
        asked = {"image": picture, "face": self.upload(given["face"]), "user_id": self.user_id}
        return f"A new face in: {title}", Wish("ryla.swap_face", (), asked)


class TrainingForm(WorkForm):
    """A LoRA, so that the character looks the same in every picture."""

    kind = Work.Kind.TRAINING

    trigger_word = forms.SlugField(max_length=40, help_text="A word that nothing else is called by.")
    photographs = _ManyFiles(required=False)
    own = forms.BooleanField(label="Use the pictures that are here", required=False, initial=True)

    def wish(self) -> tuple[str, Wish]:
        given = self.cleaned_data
        images = [self.upload(file) for file in given["photographs"] if file]
        if given["own"]:
            images += [_given(artifact) for work in self.character.shots[:30] for artifact in work.artifacts]
        asked = {
            "trigger_word": given["trigger_word"], "images": images, "base_model": "z-image", "steps": 1500,
            "user_id": self.user_id,
        }  # fmt: skip
        return f"The likeness of {self.character.name}, from {len(images)} pictures", Wish("ryla.train_lora", (), asked)


def _given(artifact: Artifact) -> dict[str, str]:
    """A file of ours as an argument of a job."""
    return {"key": artifact.key, "content_type": artifact.content_type}
