"""The terminal's tables of an evaluation: marks, intervals and the width of 80 columns."""

from result_rows import measured
from rich.console import Console

from winnow.recipes.results_tables import results_tables


def shown(*results, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    for table in results_tables(results):
        console.print(table)
    return [line.strip() for line in console.export_text().splitlines()]


def few(method, shots, value, low, high, subset=None, **settings):
    which = {"task": "[red]things", "protocol": "few-shot", "method": method, "shots": shots}
    ends = {"value": value, "low": low, "high": high, "subset": subset}
    return measured(**which, **ends, settings=settings)


def test_an_interval_is_given_by_its_ends():
    lines = shown(
        few("zero-shot", 0, 0.0, 0.0, 0.397),
        few("from-zero", 1, 0.5, 0.31, 0.69, subset=0),
        few("from-zero", 1, 0.5, 0.412, 0.588),
        few("from-zero", 2, 1.0, 0.912, 1.0),
    )
    rows = [line.split() for line in lines if line]
    assert rows[0] == ["few-shot", "top-1", "on", "[red]things,", "%"]
    assert rows[-4:] == [
        ["zero-shot", "0.0"],
        ["0.0–39.7"],
        ["from-zero", "50.0", "100.0"],
        ["41.2–58.8", "91.2–100"],
    ]
    assert "†" not in "".join(lines)


def test_shots_that_a_class_does_not_have_are_marked_and_counted():
    enough = {"short_classes": 0, "absent_classes": 0}
    lines = shown(
        few("lp++", 1, 0.5, 0.4, 0.6, **enough),
        few("lp++", 8, 0.6, 0.5, 0.7, short_classes=1, absent_classes=0),
        few("lp++", 16, 0.6, 0.5, 0.7, short_classes=2, absent_classes=1),
    )
    (row,) = [line.split() for line in lines if line.startswith("lp++")]
    assert row == ["lp++", "50.0", "60.0", "†", "60.0", "†"]
    words = " ".join(" ".join(lines).split())
    assert words.endswith(
        "† fewer training pictures than shots: in 1 class at 8 shots, in 3 classes at 16 shots"
    )


def test_six_numbers_in_a_row_are_whole_in_80_columns():
    widest = (1.0, 0.105, 1.0)
    short = {"short_classes": 3}
    methods = [few("text-initialised", k, *widest, **short) for k in (1, 2, 4, 8, 16)]
    lines = shown(few("zero-shot", 0, *widest), *methods)
    assert sum(line.split().count("10.5–100") for line in lines) == 6
    assert not [line for line in lines if "…" in line]


def test_what_a_number_leaves_open_stands_beside_its_name():
    robust = {"protocol": "robustness", "method": "published", "metric": "effective_robustness"}
    robust |= {"chance": None, "n": 10_000}
    results = [
        measured(**robust, value=-0.2, low=-0.21, high=-0.19, settings={"extrapolated": False}),
        measured(**robust, value=-0.3, low=-0.31, high=-0.29, settings={"extrapolated": True}),
        measured(protocol="linear-probe", settings={"converged": False}),
    ]
    wide = [" ".join(line.split()) for line in shown(*results, width=120) if line]
    assert wide[-3:] == [
        "robustness published effective robustness -20.0 -21.0 to -19.0 10,000",
        "robustness published effective robustness (extrapolated) -30.0 -31.0 to -29.0 10,000",
        "linear-probe top-1 (fit not converged) 50.0 0.0 to 100.0 0.10 1,000",
    ]
    narrow = " ".join(" ".join(shown(*results)).split())
    assert narrow.index("-30.0 -31.0 to -29.0 10,000") < narrow.index("(extrapolated)")
    assert "…" not in narrow
