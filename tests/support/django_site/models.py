"""What it keeps of its jobs."""

from __future__ import annotations

from django.db import models


class Picture(models.Model):
    job_id = models.CharField(max_length=64, unique=True)
    owner = models.CharField(max_length=64, blank=True)
    title = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=20, blank=True)
    heard = models.IntegerField(default=0)
    wish = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
