"""Who may see the page: the address that it listens on, the token, and what a request must say."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from deeplab_rt.errors import StreamError

PORT = 8088  # another one where this is taken
_BACKLOG = 32  # connections that wait to be accepted
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing of the page may be taken into a page of elsewhere, nor the reverse."""


@dataclass(frozen=True)
class Access:
    """Where the page listens.

    Attributes:
        host: address or name of this machine; anything but loopback opens the page to the network,
            to those who have the link with its token.
        port: None for :data:`PORT`, or a free one where that is in use; 0 for any.
    """

    host: str = "127.0.0.1"
    port: int | None = None


class Endpoint:
    """Listens where it was told to, and knows whose requests are answered.

    On loopback a request must name this machine, since a page of elsewhere can have its own name
    resolve to 127.0.0.1. On any other address it must carry the token of the link. A browser's
    WebSocket must come from the page itself in both cases.
    """

    def __init__(self, access: Access) -> None:
        """Open the socket.

        Raises:
            StreamError: there is no such address here, or the port is in use.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(
                access.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError) as error:
            raise StreamError(f"--host {access.host}: no such address: {error}") from None
        self.socket = _listen(str(address[0]), family, access.port)
        self.is_open = not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
        self.token = secrets.token_urlsafe(16) if self.is_open else ""
        self.port = int(self.socket.getsockname()[1])
        self.url = self._url(str(address[0]))

    def _url(self, address: str) -> str:
        if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
            address = _outward_address(self.socket.family)
        name = f"[{quote(address)}]" if ":" in address else address
        return f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def refusal(self, headers: Mapping[str, str], token: str) -> str | None:
        """Why the page and its stream are not for this request, or None."""
        host = split_host(headers.get("Host", ""))
        if host is None:
            return "the Host header names no machine"
        if self.token:
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                return "only with the whole link, as it was printed: its token is missing or wrong"
        elif host[0] not in _LOCAL_NAMES:
            return "only for this machine"
        origin = headers.get("Origin")
        if origin is not None and split_host(origin.partition("://")[2]) != host:
            return "only for the page itself"
        return None


def _listen(address: str, family: int, port: int | None) -> socket.socket:
    """The first port that is free: the one asked for, or else the page's own, or any.

    Raises:
        StreamError: none can be had.
    """
    for number in (PORT, 0) if port is None else (port,):
        try:
            return socket.create_server((address, number), family=family, backlog=_BACKLOG)
        except OverflowError:
            raise StreamError(f"--port {number}: expected 0 to 65535") from None
        except OSError as error:
            reason = error.strerror
    raise StreamError(
        f"the page cannot listen on {address} port {number}: {reason}; give another --port, or an "
        "address of this machine as --host"
    )


def split_host(text: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header; None if it is malformed (``[``, ``a:b``, empty)."""
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return name, port


def _outward_address(family: int) -> str:
    """This machine's address as others see it, or its name. Nothing is sent to find out."""
    target = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # of documentation
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
        except OSError:  # no route: not on a network
            return socket.gethostname()
        return str(probe.getsockname()[0]).partition("%")[0]
