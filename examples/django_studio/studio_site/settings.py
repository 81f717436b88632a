"""Settings for development. Of the environment it reads STUDIO_DATABASE, STUDIO_URL and STUDIO_SECRET_KEY, and, as any
program with ryla_tasks, RYLA_... and RUNPOD_API_KEY."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = os.environ.get("STUDIO_SECRET_KEY", "a key for development, which is no secret")
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "ryla_tasks.contrib.django",
    "studio",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "studio_site.urls"
WSGI_APPLICATION = "studio_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("STUDIO_DATABASE", BASE_DIR / "studio.sqlite3"),
        "ATOMIC_REQUESTS": True,
        # A web process and a worker write to one file: each waits for the other instead of failing.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "cast"
LOGOUT_REDIRECT_URL = "login"

# `manage.py ryla dev` writes down here where its Redis and its simulated RunPod are.
os.environ.setdefault("RYLA_ENV_FILE", str(BASE_DIR / "ryla-dev" / "env"))

RYLA = {
    # GPU workers fetch pictures for a training from here, by signed addresses. In production: a public https address.
    "ARTIFACTS_URL": os.environ.get("STUDIO_URL", "http://127.0.0.1:8000") + "/ryla/shared",
    "WEBHOOK_SECRET": hashlib.sha256(b"ryla " + SECRET_KEY.encode()).hexdigest(),
}
RYLA_WEB = {
    "TASKS": [],  # jobs come from the studio's own forms alone; pages only watch and cancel them
    "OUTBOX": "studio.jobs.awaited",
}
