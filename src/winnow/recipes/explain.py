"""What `winnow explain` takes and does: why one pair is kept or dropped, with all its numbers."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from winnow.curation.annotators.annotator import Annotator
from winnow.curation.annotators.clip_score import ClipScore
from winnow.curation.annotators.language import DetectLanguage
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.annotators.spotting import SpotText
from winnow.curation.explain import (
    Pair,
    RuleLine,
    Verdict,
    explain,
    graph_of,
    kept_instead,
    lines_seen,
    looked_at,
    loose_pair,
    pairs_at,
    read_summary,
    selections_of,
    stored_verdict,
)
from winnow.curation.grammar.draw import draw
from winnow.curation.ledger_files import Ledger, describe_place
from winnow.curation.lookup import find_places
from winnow.curation.rule_specs import from_settings, read_rules
from winnow.curation.rules.rule import Measure, Rule
from winnow.data.folder import Folder
from winnow.data.images import ImageError
from winnow.reports.marks import Box, draw_boxes, pieces
from winnow.types import InputError

Say = Callable[..., None]

MOST_PAIRS = 20
"""Pairs of one key or uid that are explained; the others are counted."""

_LONGEST = 2_000  # characters of a caption, pixels of the longer side of a picture


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Why one pair is kept or dropped: its graph, the text in its picture, every rule's number."""

    pair: tyro.conf.Positional[tuple[str, ...]] = ()
    """DIR, where pairs were curated into, and the UID or KEY of one of them."""
    image: Path | None = None
    """Or a picture of your own, with --text."""
    text: str | None = None
    """Its caption."""
    selection: str | None = None
    """Which selection of DIR; default: each."""
    rules: tuple[str, ...] = ("clean", "cat")
    """Rules for a picture of your own, as `winnow curate` takes them."""
    parse: ParseCaptions = field(default_factory=ParseCaptions)
    """How its caption is parsed, where that was not done before."""
    spotting: SpotText = field(default_factory=SpotText)
    """How text is looked for in its picture, where that was not done before."""
    clip_model: str | None = None
    """For rules on `clip_score`, as `winnow curate` takes it."""
    png: Path | None = None
    """The picture with boxes around its text; default: explain-UID.png here, if it has any."""


def run_explain(options: Explain, *, say: Say) -> None:
    """Explain a pair of a curated folder, or a picture and a text."""
    if options.image is not None and not options.pair:
        _explain_loose(options, options.image, options.text or "", say)
    elif len(options.pair) == 2 and options.image is None and options.text is None:
        _explain_stored(options, *options.pair, say)
    else:
        raise InputError(
            "winnow explain takes DIR and a UID or KEY, or else --image FILE --text CAPTION"
        )


def _explain_loose(options: Explain, image: Path, caption: str, say: Say) -> None:
    rules = read_rules(options.rules)
    pair = loose_pair(image.read_bytes(), caption, name=str(image))
    pair = looked_at(pair, _annotators(options, rules))
    lines = explain(pair, rules, None)
    _say_pair(pair, say)
    _say_verdict(" ".join(options.rules), lines, None, pair, say)
    _draw(options, pair, lines, say, name=pair.row["uid"][0].as_py()[:12])


def _explain_stored(options: Explain, folder: str, name: str, say: Say) -> None:
    ledger = Ledger.open(Folder.at(folder))
    selections = _selections(options, ledger, say)
    places = find_places(ledger, name)
    if len(places) > 1:
        shown = f", of which the first {MOST_PAIRS} follow" if len(places) > MOST_PAIRS else ""
        say(_text(f"{len(places):,} pairs are called {name}{shown}"))
    annotators = _annotators(options, [rule for rules in selections.values() for rule in rules])
    for number, found in enumerate(pairs_at(ledger, places[:MOST_PAIRS])):
        pair = looked_at(found, annotators)
        _say_pair(pair, say)
        all_lines = []
        for selection, rules in selections.items():
            stored = stored_verdict(ledger, selection, pair)
            if stored is None:
                say(_text(f"selection {selection} is of other rows: select again", style="yellow"))
            lines = explain(pair, rules, stored)
            _say_verdict(f"selection {selection}", lines, stored, pair, say)
            _say_kept_instead(ledger, lines, say)
            all_lines += lines
        if not selections:
            say(_text(f"{folder} has no selection to read: no rule has judged the pair"))
        copy = f"-{number}" if number else ""
        _draw(options, pair, all_lines, say, name=pair.row["uid"][0].as_py()[:12] + copy)


def _selections(options: Explain, ledger: Ledger, say: Say) -> dict[str, tuple[Rule, ...]]:
    """The rules of the selection that was asked for, or of all that can be read."""
    if options.selection is not None:
        return {options.selection: _rules_of(ledger, options.selection)}
    found = {}
    for name in selections_of(ledger.out):
        try:
            found[name] = _rules_of(ledger, name)
        except InputError as error:
            say(_text(f"selection {name} is left out: {error}", style="yellow"))
    return found


def _rules_of(ledger: Ledger, selection: str) -> tuple[Rule, ...]:
    where = f"the summary of selection {selection}"
    settings = read_summary(ledger.out, selection).rules
    return tuple(from_settings(one, where=where) for one in settings)


def _annotators(options: Explain, rules: Sequence[Rule]) -> list[Annotator]:
    """The parser and the spotter, whose findings are shown in any case, and what rules need."""
    needs = {column for rule in rules for column in rule.needs}
    others: list[Annotator] = [DetectLanguage()]
    if options.clip_model is not None:
        others.append(ClipScore(model=options.clip_model))
    needed = [one for one in others if not needs.isdisjoint(one.schema.names)]
    return [options.parse, options.spotting, *needed]


