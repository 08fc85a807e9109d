"""Train the digits classifier: `python -m digits.train --head fc`, in this folder's parent.

One thread, seeded windows and deterministic operators: the same seed on the same machine and
torch version gives the same weights, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it

from anysize.errors import AnysizeError
from anysize.files import atomic_output, check_output_path
from anysize.heads import HEAD_KINDS
from anysize.models.assemble import construct
from anysize.models.classifier import Classifier
from anysize.models.seeded_weights import fill_seeded
from digits.crops import draw_crops
from digits.scans import Scans, centred_pixels, load_scans

__all__ = ["TRAINED_HEADS", "main", "measure_accuracy", "train"]

# The other heads load the weights of one of these.
TRAINED_HEADS = tuple(name for name, kind in HEAD_KINDS.items() if kind.checkpoint == name)

_BATCH = 128
_PEAK_RATE = 3e-3


def train(
    head: str,
    scans: Scans,
    *,
    seed: int = 0,
    steps: int = 1200,
    report: Callable[[str], None] | None = None,
) -> Classifier:
    """Train a digits classifier from seeded weights on windows drawn from `scans`.

    Args:
        head: One of `TRAINED_HEADS`.
        scans: The training part of the set.
        seed: Seeds the weights and the windows.
        steps: Batches of 128 windows.
        report: Called with a line of progress every hundred steps.

    Returns:
        The classifier in eval mode.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    try:
        return _train(head, scans, seed=seed, steps=steps, report=report or (lambda _line: None))
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=deterministic)


def _train(
    head: str, scans: Scans, *, seed: int, steps: int, report: Callable[[str], None]
) -> Classifier:
    module = construct("digits", head=head)
    module.to_empty(device="cpu")
    fill_seeded(module, seed)
    module.train()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=_PEAK_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK_RATE, total_steps=steps)
    started = time.perf_counter()
    running = 0.0
    for step in range(1, steps + 1):
        crops = draw_crops(scans, _BATCH, generator)
        logits = module(crops.pixels)
        loss = F.cross_entropy(logits, crops.labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        running += loss.item()
        if step % 100 == 0 or step == steps:
            mean = running / (step % 100 or 100)
            report(f"step {step}/{steps}: loss {mean:.4f}, {time.perf_counter() - started:.0f} s")
            running = 0.0
    return module.eval()


@torch.no_grad()
def measure_accuracy(module: Classifier, scans: Scans) -> float:
    """Return the share of `scans` that are classified right, each centred in the window."""
    logits = module(centred_pixels(scans))
    return float((logits.argmax(1) == scans.labels).float().mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; progress goes to stderr, the result to stdout.

    Returns:
        0; 2 where the arguments cannot be used; 3 where scikit-learn is not installed.
    """
    parser = argparse.ArgumentParser(prog="python -m digits.train")
    parser.add_argument("--head", choices=TRAINED_HEADS, required=True)
    parser.add_argument("-o", "--output", type=Path, help="HEAD.safetensors if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1200, help="batches of 128 windows")
    options = parser.parse_args(arguments)
    output = options.output or Path(f"{options.head}.safetensors")
    try:
        check_output_path(output)
        scans, held_out = load_scans("training"), load_scans("held-out")
        module = train(
            options.head, scans, seed=options.seed, steps=options.steps, report=_to_stderr
        )
        with atomic_output(output) as stream:
            stream.write(safetensors.torch.save(module.state_dict()))
    except AnysizeError as exc:
        _to_stderr(f"error: {exc}")
        return exc.exit_code
    accuracy = measure_accuracy(module, held_out)
    sys.stdout.write(
        f"{output}: {accuracy:.2%} of {len(held_out.labels)} held-out scans are right\n"
    )
    return 0


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
