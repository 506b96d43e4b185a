"""The HTTP API of a database: inside FastAPI, Starlette, Litestar, Django or Flask, or on a port.

Example:
    >>> import cloaca.web
    >>> def authorize(request):
    ...     user = request.headers.get("x-user")
    ...     return cloaca.web.Access(user, {"view", "control"}) if user else None
    >>> app = cloaca.web.asgi("sqlite:///etl.db", authorize=authorize)

Since 1.0.
"""

from cloaca._web.access import PERMISSIONS, Access, Request
from cloaca._web.asgi import AsgiApp, asgi
from cloaca._web.server import Server, serve
from cloaca._web.wsgi import WsgiApp, wsgi

__all__ = [
    "PERMISSIONS",
    "Access",
    "AsgiApp",
    "Request",
    "Server",
    "WsgiApp",
    "asgi",
    "serve",
    "wsgi",
]
