import numpy as np
from curation_samples import ledger_rows

from winnow.curation.corpus import Corpus


def test_facts_are_those_of_a_literal_count():
    random = np.random.default_rng(0)
    samples = [
        {"picture": int(random.integers(40)), "caption": f"caption {random.integers(20)}"}
        for _ in range(300)
    ]
    batches = [
        ledger_rows(*samples[:100], number=0),
        ledger_rows(number=1),
        ledger_rows(*samples[100:], number=2),
    ]
    corpus = Corpus(lambda: batches)
    places = [index if index < 100 else (2 << 32) + index - 100 for index in range(300)]
    pictures: dict[str, set] = {}
    first_picture: dict[int, int] = {}
    first_pair: dict[tuple, int] = {}
    for sample, place in zip(samples, places, strict=True):
        pictures.setdefault(sample["caption"], set()).add(sample["picture"])
        first_picture.setdefault(sample["picture"], place)
        first_pair.setdefault((sample["picture"], sample["caption"]), place)
    rows, asked = batches[2], samples[100:]
    assert corpus.pictures_with_caption(rows).tolist() == [
        len(pictures[s["caption"]]) for s in asked
    ]
    assert corpus.first_with_picture(rows).places.tolist() == [
        first_picture[s["picture"]] for s in asked
    ]
    assert corpus.first_with_pair(rows).places.tolist() == [
        first_pair[s["picture"], s["caption"]] for s in asked
    ]


def test_rows_outside_the_corpus_are_absent():
    corpus = Corpus(lambda: [ledger_rows({"caption": "a cat"})])
    other = ledger_rows({"caption": "a dog", "picture": "another"})
    empty = Corpus(list)
    for facts in (corpus, empty):
        assert facts.pictures_with_caption(other).tolist() == [0]
        assert facts.first_with_picture(other).places.tolist() == [-1]
        assert facts.first_with_pair(other).places.tolist() == [-1]


def test_nothing_is_counted_before_a_rule_asks_and_then_once():
    passes = []

    def survivors() -> list:
        passes.append("one")
        return [ledger_rows({})]

    corpus = Corpus(survivors)
    assert passes == []
    for _ in range(2):
        corpus.first_with_picture(ledger_rows({}))
    assert passes == ["one"]


def test_a_kept_place_and_uid_are_those_of_a_literal_search():
    random = np.random.default_rng(1)
    samples = [{"caption": f"caption {random.integers(60)}"} for _ in range(200)]
    batches = [ledger_rows(*samples[:90], number=3), ledger_rows(*samples[90:], number=7)]
    first: dict[str, tuple[int, str]] = {}
    for rows in batches:
        for row in rows.to_pylist():
            first.setdefault(row["caption"], (row["place"], row["uid"]))
    corpus = Corpus(lambda: batches)
    for rows in batches:
        kept = corpus.first_with_caption(rows)
        found = list(zip(kept.places.tolist(), kept.uids.to_pylist(), strict=True))
        assert found == [first[caption] for caption in rows["caption"].to_pylist()]
    absent = Corpus(list).first_with_caption(batches[0])
    assert set(absent.places.tolist()) == {-1} and absent.uids.null_count == 90
