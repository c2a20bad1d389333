"""The pages in docs/methods say nothing that the code does not: names, defaults, commands, code."""

import ast
import dataclasses
import re
import runpy
import shlex
from pathlib import Path

import pytest

from winnow import cli, models, objectives

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
FILE, NAME = r"(?:[\w-]+/)*[\w-]+\.py", r"\w+(?:\.\w+)*"
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def file_of(path):
    return ROOT / path if path.startswith("tests/") else ROOT / "src" / "winnow" / path


def children(node):
    """What a module or class defines, by name; None where the name stands for no class."""
    found = {}
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            found[child.name] = child
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            found |= {target.id: None for target in targets if isinstance(target, ast.Name)}
    return found


def defines(path, name):
    if not file_of(path).is_file():
        return False
    node = ast.parse(file_of(path).read_text())
    for part in name.split("."):
        if not isinstance(node, ast.Module | ast.ClassDef) or part not in children(node):
            return False
        node = children(node)[part]
    return True


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def default_of(class_name, field_name):
    """As a page writes it: a literal, or a class called with nothing."""
    kind = getattr(objectives, class_name, None) or getattr(models, class_name)
    (field,) = (field for field in dataclasses.fields(kind) if field.name == field_name)
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    default = field.default_factory()
    assert default == type(default)(), "a page can name no other"
    return f"{type(default).__name__}()"


def test_a_name_that_is_not_there_is_noticed():
    assert defines("objectives/engine.py", "contrastive_loss")
    assert defines("objectives/batch.py", "Loss.total")
    assert not defines("objectives/engine.py", "contrastive_gain")
    assert not defines("objectives/engines.py", "contrastive_loss")
    assert not defines("objectives/batch.py", "Loss.sum")
    assert not defines("objectives/batch.py", "Loss.total.real")


@by_page
def test_every_file_and_name_exists(page):
    text = page.read_text()
    named = re.findall(rf"`({FILE}): ({NAME})`", text)
    assert named
    assert [reference for reference in named if not defines(*reference)] == []
    files = re.findall(rf"`({FILE})[:`]", text)
    assert len(files) == text.count(".py`") + text.count(".py: "), "each file is named in one form"
    assert [path for path in files if not file_of(path).is_file()] == []


@by_page
def test_every_default_is_the_code_s(page):
    stated = re.findall(r"\| `([A-Z]\w+)\.(\w+)` \| `([^`]+)`", page.read_text())
    wrong = [row for row in stated if default_of(row[0], row[1]) != row[2]]
    assert wrong == []
    parameters = {
        "hard_negatives": objectives.HardNegativeNCE,
        "concept_distillation": objectives.ConceptDistillation,
        "self_distillation": objectives.ProgressiveSelfDistillation,
        "hard_negative_distillation": objectives.HardNegativeSelfDistillation,
    }.get(page.stem)
    if parameters is not None:
        names = [field.name for field in dataclasses.fields(parameters)]
        assert sorted(names) == sorted(name for _, name, _ in stated)


@by_page
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "methods" / "README.md").read_text()
    assert [page.name for page in PAGES if f"\n| [{page.name}]" not in index] == ["README.md"]


@by_page
def test_every_example_runs(page, tmp_path):
    examples = blocks(page, "python")
    assert examples
    for example in examples:
        script = tmp_path / "example.py"
        script.write_text(example)
        runpy.run_path(str(script))


def test_the_index_s_example_prints_a_line_per_rule(tmp_path, capsys):
    (example,) = blocks(ROOT / "docs" / "methods" / "README.md", "python")
    (tmp_path / "example.py").write_text(example)
    runpy.run_path(str(tmp_path / "example.py"))
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["InfoNCE", "HardNegativeNCE", "ProgressiveSelfDistillation"]
    assert all(0 < float(number) < 10 for line in lines for number in line.split()[1:3])


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "sh")], ids=lambda page: page.stem)
def test_every_command_is_understood(page, monkeypatch, tmp_path):
    trained = []
    monkeypatch.chdir(tmp_path)
    for opening in ("_refuse_missing", "_pairs", "_targets", "_judge", "open_selection"):
        monkeypatch.setattr(f"winnow.recipes.train.{opening}", lambda *_, **__: None)
    monkeypatch.setattr(
        "winnow.recipes.train.train", lambda recipe, *_, **__: trained.append(recipe)
    )
    commands = [shlex.split(line) for block in blocks(page, "sh") for line in block.splitlines()]
    for winnow, *arguments in commands:
        assert winnow == "winnow"
        assert cli.run(arguments) == 0
    assert len(trained) == len(commands)
