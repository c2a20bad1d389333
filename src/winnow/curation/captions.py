"""Captions as the rules compare them: the letters and words, not how they were typed."""

import pyarrow as pa
import pyarrow.compute as pc


def normalised(captions: pa.Array) -> pa.Array:
    """Captions in compatible Unicode (NFKC), lower case, with single spaces and none around."""
    plain = pc.utf8_lower(pc.utf8_normalize(captions, form="NFKC"))
    # Matching only what has to change is ten times faster than matching every space.
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, r"\s{2,}|[^\S ]", " "))


def num_words(normalised_captions: pa.Array) -> pa.Array:
    """int32: what spaces separate; 0 in a blank caption."""
    is_blank = pc.equal(normalised_captions, "")
    return pc.subtract(
        pc.add(pc.count_substring(normalised_captions, " "), 1), pc.cast(is_blank, pa.int32())
    )


def bare(captions: pa.Array) -> pa.Array:
    """Normalised captions without punctuation, and without digits around: "Image #12." is image."""
    spaced = pc.replace_substring_regex(normalised(captions), r"[^\p{L}\p{M}\p{N} ]+", " ")
    core = pc.replace_substring_regex(spaced, r"^[^\p{L}]+|[^\p{L}\p{M}]+$", "")
    return pc.replace_substring_regex(core, " {2,}", " ")
