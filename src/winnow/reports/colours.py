"""The colours of the page and of plots that stand alone: `c0` to `c5` tell series apart."""

NUM_COLOURS = 6

LIGHT = {
    "page": "#f7f7f5",
    "card": "#ffffff",
    "ink": "#1d2126",
    "soft": "#5d6670",
    "faint": "#8b949e",
    "line": "#e4e5e2",
    "wash": "#f1f2ef",
    "good": "#1a7f5a",
    "bad": "#b4453c",
    "note": "#fdf6e3",
    "mark": "#ffd9a8",
    "c0": "#3b74b9",
    "c1": "#d97b29",
    "c2": "#2a9d77",
    "c3": "#a8609b",
    "c4": "#7d8894",
    "c5": "#b8a12c",
}
DARK = {
    "page": "#14171a",
    "card": "#1c2024",
    "ink": "#e7e9eb",
    "soft": "#a5adb5",
    "faint": "#77808a",
    "line": "#2e343a",
    "wash": "#23282d",
    "good": "#57c79b",
    "bad": "#ee8277",
    "note": "#2b2717",
    "mark": "#6b4314",
    "c0": "#6ea6e8",
    "c1": "#f0a25e",
    "c2": "#5cc9a3",
    "c3": "#d293c5",
    "c4": "#9aa5b0",
    "c5": "#d8c556",
}
