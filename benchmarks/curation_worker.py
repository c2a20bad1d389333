"""One worker annotates shards, in a process of its own: what it needs of memory and of time.

The peak is the high-water mark of the resident set (Linux counts it for every program anew), with
Python, the libraries and the models in it.

    python benchmarks/curation_worker.py SHARDS OUT RULES...      prints one line of json
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

# Before numpy is loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from winnow.curation.annotate import annotate
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.annotators.spotting import SpotText
from winnow.curation.rule_specs import read_rules
from winnow.curation.stages import plan_stages
from winnow.data.folder import Folder
from winnow.data.sources import open_source


def main() -> None:
    """Annotate what the command line names."""
    shards, out, *rules = sys.argv[1:]
    stages = plan_stages(read_rules(rules), (ParseCaptions(), SpotText()))
    result = annotate(open_source(shards), Folder.at(out), workers=1, stages=stages)
    print(json.dumps(asdict(result) | {"peak": peak_memory()}))


def peak_memory() -> int:
    """Bytes that this process has had resident at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/self/status has no VmHWM: memory is measured on Linux alone")


if __name__ == "__main__":
    main()
