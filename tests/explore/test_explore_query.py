import pytest

from winnow.explore.query import MOST_TEXT, Query, QueryError, read_query


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        ({}, Query()),
        ({"text": " ", "page": ""}, Query()),
        ({"text": "a cat", "page": "3"}, Query(text="a cat", order="nearest", page=3)),
        ({"like": "17", "show": "dropped"}, Query(like=17, show="dropped", order="nearest")),
        ({"upload": "ab" * 16, "order": "belief"}, Query(upload="ab" * 16, order="belief")),
        # There is nothing to be near to.
        ({"key": "0001", "order": "nearest"}, Query(key="0001", order="ledger")),
        ({"order": "cosine", "reason": "caption-url"}, Query(order="cosine", reason="caption-url")),
        ({"page": "0"}, Query(page=1)),
    ],
)
def test_an_address_means_one_query(parameters, query):
    assert read_query(parameters) == query


@pytest.mark.parametrize(
    "parameters",
    [
        {"text": "a cat", "like": "3"},
        {"text": "x" * (MOST_TEXT + 1)},
        {"show": "everything"},
        {"order": "random"},
        {"upload": "../../etc/passwd"},
        {"upload": "AB" * 16},
        *(
            {"like": bad}
            for bad in ("-1", "+1", "1e3", "1_0", "01", "٣", "9" * 10, "9" * 5000, "1\0")
        ),
        {"page": "1.5"},
    ],
)
def test_anything_else_is_refused(parameters):
    with pytest.raises(QueryError):
        read_query(parameters)
