"""Take a step once more that ended a run: which loss term, which gradient is no number?

    python train.py replay runs/<experiment>/<run id>/bad_steps/<step>.ckpt

In 32 bits, on the CPU, from the weights, the batch, the number and the random state that the step began with. Callbacks
take no part: weights of losses that they schedule are those of no schedule.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch

from lightning_modules.callbacks.bad_step import BATCH, RANDOM, STEP, bad_gradients
from lightning_modules.method import HandMethod
from lightning_modules.restore import read_checkpoint, restore_method


def main(arguments: list[str]) -> None:
    """Print what the step finds."""
    parser = argparse.ArgumentParser(prog="train.py replay", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="what the run kept: bad_steps/<step>.ckpt")
    file = parser.parse_args(arguments).file
    try:
        print("\n".join(replay(file)))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


def replay(file: Path) -> list[str]:
    """Lines that say what the kept step computes: inputs, loss terms, and gradients that are no numbers."""
    kept = read_checkpoint(file)
    kinds = {BATCH: dict, RANDOM: torch.Tensor, STEP: int}
    if not all(isinstance(kept.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"{file}: a checkpoint, but not of a step that failed; those lie in a run's bad_steps/")
    method = restore_method(file).train()
    if not isinstance(method, HandMethod):
        raise ValueError(f"{file}: {type(method).__name__} is no HandMethod, whose steps alone can be taken apart")
    torch.set_rng_state(kept[RANDOM])
    method.trainer = SimpleNamespace(global_step=kept[STEP])  # some losses go by the step
    batch = kept[BATCH]
    terms = method.losses(method.estimate(batch), batch)
    terms["total"].backward()
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    wrong = [f"batch {name}: not finite" for name, value in tensors.items() if not bool(value.isfinite().all())]
    lines = [f"{len(batch['key'])} samples: {', '.join(batch['key'])}", *wrong]
    lines += [f"loss {name}: {term.item():g}" for name, term in terms.items()]
    bad = bad_gradients(method)
    return [*lines, *(f"gradient of {name}: not finite" for name in bad)] + (
        [] if bad else ["all gradients are finite"]
    )
