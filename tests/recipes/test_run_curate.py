"""`winnow curate` and `winnow sweep` as they are put together: sets, slices, names, tables."""

import io
import shutil

import pytest
from rich.console import Console

from winnow import cli
from winnow.curation.summary import Summary
from winnow.curation.sweep import SweepRow, values_of
from winnow.curation.truth import Share, TruthComparison
from winnow.data.folder import Folder
from winnow.recipes import sweep
from winnow.recipes.data import Curate, funnel, planted_table, run_curate
from winnow.types import InputError


def curated(*shards, out, **options):
    """The account of a selection by no rule but what `options` say."""
    options = {"rules": ("none",), "workers": 1} | options
    return run_curate(
        Curate(shards=tuple(map(str, shards)), out=str(out), **options), say=lambda _: None
    )


def index_of(folder):
    (found,) = folder.glob("evaluation-pictures-*.parquet")
    return found


@pytest.fixture
def sets(evaluation_set, shards, tmp_path):
    """Two evaluation sets of one last name; the second is the pairs that are curated."""
    for name, folder in (("a", evaluation_set / "test"), ("b", shards)):
        shutil.copytree(folder, tmp_path / name / "test")
    return str(tmp_path / "a" / "test"), str(tmp_path / "b" / "test")


@pytest.mark.parametrize("order", [1, -1])
def test_every_set_that_is_given_counts(sets, shards, tmp_path, order):
    found = curated(shards, out=tmp_path / "out", against=sets[::order])
    assert found.summary.dropped == {"contaminated": 12}


def test_a_selection_against_sets_has_a_name_of_its_own(sets, shards, tmp_path):
    out = tmp_path / "out"
    assert curated(shards, out=out).directory == out / "selections" / "none"
    assert curated(out=out, against=sets).directory == out / "selections" / "none-against"
    assert Summary.read(out / "selections" / "none").kept == 12
    assert curated(out=out, against=sets, name="mine").directory.name == "mine"


def test_an_index_is_made_once_and_of_other_sets_another(sets, shards, tmp_path):
    out = tmp_path / "out"
    curated(shards, out=out, against=sets)
    made = index_of(out / "annotations")
    before = made.stat()
    curated(out=out, against=sets, name="again")
    assert (made.stat().st_ino, made.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    curated(out=out, against=sets[:1], name="other")
    assert len(list((out / "annotations").glob("*.parquet"))) == 2
    saved = Summary.read(out / "selections" / "again").rules[0]
    assert saved["against"] == str(made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slice": "2/2"}, "no slice of the shards"),
        ({"scores": ("missing.csv",)}, r"missing\.csv cannot be read"),
        ({"against": ("missing",)}, "missing names no shard"),
        ({"rules": ("score:column=taste",)}, "'taste', which nothing fills"),
        ({"name": "../x"}, "cannot be called"),
    ],
)
def test_nothing_is_written_before_the_options_are_checked(sets, shards, tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        curated(shards, out=tmp_path / "out", **({"against": sets} | options))
    assert not (tmp_path / "out").exists()


def test_a_slice_of_no_shards_is_refused(shards, tmp_path):
    curated(shards, out=tmp_path / "out")
    for out in ("out", "new"):
        with pytest.raises(InputError, match="--slice 0/2 is a share of shards, and none are"):
            curated(out=tmp_path / out, slice="0/2")


def test_the_index_for_a_store_is_kept_in_the_cache(sets, shards, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = Folder.at("memory://curated-against")
    try:
        found = curated(shards, out=out, against=sets)
        assert found.summary.dropped == {"contaminated": 12}
        assert index_of(tmp_path / "cache" / "winnow").is_file()
    finally:
        out.remove_tree()


def printed(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_names_out_of_data_are_printed_as_they_are():
    rows = [SweepRow(value="[red]", kept=1, dropped=2, other=3, unknown=0)]
    assert "a.b[/c]" in printed(sweep._table("a.b[/c]=1", rows))
    assert "[red]" in printed(sweep._table("a.b=1", rows))
    summary = Summary(
        selection="mine",
        ledger="",
        seen=2,
        kept=0,
        errors=1,
        errors_by_code={"[/bold]": 1},
        dropped={"score-[nsfw]": 1},
        fired={"score-[nsfw]": 1},
        only={"score-[nsfw]": 1},
        rules=[],
        shards=[],
    )
    nothing = Share(count=0, of=1)
    comparison = TruthComparison(
        recall={"[b]": nothing},
        precision={},
        recall_overall=nothing,
        precision_overall=nothing,
        dropped={},
    )
    assert "[b]" in printed(planted_table(comparison))
    assert "- score-[nsfw]" in printed(funnel(summary))
    assert "- error: [/bold]" in printed(funnel(summary))


def test_a_range_that_runs_backwards_is_refused(shards, tmp_path, capsys):
    with pytest.raises(InputError, match=r"runs backwards and holds no value: write 0\.\.4"):
        values_of("4..0")
    assert values_of("4..4") == ["4"]
    curated(shards, out=tmp_path / "out", rules=("clean",))
    asked = ["caption-length.min_words=4..0", "caption-length.min_words=0..1:0.5"]
    assert [cli.run(["sweep", str(tmp_path / "out"), one]) for one in asked] == [2, 2]
    assert "expected int @ CaptionLength.min_words" in capsys.readouterr().err
