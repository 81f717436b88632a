"""`manage.py createdemo`: the tables, somebody to sign in as, and a character to begin with."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand

from studio.models import Character

__all__ = ["Command"]

_LOOK = "a woman of thirty with short copper hair and freckles, grey eyes, in a dark green raincoat"


class Command(BaseCommand):
    """May be run again."""

    help = "Make the tables, the user demo with the password demo, who is staff, and a character."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Do so."""
        call_command("migrate", verbosity=0)
        demo, is_new = User.objects.get_or_create(username="demo", defaults={"is_staff": True, "is_superuser": True})
        if is_new:
            demo.set_password("demo")
            demo.save()
            Character.objects.create(owner=demo, name="Mara", look=_LOOK)
        self.stdout.write("Sign in as demo, with the password demo.")
