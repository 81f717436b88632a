"""What the admin's pages and permissions hang on. There is no table: jobs are in Redis."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["Job"]


class _NoRows(models.Manager[Any]):
    """Finds nothing, and asks no database: `dumpdata` and the like go through all models."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class Job(models.Model):
    """A job, for the admin: the permissions `ryla.view_job`, `ryla.cancel_job` and `ryla.retry_job`."""

    id: models.CharField[str, str] = models.CharField(max_length=255, primary_key=True)

    objects = _NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view",)
        permissions = (("cancel_job", "Can cancel job"), ("retry_job", "Can retry job"))
        verbose_name = _("job")
        verbose_name_plural = _("jobs")

    def __str__(self) -> str:
        return str(self.id)
