"""The guard: what comes from another site is turned away, and what goes out is fenced in.

Whoever can open a page in the user's browser can make it send requests to 127.0.0.1. So the Host
must be this server's own (a name that was rebound to 127.0.0.1 is not), an Origin must be this
page's, and what the browser says was started by another site (Sec-Fetch-Site) gets nothing but the
page itself, and that only as a link that was followed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'"),
        *("connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
"""The content security policy: nothing from elsewhere, nothing inline."""

HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""Of every answer."""


@dataclass(frozen=True)
class Guard:
    """An application in front of another one, for one port of this machine."""

    app: "ASGIApp"
    port: int

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let a request through, or answer 403."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        why = refusal(_by_name(scope), scope["method"], scope["path"], port=self.port)

        async def send_fenced(message: "Message") -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        if why is None:
            await self.app(scope, receive, send_fenced)
            return
        from starlette.responses import PlainTextResponse

        await PlainTextResponse(f"{why}\n", status_code=403)(scope, receive, send_fenced)


def refusal(headers: dict[str, list[str]], method: str, path: str, *, port: int) -> str | None:
    """Why a request is turned away; None where it is not. `headers` are by lower-case name."""
    hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
    host = headers.get("host", [])
    if len(host) != 1 or host[0].lower() not in hosts:
        return f"this server answers as {hosts[0]} alone"
    origins = headers.get("origin", [])
    if any(origin.lower() not in [f"http://{one}" for one in hosts] for origin in origins):
        return "this server answers no other site"
    sites = headers.get("sec-fetch-site", [])
    if all(site in ("same-origin", "none") for site in sites):
        return None
    is_link = headers.get("sec-fetch-mode") == ["navigate"] and method == "GET" and path == "/"
    return None if is_link else "this server answers no other site"


def _by_name(scope: "Scope") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found
