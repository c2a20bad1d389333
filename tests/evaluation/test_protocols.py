"""The table of protocols, and the places that have to name them without importing it."""

from typing import get_args, get_type_hints

from winnow.evaluation.protocols import PROTOCOLS
from winnow.evaluation.task_table import PROBES
from winnow.recipes.evaluate import Evaluate


def test_the_protocols_that_fit_something_are_the_probes():
    assert tuple(name for name, protocol in PROTOCOLS.items() if protocol.fits) == PROBES


def test_the_command_line_knows_every_protocol():
    (names, _) = get_args(get_type_hints(Evaluate)["protocols"])
    assert get_args(names) == tuple(PROTOCOLS)
