"""The fused execution: its kernels in a process of their own, and who is turned away here.

Triton decides when it is first imported whether it interprets kernels on the CPU, and other tests
may have imported it: triton_cases.py holds the cases.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_laws import embeddings

from winnow.objectives import InfoNCE, contrastive_loss
from winnow.types import InputError

CASES = Path(__file__).with_name("triton_cases.py")


def run_cases(which):
    """Run the cases that the marker expression takes, on a GPU where there is one."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    if not torch.cuda.is_available():
        names["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-m", which, str(CASES)]
    plain = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run([*command, *plain], env=names, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_kernels_equal_the_dense_execution():
    run_cases("not slow")


@pytest.mark.slow
def test_kernels_equal_the_dense_execution_in_the_other_cases():
    run_cases("slow")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_tiled_is_named():
    image, text = (t.float() for t in embeddings())
    with pytest.raises(InputError, match=r"on a CUDA device.*'cpu'.*execution 'tiled'"):
        contrastive_loss(InfoNCE(), image, text, torch.tensor(5.0), execution="triton")


def test_without_triton_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    image, text = (t.float() for t in embeddings())
    with pytest.raises(InputError, match="package triton, which is not installed"):
        contrastive_loss(InfoNCE(), image, text, torch.tensor(5.0), execution="triton")
