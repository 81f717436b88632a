"""The Django app: joins the project's Celery app, its signals and its checks to ours."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.logs import Log

__all__ = ["RylaConfig"]

log = Log(__name__)


class RylaConfig(AppConfig):
    """Jobs on GPU workers."""

    name = "ryla_tasks.contrib.django"
    label = "ryla"
    verbose_name = _("GPU jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Put the tasks into the project's Celery app, and listen to the ends of jobs.

        A project that is set up wrongly still starts, so that `manage.py check` can say what is wrong; but it refuses
        every request, and a worker does not start.
        """
        from ryla_tasks.contrib.django import checks, signals
        from ryla_tasks.contrib.django.conf import web_settings

        signals.connect()
        checks.register()
        try:
            web_settings()
        except ConfigurationError as error:
            log.error("web.not_set_up", error=error)
