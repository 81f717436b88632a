"""The pages. Forms are sent as forms; a script keeps what is under way up to date, and cancels."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import UserCreationForm
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from ryla_tasks import Job
from ryla_tasks.contrib.django import file_answer
from ryla_tasks.contrib.web import file_of
from ryla_tasks.errors import InvalidJob, JobNotFound, StoreError
from studio.forms import CharacterForm, PictureForm, SwapForm, TrainingForm, WorkForm
from studio.jobs import begin, try_again
from studio.models import Character, Work

__all__ = ["card", "cast", "character", "file", "retry", "sign_up"]

_FORMS: tuple[type[WorkForm], ...] = (PictureForm, SwapForm, TrainingForm)
_AWAY = "The studio's workers cannot be reached right now. Try again in a moment."


def cast(request: HttpRequest) -> HttpResponse:
    """All characters, and a form for another."""
    form = CharacterForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.instance.owner = request.user
        return redirect("character", form.save().pk)
    return render(request, "studio/cast.html", {"form": form, "cost": _cost(request), **_mine(request)})


def character(request: HttpRequest, pk: int) -> HttpResponse:
    """One character: what was made, and forms for more."""
    who = get_object_or_404(Character, pk=pk, owner=request.user)
    asked = request.POST.get("kind") if request.method == "POST" else None
    forms = {form.kind: form(who, *((request.POST, request.FILES) if form.kind == asked else ())) for form in _FORMS}
    if asked in forms and forms[asked].is_valid():
        try:
            title, wish = forms[asked].wish()
            begin(who, asked, title, wish)
            return redirect("character", pk)
        except InvalidJob as error:
            forms[asked].add_error(None, str(error))
        except StoreError:
            forms[asked].add_error(None, _AWAY)
    told = {"who": who, "works": who.works.all(), "forms": forms, "asked": asked or "picture", "cost": _cost(request)}
    return render(request, "studio/character.html", told, status=422 if asked else 200)


@require_safe
def card(request: HttpRequest, pk: int) -> HttpResponse:
    """One thing that was made, as it is now: for the script, when a job has ended."""
    work = get_object_or_404(Work, pk=pk, character__owner=request.user)
    if not work.status:
        try:
            job = Job.get(work.job_id)
            if job.status.ended:
                work.take(job)  # the worker is about to do the same
        except (JobNotFound, StoreError):
            pass  # it is shown as it was
    return render(request, "studio/card.html", {"work": work, "cost": _cost(request)})


@require_safe
def file(request: HttpRequest, pk: int, number: int) -> HttpResponseBase:
    """One of its files. Ryla's own address of it is gone when the job's record is, after a week."""
    work = get_object_or_404(Work, pk=pk, character__owner=request.user)
    if number >= len(work.artifacts):
        raise Http404
    return file_answer(request, file_of(work.artifacts[number]))


@require_POST
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    """Make again what has failed."""
    work = get_object_or_404(Work, pk=pk, character__owner=request.user)
    try:
        try_again(work)
    except (InvalidJob, JobNotFound) as error:
        work.problem = str(error)
        work.save()
    except StoreError:
        pass
    return redirect("character", work.character_id)


@login_not_required
def sign_up(request: HttpRequest) -> HttpResponse:
    """A new user."""
    form = UserCreationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save())
        return redirect("cast")
    return render(request, "registration/login.html", {"form": form, "is_new": True})


def _mine(request: HttpRequest) -> dict[str, object]:
    return {"characters": Character.objects.filter(owner=request.user).prefetch_related("works")}


def _cost(request: HttpRequest) -> float:
    """What all that somebody has had made has cost, in US dollars."""
    works = Work.objects.filter(character__owner=request.user)
    return works.aggregate(sum=Sum("cost_usd"))["sum"] or 0.0
