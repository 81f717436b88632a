"""Artifacts in a folder, for GPU workers to fetch: through a web app that serves them by signed, expiring URLs."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from urllib.parse import quote

from pydantic import SecretStr

from ryla_tasks.artifacts.local import LocalStore

__all__ = ["SharedStore", "is_signed"]


class SharedStore(LocalStore):
    """A folder whose files can be read at `url`, the address of a web app's `shared` route."""

    def __init__(self, root: str | os.PathLike[str], url: str, secret: SecretStr) -> None:
        super().__init__(root)
        self._url = url
        self._secret = secret

    def url(self, key: str, expires_s: int = 3600) -> str:
        self._path(key)  # a key that could not be one has no URL
        expires = int(time.time()) + expires_s
        return f"{self._url}/{quote(key)}?expires={expires}&signature={_signature(self._secret, key, expires)}"


def is_signed(secret: SecretStr, key: str, expires: str, signature: str) -> bool:
    """Whether a URL with these parts was made by us, and still works. Compares in constant time."""
    if not expires.isascii() or not expires.isdigit() or len(expires) > 12 or not signature.isascii():
        return False
    right = hmac.compare_digest(_signature(secret, key, int(expires)), signature)
    return right and int(expires) > time.time()


def _signature(secret: SecretStr, key: str, expires: int) -> str:
    text = f"ryla-shared\n{key}\n{expires}".encode()
    return hmac.new(secret.get_secret_value().encode(), text, hashlib.sha256).hexdigest()
