"""Characters, and what was made of them. The rows are the studio's own: they outlive the records of their jobs."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse

from ryla_tasks import Job
from ryla_tasks.artifacts import Artifact

__all__ = ["Character", "Work"]


class Character(models.Model):
    """Somebody who is to look the same in every picture."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="characters")
    name = models.CharField(max_length=60)
    look = models.TextField("How they look", max_length=600)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.name

    @property
    def training(self) -> Work | None:
        """The latest training that has a LoRA."""
        return self.works.filter(kind=Work.Kind.TRAINING, status="completed").first()

    @property
    def shots(self) -> models.QuerySet[Work]:
        """What there are pictures of."""
        return self.works.filter(status="completed").exclude(kind=Work.Kind.TRAINING)

    @property
    def cover(self) -> str:
        """The address of the newest picture, if there is one."""
        work = self.shots.first()
        return work.urls[0] if work else ""


class Work(models.Model):
    """What was asked for, and what came of it. A row is written with its job's id, in the transaction at whose commit
    the job is enqueued; `status` is empty until the worker says how the job has ended."""

    class Kind(models.TextChoices):
        """What a job was for."""

        PICTURE = "picture", "Picture"
        SWAP = "swap", "Face swap"
        TRAINING = "training", "Training"

    character = models.ForeignKey(Character, on_delete=models.CASCADE, related_name="works")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    title = models.CharField(max_length=600)
    job_id = models.CharField(max_length=64, unique=True)
    wish = models.JSONField()
    status = models.CharField(max_length=12, blank=True)
    problem = models.CharField(max_length=600, blank=True)
    result = models.JSONField(default=dict)
    cost_usd = models.FloatField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return self.title

    def take(self, job: Job) -> None:
        """Keep what has become of the job. Called more than once it does the same."""
        self.status, self.problem = str(job.status), "" if job.error is None else str(job.error)[:600]
        self.result, self.cost_usd = job.result() if self.status == "completed" else {}, job.cost
        self.save(update_fields=["status", "problem", "result", "cost_usd"])

    @property
    def artifacts(self) -> list[Artifact]:
        """Its files, in the store of artifacts."""
        return [Artifact.from_json(one) for one in self.result.get("artifacts", ())]

    @property
    def urls(self) -> list[str]:
        """Their addresses."""
        return [reverse("file", args=[self.pk, n]) for n in range(len(self.artifacts))]
