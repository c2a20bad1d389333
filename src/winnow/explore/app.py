"""The application: addresses that read, but for one, and none of which is a path.

    /                          the page; page.css, page.js, favicon.ico
    /pairs?...                 a page of pairs (`query.py`)
    /pairs/ROW                 all that is known of one
    /thumbnails/ROW            its picture, small; /pictures/ROW, larger
    /uploads                   POST: a picture to search by; its token
    /uploads/TOKEN             that picture, small

Errors are json with one sentence: 400 for what cannot be asked, 404 for what is not there, 410 for
an upload that is not kept any more, 413 for one that is too large, 415 for what is no picture.
"""

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

from winnow.data.images import ImageError
from winnow.explore.answers import Explorer, GoneError
from winnow.explore.guard import Guard
from winnow.explore.pictures import MEDIA_TYPE, THUMBNAIL, WHOLE, picture_of
from winnow.explore.query import QueryError, read_number, read_query
from winnow.reports.colours import DARK, LIGHT
from winnow.reports.hostile import visible
from winnow.types import InputError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

MOST_UPLOAD = 1 << 25
"""Bytes of a picture that is handed in."""


def make_app(explorer: Explorer, *, port: int) -> "ASGIApp":
    """The application for a server on 127.0.0.1 at `port`."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    page = _page(explorer)
    app = Starlette(
        routes=[
            Route("/", _said(page["page.html.j2"], "text/html")),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
            Route("/page.css", _said(page["page.css.j2"], "text/css")),
            Route("/page.js", _said(page["page.js"], "text/javascript")),
            Route("/pairs", _search(explorer)),
            Route("/pairs/{row}", _details(explorer)),
            Route("/thumbnails/{row}", _picture(explorer, THUMBNAIL)),
            Route("/pictures/{row}", _picture(explorer, WHOLE)),
            Route("/uploads", _hand_in(explorer), methods=["POST"]),
            Route("/uploads/{token}", _handed_in(explorer)),
        ],
        exception_handlers={
            QueryError: _told(400),
            InputError: _told(400),
            _MissingError: _told(404),
            GoneError: _told(410),
            _TooLargeError: _told(413),
            ImageError: _told(415),
        },
    )
    # Each address is written in one way.
    app.router.redirect_slashes = False
    return Guard(app, port)


class _MissingError(Exception):
    """There is nothing at that address."""


class _TooLargeError(Exception):
    """More bytes than are taken."""


Endpoint = Callable[["Request"], "Response"]


def _said(text: str, media_type: str) -> Endpoint:
    from starlette.responses import Response

    return lambda _: Response(text, media_type=media_type, headers={"cache-control": "no-cache"})


def _search(explorer: Explorer) -> Endpoint:
    from starlette.responses import JSONResponse

    def search(request: "Request") -> "Response":
        parameters = request.query_params
        if len(set(parameters)) < len(parameters.multi_items()):
            raise QueryError("every part of a query is given once")
        return JSONResponse(explorer.search(read_query(parameters)), headers=_NOT_KEPT)

    return search


def _details(explorer: Explorer) -> Endpoint:
    from starlette.responses import JSONResponse

    def details(request: "Request") -> "Response":
        return JSONResponse(explorer.details(_row(explorer, request)), headers=_NOT_KEPT)

    return details


def _picture(explorer: Explorer, longest: int) -> Endpoint:
    from starlette.responses import Response

    def picture(request: "Request") -> "Response":
        data = picture_of(explorer.pairs, _row(explorer, request), longest=longest)
        if data is None:
            raise _MissingError("this picture cannot be read any more")
        # The address ends in what was embedded, so another selection at this port has others.
        return Response(data, media_type=MEDIA_TYPE, headers=_KEPT)

    return picture


def _hand_in(explorer: Explorer) -> Callable:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse

    async def hand_in(request: "Request") -> "Response":
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > MOST_UPLOAD:
                raise _TooLargeError(f"a picture may have {MOST_UPLOAD >> 20} MB at most")
        token = await run_in_threadpool(explorer.hand_in, bytes(data))
        return JSONResponse({"token": token}, status_code=201)

    return hand_in


def _handed_in(explorer: Explorer) -> Endpoint:
    from starlette.responses import Response

    def handed_in(request: "Request") -> "Response":
        upload = explorer.handed_in(request.path_params["token"])
        return Response(upload.thumbnail, media_type=MEDIA_TYPE, headers=_NOT_KEPT)

    return handed_in


_KEPT = {"cache-control": "private, max-age=3600"}
_NOT_KEPT = {"cache-control": "no-store"}


def _row(explorer: Explorer, request: "Request") -> int:
    try:
        row = read_number(request.path_params["row"], "a row")
    except QueryError as error:
        raise _MissingError(str(error)) from error
    if row >= len(explorer.pairs):
        raise _MissingError(f"there is no row {row:,}")
    return row


def _told(status: int) -> Callable:
    from starlette.responses import JSONResponse

    def told(_: "Request", error: Exception) -> "Response":
        return JSONResponse({"error": str(error)}, status_code=status, headers=_NOT_KEPT)

    return told


def _page(explorer: Explorer) -> dict[str, str]:
    """The page, its style and its script; names that users gave are escaped in them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("winnow.explore", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    facts = {
        "pairs": explorer.pairs,
        "model": explorer.encoder.name,
        "of": explorer.pairs.pictures_digest[:12],
        "light": LIGHT,
        "dark": DARK,
    }
    names = ("page.html.j2", "page.css.j2")
    script = resources.files("winnow.explore").joinpath("page", "page.js").read_text("utf-8")
    return {name: environment.get_template(name).render(facts) for name in names} | {
        "page.js": script
    }
