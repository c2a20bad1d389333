"""Draw docs/demo.svg, the README's chart, from the demo's results.

    python docs/make_chart.py winnow-demo

Charts only: no picture of the data is drawn, since those are other people's.
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from winnow.reports.table import headline

COLOURS = ("#3b74bd", "#d97b29")


def main() -> None:
    """Bars of zero-shot top-1 per evaluation set and model, with 95 % intervals and chance."""
    demo = Path(sys.argv[1])
    runs = [demo / "clip-raw", demo / "psd-concepts-curated"]
    rows = [row for row in headline(runs) if row.metric == "top1"]
    mpl.rcParams["svg.hashsalt"] = "winnow"
    figure, axes = plt.subplots(figsize=(7.6, 2.9))
    for run, colour in enumerate(COLOURS):
        places = [index + 0.36 * (run - 0.5) for index in range(len(rows))]
        cells = [row.cells[run] for row in rows]
        values = [100 * cell.value for cell in cells]
        errors = [
            [100 * (cell.value - cell.low) for cell in cells],
            [100 * (cell.high - cell.value) for cell in cells],
        ]
        bars = axes.bar(places, values, 0.34, color=colour, yerr=errors, capsize=3)
        bars.set_label(rows[0].runs[run])
        for place, cell in zip(places, cells, strict=True):
            label = f"{100 * cell.value:.1f}\n×{cell.times_chance:,.0f}"
            axes.text(place, 100 * cell.high + 1, label, ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(rows)), [row.task for row in rows])
    axes.set_ylabel("zero-shot top-1, %")
    axes.set_ylim(0, 1.3 * max(100 * cell.high for row in rows for cell in row.cells))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="model; × is times chance")
    figure.tight_layout()
    figure.savefig(Path(__file__).parent / "demo.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
