"""Which addresses a worker may be sent to: by default public ones only, whatever name or redirect leads there."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from workers.common.failures import JobFailure

__all__ = ["ALLOW", "FetchRefused", "Rules", "guarded_connector", "resolver_of"]

#: `1` opens loopback and private networks, a list of networks (`10.1.0.0/16,fd00::/8`) opens those. http is allowed
#: to what it opens.
ALLOW = "RYLA_WORKER_ALLOW_PRIVATE"

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_PRIVATE = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
_NAT64 = ip_network("64:ff9b::/96")
_NUMBERS = re.compile(r"[0-9.]+")


class FetchRefused(JobFailure):
    """A worker does not fetch from there, or does not take what it gets. Trying again changes nothing."""

    def __init__(self, why: str, url: str = "") -> None:
        super().__init__(
            "fetch_refused", "A file of the job is refused by the GPU worker.", {"reason": why, "url": shown(url)}
        )
        self.why = why


def shown(url: str) -> str:
    """Of a URL only scheme and host: the rest may be a secret."""
    try:
        parsed = URL(url)
        return f"{parsed.scheme}://{parsed.host}/..." if parsed.host else "..."
    except ValueError:
        return "..."


@dataclass(frozen=True, slots=True)
class Rules:
    """Networks that are allowed besides the public ones. Link-local ones (cloud metadata) only if they are named."""

    opened: tuple[_Network, ...] = ()

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Rules:
        """By `RYLA_WORKER_ALLOW_PRIVATE`. Raises `ValueError` where that names no network."""
        said = (os.environ if env is None else env).get(ALLOW, "").strip()
        if said.lower() in ("", "0", "false", "no"):
            return cls()
        if said.lower() in ("1", "true", "yes"):
            return cls(_PRIVATE)
        return cls(tuple(ip_network(one.strip()) for one in said.split(",") if one.strip()))

    def allows(self, address: str, scheme: str) -> bool:
        """Whether a connection to this address may be made. Addresses in addresses (NAT64, 6to4 ...) count as well."""
        try:
            found = _within(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        if all(any(one in network for network in self.opened) for one in found):
            return True
        return scheme == "https" and all(self._is_open(one) for one in found)

    def _is_open(self, address: _Address) -> bool:
        if any(address in network for network in self.opened):
            return True
        return address.is_global and not address.is_multicast and not address.is_reserved

    def check(self, url: URL) -> None:
        """Refuse what can be told from a URL alone. Names are checked when they are resolved."""
        if url.scheme not in ("https", "http") or not url.host:
            raise FetchRefused("only https URLs are fetched", str(url))
        if url.scheme == "http" and not self.opened:
            raise FetchRefused("only https URLs are fetched", str(url))
        if url.user or url.password:
            raise FetchRefused("a URL with a user name or a password", str(url))
        if _is_literal(url.host) and not self.allows(url.host, url.scheme):
            raise FetchRefused("an address that is not public", str(url))


def _is_literal(host: str) -> bool:
    """Whether a host is an address, or looks like one: what looks like one may skip resolving."""
    return ":" in host or _NUMBERS.fullmatch(host) is not None


def _within(address: _Address) -> tuple[_Address, ...]:
    """The addresses that a packet to this one may end at. An IPv6 address may carry an IPv4 one."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(address.packed[-4:]),)
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address.teredo is not None:
        return (address, *address.teredo)
    return (address,)


class _GuardedResolver(AbstractResolver):
    """Resolves names for one connector, and refuses a name of which any address is not allowed.

    aiohttp connects to the addresses that it gets here and to no other, so there is no second look-up to fool.
    """

    def __init__(self, rules: Rules, scheme: str, inner: AbstractResolver) -> None:
        self._rules = rules
        self._scheme = scheme
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not self._rules.allows(one["host"], self._scheme):
                raise FetchRefused("a name that leads to an address that is not public", f"{self._scheme}://{host}")
        return found

    async def close(self) -> None:
        await self._inner.close()


def resolver_of(rules: Rules, scheme: str) -> AbstractResolver:
    """A resolver that keeps to the rules. Needs a running event loop."""
    return _GuardedResolver(rules, scheme, aiohttp.ThreadedResolver())


def guarded_connector(rules: Rules, scheme: str) -> aiohttp.TCPConnector:
    """A connector for one request by this scheme. Check the URL with `Rules.check` first: literals skip resolving."""
    return aiohttp.TCPConnector(resolver=resolver_of(rules, scheme), use_dns_cache=False, force_close=True)
