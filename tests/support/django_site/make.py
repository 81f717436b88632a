"""Makes the database, with users ann and ben, cat who may do everything, and dan, who is staff without a permission."""

from __future__ import annotations

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402

if __name__ == "__main__":
    call_command("migrate", run_syncdb=True, verbosity=0)
    for name in ("ann", "ben", "cat", "dan"):
        User.objects.create_user(
            name, password="secret", is_staff=name in ("cat", "dan"), is_superuser=name == "cat"
        )  # fmt: skip
