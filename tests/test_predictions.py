import pyarrow as pa
import pytest

from winnow.predictions import cutoff, hits_of, ranks, split_direction


def test_hits_are_ranks_up_to_the_cutoff():
    table = pa.table({"key": ["a", "b", "c"], "label": [0, 1, 2], "rank": [1, 5, 6]})
    assert hits_of(table, "top1") == {"a": True, "b": False, "c": False}
    assert hits_of(table, "top5") == {"a": True, "b": True, "c": False}
    with pytest.raises(ValueError, match="mean_per_class is no share of hits"):
        hits_of(table, "mean_per_class")


def test_retrieval_has_the_queries_of_its_direction_alone():
    ways = ["image_to_text", "text_to_image", "image_to_text"]
    table = pa.table({"direction": ways, "query": ["p1", "a cat", "p2"], "rank": [2, 1, 11]})
    assert hits_of(table, "image_to_text_recall@10") == {"p1": True, "p2": False}
    assert hits_of(table, "text_to_image_recall@1") == {"a cat": True}
    assert ranks(table, "image_to_text_median_rank").rank_Q.tolist() == [2, 11]


@pytest.mark.parametrize(
    ("metric", "within", "direction"),
    [
        ("top1", 1, ""),
        ("image_to_text_recall@10", 10, "image_to_text"),
        ("text_to_image_median_rank", None, "text_to_image"),
        ("map_11_point", None, ""),
        ("topmost", None, ""),
    ],
)
def test_a_metric_s_name_says_its_cutoff_and_direction(metric, within, direction):
    assert cutoff(metric) == within
    assert split_direction(metric)[0] == direction
