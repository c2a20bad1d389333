import json

import pytest
from study_folders import accuracy, probe, write_cell, write_facts

from winnow.evaluation.study.claims import CLAIMS
from winnow.evaluation.study.estimates import Estimate
from winnow.evaluation.study.tables import study_tables
from winnow.evaluation.study.verdicts import decide
from winnow.types import InputError

T4 = 2.7764451051977987  # t of 4 degrees of freedom, 97.5 %


def estimate(value, half, p_value=None):
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        p_value=p_value,
        seeds=5,
        freedom=4,
        how="t over seeds",
    )


BARE = Estimate(value=0.5, seeds=1, how="one seed")


@pytest.mark.parametrize(
    ("direction", "value", "half", "verdict"),
    [
        ("above 0", 0.02, 0.019, "confirmed"),
        ("above 0", 0.02, 0.021, "unresolved"),
        ("above 0", -0.02, 0.021, "unresolved"),
        ("above 0", -0.02, 0.019, "refuted"),
        ("below 1.02", 1.01, 0.009, "confirmed"),
        ("below 1.02", 1.01, 0.011, "unresolved"),
        ("below 1.02", 1.04, 0.019, "refuted"),
        ("below 1.02", 1.04, 0.021, "unresolved"),
        ("above -0.01", -0.005, 0.004, "confirmed"),
        ("above -0.01", -0.005, 0.006, "unresolved"),
        ("above -0.01", -0.02, 0.009, "refuted"),
        ("never below 0", 0.0, 0.009, "confirmed"),
        ("never below 0", 0.0, 0.011, "unresolved"),
        ("never below 0", -0.005, 0.004, "refuted"),
    ],
)
def test_one_number_decides_by_its_interval(direction, value, half, verdict):
    assert decide(direction, [estimate(value, half)]) == verdict


def test_nothing_is_decided_without_an_interval():
    assert decide("above 0", []) == "not tried"
    assert decide("above 0", [BARE]) == "unresolved"
    assert decide("never below 0", [estimate(0.02, 0.01), BARE]) == "unresolved"


def test_of_several_numbers_one_refutes_after_correction():
    """The interval of -2 ± 1.9 points has p 0.043 by t of 4: alone it refutes, among ten not."""
    low, high = estimate(-0.02, 0.019), estimate(0.02, 0.01)
    assert decide("never below 0", [low]) == "refuted"
    assert decide("never below 0", [low, *[high] * 9]) == "unresolved"
    assert decide("never below 0", [estimate(-0.02, 0.004), *[high] * 9]) == "refuted"
    assert decide("never below 0", [estimate(-0.02, 0.004), BARE]) == "refuted"
    assert decide("never below 0", [high] * 9) == "confirmed"
    equal = Estimate(value=0.0, low=0.0, high=0.0, p_value=1.0, seeds=5, how="t over seeds")
    assert decide("never below 0", [equal, high]) == "confirmed"
    assert decide("above 0", [equal]) == "unresolved"


AXES = {
    "size": {"levels": ["tenth", "all"], "values": [0.1, 1.0], "base": "all"},
    "curation": {"levels": ["none", "c", "CAT"], "values": [None] * 3, "base": "none"},
}
NOISE = (-0.002, -0.001, 0.0, 0.001, 0.002)


def whole_study(folder, *, alone=True):
    """PSD gains 5 points, 1 with a tenth of the data, and costs 5 % more; CAT loses 3."""
    study = write_facts(folder, methods=["clip", "psd"], axes=AXES, shifts={"emoji": "icons"})
    for seed, noise in enumerate(NOISE):
        x = 0.4 + 10 * noise

        def rows(gain, shift=0.0, *, x=x, noise=noise):
            few = [probe(x + gain, 0, "icons", "zero-shot"), probe(x + gain, 4, "icons")]
            few.append(probe(x + gain + 0.05 + noise, 4, "icons", "from-zero"))
            found = accuracy(x + gain, "icons"), accuracy(x + gain + shift, "emoji")
            return [*found, *few]

        whole = {"pairs": 10_000, "alone": alone}
        write_cell(study, "clip", seed, rows(0.0), seconds_per_step=0.1, **whole)
        psd = rows(0.05 + noise, 0.02 + noise)
        write_cell(study, "psd", seed, psd, seconds_per_step=0.105 + noise / 10, **whole)
        tenth = {"axis": "size", "level": "tenth", "pairs": 1_000}
        write_cell(study, "clip", seed, rows(-0.1), **tenth)
        write_cell(study, "psd", seed, rows(-0.09, 0.02), **tenth)
        for level, gain in (("c", 0.01 - noise), ("CAT", -0.03 + noise)):
            given = {"axis": "curation", "level": level, "pairs": 5_000}
            write_cell(study, "clip", seed, rows(gain), **given)
    return study


def test_a_whole_study_has_its_verdicts(tmp_path):
    found = {one.name: one for one in study_tables(whole_study(tmp_path / "study")).verdicts}
    assert {name: one.verdict for name, one in found.items()} == {
        "psd-zero-shot": "confirmed",
        "psd-linear-probe": "not tried",
        "psd-retrieval": "not tried",
        "psd-growth": "confirmed",
        "psd-robustness": "confirmed",
        "psd-cost": "refuted",
        "c-filter": "confirmed",
        "ca-filter": "not tried",
        "cat-filter": "refuted",
        "cd-zero-shot": "not tried",
        "hn-nce-zero-shot": "not tried",
        "probe-never-below": "confirmed",
        "probe-meets-plain": "refuted",
    }
    # Of both sets, 5 points and 2 more under the shift; 1 and 2 with a tenth.
    assert found["psd-zero-shot"].estimate.value == pytest.approx(0.06)
    assert found["psd-growth"].estimate.value == pytest.approx(0.04)
    assert found["psd-cost"].estimate.value == pytest.approx(1.05, abs=1e-4)
    assert found["cat-filter"].label == "5,000 pairs against 10,000 of none"
    half = T4 * 0.0015811388300841898 / 5**0.5
    cat = found["cat-filter"].estimate
    assert (cat.low, cat.high) == pytest.approx((-0.03 - half, -0.03 + half))


def test_no_cost_is_decided_by_cells_that_ran_beside_each_other(tmp_path):
    tables = study_tables(whole_study(tmp_path / "study", alone=False))
    (cost,) = [one for one in tables.verdicts if one.name == "psd-cost"]
    assert (cost.verdict, cost.estimate) == ("not tried", None)
    assert cost.label == "cells ran beside each other"
    (words,) = [table for table in tables.words if table.key == "verdicts"]
    (row,) = [row for row in words.rows if "no computational cost" in row[0]]
    assert row[1:4] == (
        "not tried",
        "not measured",
        "seconds of a step, psd over the baseline; cells ran beside each other",
    )


def test_a_study_decides_the_claims_that_it_names(tmp_path):
    study = whole_study(tmp_path / "study")
    path = study / "study.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"claims": ["cat-filter", "psd-zero-shot"]}))
    found = {one.name: one.verdict for one in study_tables(study).verdicts}
    assert found == {"psd-zero-shot": "confirmed", "cat-filter": "refuted"}
    path.write_text(json.dumps(facts | {"claims": ["cat"]}))
    with pytest.raises(InputError, match="names the claim 'cat', which nobody makes; there are ps"):
        study_tables(study)


def test_every_claim_has_a_name_and_a_source():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    assert all("arXiv" in claim.source for claim in CLAIMS)
