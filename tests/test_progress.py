import re

import pytest

from winnow.progress import track


def test_a_log_ends_with_what_was_done_how_fast_and_the_last_note(capsys):
    with track("reading", total=3, unit="pictures") as advance:
        advance(2, "fine")
        advance(1, "still fine")
    line = capsys.readouterr().err
    assert re.fullmatch(r"reading: 3/3 pictures, [\d,.e+]+ pictures/s, done  still fine\n", line)


def test_units_done_before_are_not_credited_to_this_session(capsys):
    with track("reading", total=10, unit="pictures", done=9):
        pass
    assert "9/10 pictures, 0 pictures/s, estimating" in capsys.readouterr().err


def test_what_stops_the_work_passes_through():
    with pytest.raises(KeyError), track("reading", total=3, unit="pictures"):
        raise KeyError("stop")


def test_nothing_to_do_is_not_worth_a_line(capsys):
    with track("reading", total=4, unit="pictures", done=4):
        pass
    assert capsys.readouterr().err == ""
