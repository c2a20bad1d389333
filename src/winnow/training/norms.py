"""How far a step moved the weights, and how large they are: over all ranks' shards."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from winnow.distributed import all_sum


class UpdateNorm:
    """Remembers the weights as they are; asked for after a step, once, says how far it went.

    Until then it holds a copy of all that is trained.
    """

    def __init__(self, towers: nn.Module) -> None:
        self._trained = [p for p in towers.parameters() if p.requires_grad]
        self._before = [_local(p).clone() for p in self._trained]

    @torch.no_grad()
    def row(self) -> dict[str, float]:
        """`update_norm` and `weight_norm` of all that is trained. Collective."""
        now = [_local(p) for p in self._trained]
        torch._foreach_sub_(self._before, now)  # in place: a second copy would be the peak
        return {"update_norm": self._norm(self._before), "weight_norm": self._norm(now)}

    def _norm(self, tensors: Sequence[Tensor]) -> float:
        """Shards are summed over ranks; what every rank has whole is not."""
        # A square of each tensor in float32 is enough: none is summed over more than its elements.
        squares = torch.stack([tensor.float().square().sum() for tensor in tensors])
        is_shard = torch.tensor(
            [isinstance(p, DTensor) for p in self._trained], device=squares.device
        )
        whole = squares[~is_shard].sum()
        if is_shard.any():
            whole = whole + all_sum(squares[is_shard].sum())
        return whole.sqrt().item()


def _local(parameter: Tensor) -> Tensor:
    tensor = parameter.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
