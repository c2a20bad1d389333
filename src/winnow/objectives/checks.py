"""What is refused before anything is computed, and on every rank alike.

A rank that stopped alone would leave the others waiting in a collective for ever. So each says what
it has, in one small all-gather of numbers that the CPU knows, and all judge the same facts.
"""

import torch
from torch import Tensor

from winnow.distributed import require_same
from winnow.objectives.pairs import Context
from winnow.objectives.rows import Teacher
from winnow.types import InputError

_MEND_COUNT = (
    "drop the last, smaller batch (drop_last), or choose a batch size that the ranks can share"
)
_MEND_PART = "give it on every rank or on none"


def check_batch(
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    *,
    bias: Tensor | None,
    teacher: Teacher | None,
    context: Context,
    progress: float,
    step: int,
    needs_gradient: bool,
) -> None:
    """Raise InputError, on every rank, for what cannot be one batch of all ranks."""
    problem = (
        _embeddings(image_BD, text_BD)
        or _one_element(scale=scale, bias=bias)
        or _context(context, len(image_BD))
        or _teacher(teacher, image_BD)
        or (None if 0 <= progress <= 1 else f"progress is {progress}; it must lie in [0, 1]")
    )
    parts = {"bias": bias, "teacher": teacher} | vars(context)
    facts = {
        "pairs": (image_BD.shape[0] if image_BD.ndim else 0, _MEND_COUNT),
        "problems with their batch": (int(problem is not None), problem or "see the other ranks"),
        "numbers per embedding": (image_BD.shape[-1] if image_BD.ndim else 0, "take one model"),
        "types of embeddings": (_DTYPES.get(image_BD.dtype, -1), "take one precision"),
        "steps done": (step, "take the same step"),
        "progress, in millionths": (0 if problem else round(progress * 1e6), "take the same step"),
        "seeds": (context.seed, "take one seed"),
        "need of a gradient": (int(needs_gradient), "call backward on all or on none"),
    }
    facts |= {
        name: (int(part is not None), _MEND_PART) for name, part in parts.items() if name != "seed"
    }
    require_same(facts)
    if problem is not None:
        raise InputError(problem)


_DTYPES = {torch.float64: 64, torch.float32: 32, torch.bfloat16: 17, torch.float16: 16}


def _embeddings(image_BD: Tensor, text_BD: Tensor) -> str | None:
    if image_BD.ndim == 2 and image_BD.shape == text_BD.shape and len(image_BD):
        return None
    return (
        f"image embeddings {tuple(image_BD.shape)} and text embeddings {tuple(text_BD.shape)} "
        "must be two (B, D) matrices of the same shape, B > 0"
    )


def _one_element(**given: Tensor | None) -> str | None:
    for name, tensor in given.items():
        if tensor is not None and tensor.numel() != 1:
            return f"{name} has shape {tuple(tensor.shape)}; it must have one element"
    return None


def _context(context: Context, count: int) -> str | None:
    for name in ("sample_id_B", "weight_B", "caption_id_B", "image_id_B"):
        part_B = getattr(context, name)
        if part_B is None:
            continue
        if part_B.shape != (count,):
            return (
                f"{name} of the context has shape {tuple(part_B.shape)}; it must be ({count},), "
                "one for each pair"
            )
        if name != "weight_B" and part_B.dtype != torch.int64:
            return f"{name} of the context is {part_B.dtype}; ids must be int64"
    return None


def _teacher(teacher: Teacher | None, image_BD: Tensor) -> str | None:
    if teacher is None:
        return None
    shapes = tuple(teacher.image_BD.shape), tuple(teacher.text_BD.shape)
    if len(shapes[0]) != 2 or shapes[0] != shapes[1] or shapes[0][0] != len(image_BD):
        return (
            f"the teacher's embeddings {shapes[0]} and {shapes[1]} must be two matrices of the "
            f"same shape, a row for each of the {len(image_BD)} pairs"
        )
    return _one_element(teacher_scale=teacher.scale)
