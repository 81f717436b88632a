"""Downloading a result file from a URL that a GPU worker gave.

The URL comes from outside, so where it leads is checked: https only, no addresses of this network (nor of this
machine, nor of a cloud's metadata service), every redirect again, and bounds on size and on total time. The check is
repeated on the connected socket before anything is sent, so that a name that resolves differently the second time
gains nothing. Proxies and .netrc of the environment are not used: through a proxy nobody could check addresses.
"""

from __future__ import annotations

import mmap
import socket
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from urllib.parse import SplitResult, urljoin, urlsplit

import requests

from ryla_tasks.artifacts.files import invalid
from ryla_tasks.artifacts.guard import AddressRules, ForbiddenAddress, GuardedAdapter, TimeGuard
from ryla_tasks.artifacts.media import Content
from ryla_tasks.errors import AnswerLost, NotConnected, OutputInvalid, RateLimited, ServerError

__all__ = ["Downloaded", "fetch_url"]

MAX_REDIRECTS = 5

_CHUNK = 64 * 1024

#: What is larger goes to a temporary file (in TMPDIR).
_IN_MEMORY = 16 * 1024 * 1024
_CONNECT_TIMEOUT_S = 10.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A downloaded body and the content type that the server named, in lower case without parameters.

    A large body lies in a temporary file, which goes with the value: memory is no measure of what may be fetched.
    """

    data: Content = field(repr=False)
    content_type: str


def fetch_url(
    url: str,
    *,
    max_bytes: int = 512 * 1024 * 1024,
    timeout_s: float = 120.0,
    allow_private: bool = False,
    allow_http_loopback: bool = False,
    ca_bundle: str | None = None,
) -> Downloaded:
    """Download a file over https, whole, within `max_bytes`, and within `timeout_s` seconds once names are resolved.

    `allow_private` admits private and loopback addresses (a store of one's own); link-local addresses, where
    clouds keep credentials, are never admitted. `allow_http_loopback` admits loopback addresses, and plain http
    there: for development. `ca_bundle` is a file of certificates to trust instead of the usual ones. Raises
    `NotConnected`, `AnswerLost`, `RateLimited` or `ServerError` where another try may work, and `OutputInvalid`
    where it will not. No error shows more of the URL than scheme and host.
    """
    rules = AddressRules(allow_private, allow_http_loopback)
    guard = TimeGuard(timeout_s)
    with guard, requests.Session() as session:
        session.trust_env = False
        session.verify = ca_bundle or True
        for scheme in ("https://", "http://"):
            session.mount(scheme, GuardedAdapter(rules, guard))
        for _ in range(MAX_REDIRECTS + 1):
            parts = _checked_url(url, rules)
            with _get(session, url, parts, guard) as answer:
                if answer.status_code not in _REDIRECTS:
                    _check_status(answer, parts)
                    return _read(answer, parts, max_bytes, guard)
                url = _redirect_target(url, parts, answer)
    raise _refused(parts, f"more than {MAX_REDIRECTS} redirects")


def _get(session: requests.Session, url: str, parts: SplitResult, guard: TimeGuard) -> requests.Response:
    timeouts = (min(_CONNECT_TIMEOUT_S, guard.timeout_s), guard.timeout_s)
    try:
        return session.get(url, headers=_HEADERS, timeout=timeouts, stream=True, allow_redirects=False)
    except ForbiddenAddress:
        raise _refused(parts, "an address that downloads may not come from") from None
    # All "from None": the texts of these exceptions hold the whole URL.
    except (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError) as error:
        raise NotConnected(f"no connection to {_origin(parts)} ({type(error).__name__})") from None
    except requests.exceptions.ReadTimeout:
        raise AnswerLost(f"{_origin(parts)} did not answer in {guard.timeout_s:g} s") from None
    except requests.exceptions.ConnectionError as error:
        kind = AnswerLost if guard.connected else NotConnected
        raise kind(f"downloading from {_origin(parts)} failed ({type(error).__name__})") from None
    except (requests.RequestException, ValueError) as error:
        raise _refused(parts, f"not a usable URL ({type(error).__name__})") from None


def _read(answer: requests.Response, parts: SplitResult, max_bytes: int, guard: TimeGuard) -> Downloaded:
    declared = answer.headers.get("Content-Length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > max_bytes:
        raise _refused(parts, f"{declared} bytes, {max_bytes} allowed")
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        size = 0
        try:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                size += len(chunk)
                if size > max_bytes:
                    raise _refused(parts, f"more than the {max_bytes} bytes allowed")
        except requests.RequestException as error:
            raise AnswerLost(f"downloading from {_origin(parts)} broke off ({type(error).__name__})") from None
        if guard.over:  # a connection that the guard shut can look like a body that ended
            raise AnswerLost(f"downloading from {_origin(parts)} took over {guard.timeout_s:g} s")
        content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Downloaded(_content(file, size), content_type)


def _content(file: SpooledTemporaryFile[bytes], size: int) -> Content:
    if size > _IN_MEMORY:
        file.flush()
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    file.seek(0)
    return file.read()


def _check_status(answer: requests.Response, parts: SplitResult) -> None:
    status, text = answer.status_code, f"{_origin(parts)} answered HTTP {answer.status_code}"
    if status == 429:
        raise RateLimited(text, http_status=status)
    if status >= 500 or status == 408:
        raise ServerError(text, http_status=status)
    if status != 200:
        raise _refused(parts, f"HTTP {status}")


def _redirect_target(url: str, parts: SplitResult, answer: requests.Response) -> str:
    try:
        target = urljoin(url, answer.headers.get("Location", ""))
        downgraded = parts.scheme == "https" and urlsplit(target).scheme != "https"
    except ValueError:
        raise _refused(parts, "a redirect to something that is not a URL") from None
    if downgraded:
        raise _refused(parts, "a redirect away from https")
    return target


def _checked_url(url: str, rules: AddressRules) -> SplitResult:
    """The URL's parts, if everything that its host resolves to is admitted."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise invalid("The result could not be downloaded.", "its URL is malformed") from None
    if parts.scheme not in {"https", "http"} or not host or parts.username is not None:
        raise invalid("The result could not be downloaded.", "its URL is not a plain https URL")
    if parts.scheme == "http" and not rules.allow_http_loopback:
        raise _refused(parts, "not https")
    try:
        for *_, address in socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM):
            rules.check(str(address[0]), parts.scheme)
    except ForbiddenAddress:
        raise _refused(parts, "an address that downloads may not come from") from None
    except (OSError, UnicodeError):
        raise NotConnected(f"no address for {_origin(parts)}") from None
    return parts


def _refused(parts: SplitResult, why: str) -> OutputInvalid:
    return invalid("The result could not be downloaded.", f"{_origin(parts)}: {why}")


def _origin(parts: SplitResult) -> str:
    """Scheme and host, all of a URL that may be shown."""
    return f"{parts.scheme}://{parts.hostname or ''}"
