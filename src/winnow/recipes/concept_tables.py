"""What `winnow concepts` says in the terminal: vocabularies, and what the heads are worth."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from winnow.concepts import HEADS
from winnow.concepts.measures import HeadReport

if TYPE_CHECKING:
    from winnow.concepts.vocabulary import Vocabulary


def vocabulary_table(vocabulary: "Vocabulary") -> Table:
    """The two vocabularies in numbers, for the terminal."""
    source = vocabulary.facts.source
    table = Table(title=f"concepts of {escape(source.selection.name)}", title_justify="left")
    table.add_column("head")
    for name in ("concepts", "pairs with one", "a pair", "rare", "stopped"):
        table.add_column(name, justify="right")
    for head in HEADS:
        numbers = vocabulary.facts.heads[head]
        table.add_row(
            head,
            f"{numbers.size:,}",
            f"{numbers.labelled:.1%}",
            f"{numbers.mean:.2f}",
            f"{numbers.rare:,}",
            f"{numbers.stopped:,}",
        )
    table.caption = f"in at least {source.config.min_count} of {source.num_pairs:,} pairs"
    return table


def heads_table(report: Mapping[str, HeadReport]) -> Table:
    """What heads are worth on held-out pictures, for the terminal."""
    table = Table(title="heads on the teacher's features", title_justify="left")
    table.add_column("head")
    for name in ("recall@1", "@5", "@10", "most frequent @10", "nats", "frequencies'"):
        table.add_column(name, justify="right")
    for head in HEADS:
        numbers = report[head]
        table.add_row(
            head,
            *(f"{recall.value:.1%}" for recall in numbers.recall),
            f"{numbers.recall[-1].majority:.1%}",
            f"{numbers.cross_entropy:.2f}",
            f"{numbers.cross_entropy_of_frequencies:.2f}",
        )
    held_out = {f"{numbers.held_out_with_concept:,}" for numbers in report.values()}
    table.caption = f"on {' and '.join(sorted(held_out))} pairs held out"
    return table
