"""The shell of every page: one html file that needs no network, with its parts under headings.

It loads nothing: pictures are data URIs, charts are SVG, style and script are inside, known by
their hashes to a content security policy that forbids the browser everything else. Every value
that a template puts out is escaped, and goes through `hostile.shown` before. Without scripts all
is there; with them, tables can be sorted and filtered, and light and dark be switched.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from winnow.reports.colours import DARK, LIGHT, NUM_COLOURS
from winnow.reports.hostile import escaped, shown, visible
from winnow.reports.pictures import shorten
from winnow.reports.table import format_p, format_points

if TYPE_CHECKING:
    from jinja2 import Environment

LARGEST = 5_000_000
"""Bytes of a page: what opens at once from a mail or a phone."""

_SCRIPTS = ("page.js", "search.js")
_LONGEST_JSON = 50_000


class Part(NamedTuple):
    """A part of a page: it stands under its heading, folds, and is in the table of contents."""

    anchor: str
    """Its id: letters and hyphens."""
    title: str
    body: Markup
    """Headings in it begin at h3."""


class Allowance:
    """How many characters of pictures a page may still have, and how many it had to leave out."""

    def __init__(self, characters: int) -> None:
        self.left, self.spent, self.left_out = characters, 0, 0

    def admit(self, picture: str) -> str:
        """The data URI, or "" where there is no more place."""
        if len(picture) > self.left:
            self.left_out += 1
            return ""
        self.left -= len(picture)
        self.spent += len(picture)
        return picture


def render(template: str, **values: Any) -> Markup:
    """One of the templates, as it is put into a page.

    Those that show pictures by `show.image` need an Allowance as `allowance`.
    """
    page = environment().get_template(template).render(**values)
    return Markup(page)  # noqa: S704 - escaped by the template engine


def write_page(
    out: Path,
    *,
    title: str,
    lead: str,
    parts: Callable[[Allowance], Sequence[Part]],
    notes: Sequence[str] = (),
) -> Path:
    """Write a page with these parts to `out`, whole or not at all; its path.

    `parts` is asked again, with a smaller allowance, where pictures make the page too large; how
    many were left out is said in its last line. `lead` stands below the title, `notes` next.
    """
    allowance = Allowance(LARGEST)

    def html() -> bytes:
        page = render(
            "shell.html.j2",
            title=title,
            lead=lead,
            notes=notes,
            parts=parts(allowance),
            allowance=allowance,
            policy=_policy(),
            style=_style(),
            script=_script(),
        )
        # Only what did not come through a template, such as json in a script, can need it.
        return page.encode("utf-8", errors="backslashreplace")

    page = html()
    if len(page) > LARGEST:
        allowance = Allowance(max(0, allowance.spent - (len(page) - LARGEST)))
        page = html()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_bytes(page)
    partial.replace(out)
    return out


@functools.cache
def environment() -> "Environment":
    """The template engine with what the templates ask for."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("winnow.reports"),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f}"
    made.filters["count"] = lambda number: f"{number:,}"
    made.filters["points"] = format_points
    made.filters["change"] = lambda share: f"{100 * share:+.2f}".replace("-", "−")
    made.filters["p_value"] = format_p
    made.filters |= {"shorten": shorten, "clip": _clip, "pretty": _pretty}
    made.globals |= {"num_colours": NUM_COLOURS, "light": LIGHT, "dark": DARK}
    # Captions of any script stay as they are, at a third to half of the size.
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return made


def _clip(words: str) -> str:
    """Short enough for a cell of a table."""
    return visible(words, longest=60)


def _pretty(value: Any) -> Markup:
    """Json for people, uncut as far as anybody reads."""
    return escaped(json.dumps(value, indent=2, ensure_ascii=False), longest=_LONGEST_JSON)


@functools.cache
def _style() -> Markup:
    return render("style.css.j2")


@functools.cache
def _script() -> Markup:
    made = environment()
    assert made.loader is not None
    sources = [made.loader.get_source(made, name)[0] for name in _SCRIPTS]
    return Markup("\n".join(sources))  # noqa: S704 - our own


def _policy() -> str:
    """Pictures that are inside, this style and this script; attributes may set styles too."""
    style, script = (_digest(words) for words in (_style(), _script()))
    return (
        f"default-src 'none'; img-src data:; style-src {style}; style-src-attr 'unsafe-inline'; "
        f"script-src {script}; base-uri 'none'; form-action 'none'"
    )


def _digest(words: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()}'"
