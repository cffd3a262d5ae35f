"""Addresses: from where a request comes, and where clients find the service. Neither is believed from a client.

``X-Forwarded-For`` is believed of the front only, which knows the proxies that the site names (``front.py``). The
service's own address is a setting; without it, it is the address on which the request came in. ``Host`` names neither:
a request for a host that is not the service's is refused (421), so that no other site's name gets into an answer.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from halsted_ray.errors import UsageError
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.settings import Settings

PROBES = ("/healthz", "/readyz")
"""What orchestrators ask by addresses of their own; these answers hold no address."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def client_address(request: Request) -> str:
    """The address of the client as far as it can be believed; empty where the server does not know its peer.

    It is the peer's, or the one that the front named with its secret (``middleware.py``). What a client writes into
    ``X-Forwarded-For`` is not read.
    """
    return request.client.host if request.client else ""


def base_url(request: Request) -> str:
    """The service's address as its clients know it, with a slash at its end."""
    components: ServiceComponents = request.app.state.components
    if components.settings.public_url:
        return f"{components.settings.public_url.rstrip('/')}/"
    scheme, (host, port) = request.url.scheme, _own_address(request.scope)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}/" if port in (None, 80) and scheme == "http" else f"{scheme}://{shown}:{port}/"


class HostMiddleware:
    """Refuses requests for hosts that are not this service's. Its own: the host of ``HALSTED_PUBLIC_URL``, those of
    ``HALSTED_HOSTS``, the address on which the request came in, and this machine's own names on loopback."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = {host.lower() for host in (*settings.hosts, *LOOPBACK)}
        if settings.public_url:
            public = urlsplit(settings.public_url).hostname
            if public is None:
                raise UsageError(
                    f"HALSTED_PUBLIC_URL={settings.public_url!r}; expected https://host, such as a browser"
                )
            self.hosts.add(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection as ASGI describes it."""
        if scope["type"] == "http" and scope["path"] not in PROBES and not self._is_own(scope):
            detail = "this service has another name; the operator sets it with HALSTED_PUBLIC_URL or HALSTED_HOSTS"
            refused = JSONResponse({"status": 421, "detail": detail}, 421, media_type="application/problem+json")
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return False
        try:
            host = urlsplit(f"//{named[0]}").hostname
        except ValueError:
            return False
        return host is not None and (host in self.hosts or host == _own_address(scope)[0].lower())


def _own_address(scope: Scope) -> tuple[str, int | None]:
    """The address on which the request came in, as the server knows it and not as the client says."""
    host, port = scope.get("server") or ("127.0.0.1", None)
    return host, port
