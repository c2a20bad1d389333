import math

import pytest

from winnow.training.loss_scale import LossScale
from winnow.types import InputError


def test_it_halves_where_gradients_overflow_and_doubles_where_they_long_do_not():
    scale = LossScale(64.0, growth_steps=3)
    norms = [1.0, math.inf, 1.0, 1.0, 1.0, math.nan, 2.0]
    values, accepted = [], []
    for norm in norms:
        accepted.append(scale.accepts(norm))
        values.append(scale.value)
    assert accepted == [True, False, True, True, True, False, True]
    assert values == [64, 32, 32, 32, 64, 32, 32]
    assert scale.skipped == 2


def test_it_goes_on_from_what_it_saved():
    one, other = LossScale(64.0, growth_steps=3), LossScale(1.0, growth_steps=3)
    for norm in (1.0, math.inf, 1.0):
        one.accepts(norm)
    other.restore(one.state())
    for norm in (1.0, 1.0, math.inf):
        assert one.accepts(norm) == other.accepts(norm)
        assert one.state() == other.state()


def test_gradients_that_overflow_at_any_factor_stop_the_run():
    scale = LossScale(2.0**-9)
    assert not scale.accepts(math.inf)
    with pytest.raises(InputError, match="overflow in fp16"):
        scale.accepts(math.inf)
