"""A training step with each of winnow's rules, against a plain loop with open_clip's ClipLoss.

Same towers, same pictures, same optimizer, same process; peers take turns.

    python benchmarks/step.py [--rounds 10] [--batch-sizes 256 2048]
"""

import argparse
from contextlib import nullcontext

import torch
from harness import Ratio, alternate, ratio_of, report
from open_clip.loss import ClipLoss

from winnow.data.loader import Batch
from winnow.models.towers import Towers
from winnow.objectives import HardNegativeNCE, InfoNCE, ProgressiveSelfDistillation
from winnow.recipes.training import tiny
from winnow.training.mask import Mask
from winnow.training.optimizer import AdamW, build_optimizer
from winnow.training.step import training_step

RULES = {
    "InfoNCE": (InfoNCE(), 1.0),
    "HN-NCE": (HardNegativeNCE(), 0.97),
    "PSD": (ProgressiveSelfDistillation(initial_share=0.2), 0.97),
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[256, 2048])
    arguments = parser.parse_args()
    ratios = [
        ratio
        for batch_size in arguments.batch_sizes
        for ratio in compare(batch_size, arguments.rounds)
    ]
    report("step", ratios, {"towers": "recipe tiny, float32"})


def compare(batch_size: int, rounds: int) -> list[Ratio]:
    """The three rules against the plain loop at one batch size."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = random_batch(batch_size, device)
    peers = {"plain loop, ClipLoss": plain_loop(batch, device)}
    for name, (rule, _) in RULES.items():
        peers[name] = winnow_step(rule, batch, device)
    times = alternate(peers, rounds=rounds)
    return [
        ratio_of(
            times,
            claim=f"training step, batch {batch_size}",
            ours=name,
            theirs="plain loop, ClipLoss",
            aim=aim,
        )
        for name, (_, aim) in RULES.items()
    ]


def random_batch(size: int, device: torch.device) -> Batch:
    """Pictures and captions of the shape that `tiny` trains on."""
    towers = Towers(tiny().model)
    generator = torch.Generator().manual_seed(0)
    side = towers.image_size
    image = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, generator=generator)
    text = towers.tokenize([f"a picture of thing number {i}" for i in range(size)])
    ids = torch.arange(size)
    return Batch(image, text, ids, ids, caption_id_B=ids, image_id_B=None).to(device)


def winnow_step(rule, batch: Batch, device: torch.device):
    """One step of winnow's trainer."""
    torch.manual_seed(0)
    towers, config = Towers(tiny().model).to(device).train(), AdamW()
    optimizer = build_optimizer(towers, config)

    def run() -> None:
        training_step(
            towers,
            optimizer,
            batch,
            rule=rule,
            mask=Mask(),
            step=0,
            progress=1.0,
            seed=0,
            micro_batches=1,
            max_gradient_norm=config.max_gradient_norm,
            precision=nullcontext(),
        )

    return run


def plain_loop(batch: Batch, device: torch.device):
    """The loop one writes around open_clip: forward, ClipLoss, backward, clip, step, clamp."""
    torch.manual_seed(0)
    towers, config = Towers(tiny().model).to(device).train(), AdamW()
    optimizer, loss_function, model = build_optimizer(towers, config), ClipLoss(), towers.clip

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        image, text, scale = model(towers.image_normalizer(batch.image_BCHW), batch.text_BT)
        loss = loss_function(image, text, scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        loss.item()

    return run


if __name__ == "__main__":
    main()
