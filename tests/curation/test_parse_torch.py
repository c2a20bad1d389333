"""Torch stays out of a process that only parses captions, and comes when somebody asks for it."""

import json
import subprocess
import sys

import pytest

from winnow.curation import parse

PARSE = """
import sys
from winnow.curation.parse import parse_captions

def verbs(caption):
    (graph,) = parse_captions([caption])
    return [action.verb for action in graph.actions]
"""
TORCH = "import torch\nprint(torch.ones(3).sum().item())\n"
CLIP = """
from test_clip_score import CAPTIONS, pictures, save, score
from pathlib import Path
from winnow.curation.annotators.clip_score import ClipScore

model = save(Path(sys.argv[1]), 0)
found = score(ClipScore(model=model, batch_size=4), CAPTIONS, pictures(len(CAPTIONS)))
print(found["error"].null_count, len(CAPTIONS))
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_parsing_imports_no_torch_and_leaves_it_importable():
    code = PARSE + "print(*verbs('a dog runs'), 'torch' in sys.modules)\n" + TORCH
    assert run(code + "print(*verbs('a cat sleeps'))") == ["run", "False", "3.0", "sleep"]


@pytest.mark.slow
def test_parsing_after_torch_leaves_it_alone():
    code = TORCH + PARSE + "print(*verbs('a dog runs'), sys.modules['torch'] is torch)\n"
    assert run(code + TORCH) == ["3.0", "run", "True", "3.0"]


@pytest.mark.slow
def test_pictures_are_scored_after_parsing(tmp_path):
    here = f"sys.path.insert(0, {__file__.rpartition('/')[0]!r})\n"
    code = PARSE + "print(*verbs('a dog runs'))\n" + here + CLIP + "print(*verbs('a cat sleeps'))"
    assert run(code, str(tmp_path)) == ["run", "6", "6", "sleep"]


@pytest.mark.parametrize(
    ("meta", "needed"),
    [
        ({"pipeline": ["tagger", "parser"], "requirements": []}, False),
        ({"components": ["transformer", "tagger"]}, True),
        ({"pipeline": ["tagger"], "requirements": ["spacy-curated-transformers>=0.2"]}, True),
        (None, True),
    ],
)
def test_a_pipeline_with_a_transformer_gets_torch(monkeypatch, tmp_path, meta, needed):
    package = tmp_path / "some_pipeline"
    package.mkdir()
    (package / "__init__.py").write_text("")
    if meta is not None:
        (package / "meta.json").write_text(json.dumps(meta))
    monkeypatch.syspath_prepend(tmp_path)
    assert parse._needs_torch("some_pipeline") is needed
