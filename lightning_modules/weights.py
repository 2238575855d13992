"""A trained method as one small file: tensors in half precision, and in the header what builds the method again.

    python -m lightning_modules.weights runs/<experiment>/<run>/checkpoints/best.ckpt weights/<name>.safetensors

The header is text: the facts of a checkpoint (class, arguments, hand model) as JSON, the run's config.yaml, the commit.
Nothing in the file can run. Matrices and kernels are kept in 16 bits, where their smallest step is a thousandth of a
weight; what normalises (vectors) keeps its 32. What --eight-bits names is kept in steps of 1/127 of the largest weight
of a matrix's column or of a channel's kernel. The card beside it, weights/<name>.md, is written from the run's folder.
"""

import argparse
import json
import sys
from fnmatch import filter as filter_names
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_modules.callbacks.checkpoints import FACTS, check_facts, is_plain
from lightning_modules.checkout import commit
from lightning_modules.checkpoint_io import write_whole
from lightning_modules.run_folder import folder_of_checkpoint

SUFFIX = ".safetensors"
FOLDER = Path(__file__).parent.parent / "weights"  # those that come with the project
HEADER, _SAID = "header_json", "said"
_SCALE = ".scale_of_eight_bits"
_STEPS = 127  # of eight bits, to either side of 0


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a file that train.py wrote, in its run's folder")
    parser.add_argument("weights", type=Path, help="file to write, .safetensors; the card goes beside it, .md")
    parser.add_argument("--eight-bits", nargs="*", default=[], help="large matrices to keep in eight bits")
    parser.add_argument("--real", nargs="*", type=Path, default=[], help="figures on real pictures, JSON files")
    arguments = parser.parse_args()
    try:
        convert(arguments.checkpoint, arguments.weights, arguments.eight_bits)
        from lightning_modules.weights_card import write_card

        write_card(arguments.checkpoint, arguments.weights, arguments.real)
    except (ValueError, OSError) as error:
        print(f"weights: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def convert(checkpoint: Path, target: Path, eight_bits: list[str] | tuple[str, ...] = ()) -> None:
    """Write the weights of a checkpoint to `target`.

    Args:
        checkpoint: a file that train.py wrote.
        target: ends in .safetensors.
        eight_bits: names, or patterns such as decoders.*.weight, of tensors to keep in eight bits: matrices (..., N, M)
            with a scale for each column of N, kernels (O, I, H, W) with one for each channel of O.
    """
    from lightning_modules.restore import restore_method

    if target.suffix != SUFFIX:
        raise ValueError(f"weights {target}: expected a name that ends in {SUFFIX}; name it so")
    method = restore_method(checkpoint)  # refuses what could not be restored later
    state = method.state_dict()
    matrices = [name for name, value in state.items() if _is_matrix(value)]
    if unknown := [pattern for pattern in eight_bits if not filter_names(matrices, pattern)]:
        raise ValueError(f"--eight-bits: {', '.join(unknown)}: no such matrix in {checkpoint}; leave it out")
    small = {name for pattern in eight_bits for name in filter_names(matrices, pattern)}
    tensors: dict[str, Tensor] = {}
    said = {name: value for name, value in state.items() if not isinstance(value, Tensor)}  # ids that modules check
    for name, tensor in state.items():
        if name in said:
            continue
        if name in small:
            tensors[name], tensors[name + _SCALE] = _in_eight_bits(tensor)
        else:
            tensors[name] = _in_half(tensor)
    facts = check_facts(torch.load(checkpoint, map_location="cpu", weights_only=True), checkpoint)
    header = {FACTS: facts, _SAID: said, "config": run_config(checkpoint), "commit": commit()}
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {HEADER: _plain_json(header)})
    write_whole(target, content)


def read_weights(path: Path) -> dict[str, Any]:
    """What a file of weights holds, as of a checkpoint: the facts of its method and a state_dict, in 32 bits."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(
            f"weights {path}: cannot be read ({str(error).splitlines()[0]}); get the file again, or make weights"
        ) from error
    if not isinstance(header, dict) or not isinstance(header.get(_SAID, {}), dict):
        raise ValueError(
            f"weights {path}: expected facts as a JSON object in its header; make weights writes such a file"
        )
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(_SCALE)}
    for name, scale in scales.items():
        whole = tensors.get(name.removesuffix(_SCALE))
        if whole is None:
            raise ValueError(f"weights {path}: '{name}' without its matrix; get the file again")
        tensors[name.removesuffix(_SCALE)] = whole.float() * scale
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return {**header, "state_dict": state | header.get(_SAID, {})}


def run_config(checkpoint: Path) -> str:
    """The text of the config.yaml of a checkpoint's run, but for the folder of all runs, which is this machine's."""
    folder = folder_of_checkpoint(checkpoint)
    config = folder / "config.yaml" if folder else None
    if config is None or not config.is_file():
        raise FileNotFoundError(
            f"checkpoint {checkpoint}: expected in checkpoints/ of a run's folder that has config.yaml; put it there"
        )
    return "".join(line for line in config.read_text().splitlines(True) if not line.startswith("runs:"))


def _plain_json(header: dict[str, Any]) -> str:
    """Sorted, so that the same checkpoint gives the same bytes."""
    if not is_plain(header):
        raise ValueError("checkpoint: its state holds more than tensors and plain values; it cannot become weights")
    return json.dumps(header, sort_keys=True)


def _is_matrix(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def _in_half(tensor: Tensor) -> Tensor:
    """Matrices and kernels in 16 bits, if none of them overflows."""
    if not _is_matrix(tensor):
        return tensor
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


def _in_eight_bits(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """(..., N, M) int8 and its scale (..., 1, M); kernels (O, I, H, W) have one for each of O."""
    of_one_scale = (1, 2, 3) if tensor.ndim == 4 else -2
    scale = tensor.abs().amax(of_one_scale, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / _STEPS
    return (tensor / scale).round().to(torch.int8), scale


if __name__ == "__main__":
    main()
