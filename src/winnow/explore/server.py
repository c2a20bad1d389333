"""The server: one process on 127.0.0.1, until it is stopped."""

import socket
from collections.abc import Callable

from winnow.explore.answers import Explorer
from winnow.explore.app import make_app
from winnow.types import InputError

LOOPBACK = "127.0.0.1"


def serve(explorer: Explorer, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, which then do what they would have done.

    `port` 0 takes a free one. `ready` is given the address once connections are taken. Raises
    InputError where the port is taken or the library is not installed.
    """
    try:
        import starlette  # noqa: F401 - what is missing is said before anything is opened
        import uvicorn
    except ModuleNotFoundError as error:
        raise missing_library(error) from error
    with _listening(port) as listener:
        own_port = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(explorer, port=own_port),
            access_log=False,
            log_config=None,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        ready(f"http://{LOOPBACK}:{own_port}/")
        uvicorn.Server(config).run(sockets=[listener])


def missing_library(error: ModuleNotFoundError) -> InputError:
    """What to say where the extra is not installed."""
    return InputError(
        f"winnow explore needs {error.name}, which is not installed: "
        "pip install 'winnow-clip[explore]'"
    )


def _listening(port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port is {port}: give 0 to {(1 << 16) - 1}; 0 takes a free one")
    # By its number: of a socket of protocol 0 asyncio does not know that it is TCP, leaves Nagle's
    # algorithm on, and every answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} of {LOOPBACK} cannot be opened ({error.strerror}): give another one with "
            "--port, or 0 for any that is free"
        ) from error
    listener.listen(128)
    return listener
