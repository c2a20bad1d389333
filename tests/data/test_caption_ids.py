import torch
from torch.nn.functional import pad

from winnow.data.batch import caption_ids

# Numbers whose bytes end in zeros, begin with them, or are of several bytes.
ROWS = [[1, 2, 3], [1, 2, 256], [256, 2, 1], [1, 2, 65536], [1, 2, 0], [2, 1, 0], [49406, 5, 49407]]


def test_captions_have_an_id_each():
    assert len(set(caption_ids(torch.tensor(ROWS)).tolist())) == len(ROWS)


def test_padding_changes_none():
    """Batches are cut behind their longest caption, so a caption comes with more of it or less."""
    tokens = torch.tensor(ROWS)
    for more in (1, 5, 74):
        assert torch.equal(caption_ids(pad(tokens, (0, more))), caption_ids(tokens))
