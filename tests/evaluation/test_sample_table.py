import numpy as np
import pytest

from winnow.evaluation.sample_table import SAMPLES_FILE, SampleTable
from winnow.evaluation.sets import Sample
from winnow.types import InputError

NOTHING = Sample("", b"", (), (), (), None)
SAMPLES = [
    NOTHING._replace(key="a", labels=(2,), captions=("one", "two", "one")),
    NOTHING._replace(key="b", labels=(0,), captions=("two",)),
]


def kept(samples, folder):
    SampleTable.of(samples).write(folder)
    return SampleTable.read(folder)


def test_a_table_reads_back(tmp_path):
    table = kept(SAMPLES, tmp_path)
    assert table.keys == ("a", "b")
    assert table.label_N.tolist() == [2, 0]
    assert table.captions.texts == ("one", "two")
    assert table.captions.pair_P2.tolist() == [[0, 0], [0, 1], [1, 1]]


def test_several_labels_become_a_matrix(tmp_path):
    samples = [NOTHING._replace(labels=labels) for labels in ((0, 2), (), (1,))]
    expected = [[True, False, True], [False] * 3, [False, True, False]]
    np.testing.assert_array_equal(kept(samples, tmp_path).label_NK(3), expected)


def test_statements_and_answers_read_back(tmp_path):
    samples = [
        NOTHING._replace(statements=("no", "yes"), answer=1),
        NOTHING._replace(statements=("yes", "b", "c"), answer=0),
    ]
    texts, asked = kept(samples, tmp_path).statements
    assert texts == ("no", "yes", "b", "c")
    assert asked.starts.tolist() == [0, 2, 5]
    assert asked.text_S.tolist() == [0, 1, 1, 2, 3]
    assert asked.answer_N.tolist() == [1, 0]


def test_a_damaged_table_says_what_to_delete(tmp_path):
    (tmp_path / SAMPLES_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"samples\.parquet is missing or damaged.*delete"):
        SampleTable.read(tmp_path)