def _say_pair(pair: Pair, say: Say) -> None:
    (facts,) = pair.row.to_pylist()
    say(Text())
    say(_text(f"{facts['key']}  ", style="bold") + _text(f"uid {facts['uid']}"))
    where = "" if pair.shard == facts["key"] else f", {describe_place(pair.place)}"
    say(_text(f"from {pair.shard}{where}"))
    if facts["width"] is not None:
        say(_text(f"{facts['width']} x {facts['height']} pixels, {facts['format']}"))
    if facts["url"] is not None:
        say(_text(facts["url"]))
    for missing, why in pair.absent.items():
        say(_text(f"{missing}: {why}", style="yellow"))
    if pair.error is not None:
        say(_text(f"cannot be read: {pair.error}", style="red"))
    say(Text("caption  ") + _text(_excerpt(facts["caption"] or ""), style="bold"))
    graph = graph_of(pair)
    if graph is not None:
        say(_text(f"graph{_now(pair, 'parse')}"))
        for line in draw(graph).splitlines():
            say(_text(f"  {line}"))
    seen = lines_seen(pair)
    if seen is not None:
        say(_text(f"text in the picture{_now(pair, 'spotting')}{'' if seen else ': none'}"))
        for number, one in enumerate(seen, start=1):
            say(_text(f"  {number} {one['text']!r} ({one['confidence']:.2f})"))


def _say_verdict(
    name: str, lines: Sequence[RuleLine], stored: Verdict | None, pair: Pair, say: Say
) -> None:
    say(_text(f"{name}: {_outcome(lines, stored, pair)}", style="bold"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("says", no_wrap=True)
    table.add_column("why")
    for line in lines:
        table.add_row(_text(line.rule.name()), _said(line), _why(line))
    say(table)
    for line in lines:
        if line.marks.spans:
            marked = pieces(pair.row["caption"][0].as_py(), line.marks.spans, longest=200)
            shown = [_text(one.text, "bold red" if one.is_marked else "") for one in marked]
            say(Text.assemble(_text(f"  {line.rule.name()}  "), *shown))


def _outcome(lines: Sequence[RuleLine], stored: Verdict | None, pair: Pair) -> str:
    if stored is not None:
        if stored.error is not None:
            return f"an error, {stored.error}"
        return "kept" if stored.kept else f"dropped, {stored.reason}"
    if pair.error is not None:
        return "an error"
    firing = [line.reason for line in lines if line.reason is not None]
    unjudged = sum(line.unjudged is not None for line in lines)
    rest = f" as far as is known ({unjudged} rules had no say)" if unjudged else ""
    return f"dropped, {firing[0]}" if firing else f"kept{rest}"


def _say_kept_instead(ledger: Ledger, lines: Sequence[RuleLine], say: Say) -> None:
    for line in lines:
        other = kept_instead(ledger, line.reason) if line.reason is not None else None
        if other is not None:
            (facts,) = other.row.select(["key", "uid", "caption"]).to_pylist()
            say(
                _text(
                    f"  {line.rule.name()}: kept instead is {facts['key']} (uid {facts['uid']}), "
                )
                + _text(f"{describe_place(other.place)}, {other.shard}: ")
                + _text(_excerpt(facts["caption"] or ""), style="bold")
            )


def _draw(options: Explain, pair: Pair, lines: Sequence[RuleLine], say: Say, *, name: str) -> None:
    seen = lines_seen(pair) or []
    if pair.picture is None or not (seen or options.png):
        return
    guilty = {box for line in lines for box in line.marks.boxes}
    boxes = [
        Box(tuple(one["box"]), tuple(one["box"]) in guilty, str(number))
        for number, one in enumerate(seen, start=1)
    ]
    path = options.png or Path(f"explain-{name}.png")
    try:
        picture = draw_boxes(pair.picture, boxes, longest=_LONGEST)
    except ImageError as error:
        say(_text(f"no picture could be drawn: {error}"))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "png")
    say(_text(f"picture: {path}"))


def _said(line: RuleLine) -> Text:
    if line.unjudged is not None:
        return Text("no say", style="yellow")
    return Text("keeps", style="green") if line.reason is None else Text("drops", style="red")


def _why(line: RuleLine) -> Text:
    """The reason, then the numbers with their thresholds."""
    words = [word for word in (line.unjudged, line.reason) if word is not None]
    words += [_measured(measure) for measure in line.measures]
    words += ["looked at now"] if line.now else []
    return _text("; ".join(words))


def _measured(measure: Measure) -> str:
    value = measure.values[0].as_py()
    bounds = [
        f"{word} {bound:.6g}"
        for word, bound in (("from", measure.least), ("to", measure.most))
        if bound is not None
    ]
    kept = f", kept {' '.join(bounds)}" if bounds else ""
    return f"{measure.name} {'unknown' if value is None else format(value, '.6g')}{kept}"


def _now(pair: Pair, annotator: str) -> str:
    return " (looked at now)" if annotator in pair.now else ""


def _excerpt(caption: str) -> str:
    return "".join(piece.text for piece in pieces(caption, (), longest=_LONGEST))


def _text(words: str, style: str = "") -> Text:
    """Scraped words for a terminal, which would obey the control characters among them."""
    return Text("".join("\ufffd" if _is_control(c) else c for c in words), style=style)


def _is_control(character: str) -> bool:
    # Bidirectional overrides can make a line read as another one.
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or unicodedata.bidirectional(character) in _OVERRIDES
    )


_OVERRIDES = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
