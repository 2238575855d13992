"""The network of a method as ONNX, for programs without PyTorch: checked against PyTorch, timed beside it.

    python predict.py export --onnx hand.onnx [--ckpt runs/.../best.ckpt]

The graph takes what the method sees, crops of right hands (fields of the batch contract: pictures, K, the cube), any
number at once, and gives what the method's network says: joints and, where it has them, vertices, both in metres in
the camera's frame, part maps, rotations. Cropping, mirroring left hands and DHPE's refinement by descent are outside.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.batch import RIGHT, HandBatch
from lightning_modules.method import HandMethod
from lightning_modules.restore import restore_method
from ops.checks import require_module
from ops.hand_model import HandLayer, open_hand
from ops.render.labels import face_parts, render_labels

LARGEST_DIFFERENCE = 1e-4  # metres, and whatever else is said
MOST_AT_ONCE = 1024  # crops
_FLIPPED = 1e-3  # share of a part map's pixels that rounding may decide otherwise
_RUNS = 20  # timed
_AWAY, _CUBE = 0.6, 0.3  # metres, of the examples


class Checked(NamedTuple):
    """How far ONNX and PyTorch agree, and how fast they are."""

    difference: float  # the largest of all outputs that are numbers
    flipped: float  # share of labels that differ
    torch_ms: float  # median of a single crop
    onnx_ms: float


def main(words: list[str]) -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(
        prog="predict.py export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", type=Path, required=True, help="file to write")
    parser.add_argument("--ckpt", type=Path, help="checkpoint or weights (default: the newest best, else weights/)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    arguments = parser.parse_args(words)
    try:
        if arguments.onnx.exists() and not arguments.overwrite:
            raise FileExistsError(f"{arguments.onnx}: there already; give --overwrite or another --onnx")
        for module in ("onnx", "onnxscript", "onnxruntime"):
            require_module(module, "predict.py export", f"{sys.executable} -m pip install {module} -c constraints.txt")
        from lightning_modules.predicting import default_checkpoints

        checkpoint = arguments.ckpt or default_checkpoints()[0]
        print(f"checkpoint  {checkpoint}")
        method = restore_method(checkpoint)
        export(method, arguments.onnx)
        checked = check(method, arguments.onnx)
    except (ValueError, OSError, ImportError) as error:
        print(f"predict.py export: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"wrote       {arguments.onnx}, {arguments.onnx.stat().st_size / 1e6:.1f} MB: {type(method).__name__}")
    print(f"agreement   within {checked.difference:.1e} of PyTorch, labels but for {checked.flipped:.4%} of pixels")
    print(
        f"latency     of one crop: PyTorch {checked.torch_ms:.2f} ms ({torch.get_num_threads()} threads), onnxruntime "
        f"{checked.onnx_ms:.2f} ms; medians of {_RUNS}"
    )


class Network(nn.Module):
    """A method as a function of tensors."""

    def __init__(self, method: HandMethod) -> None:
        super().__init__()
        self.method = method

    # named one by one: shapes that may change are not recognised behind *fields
    def forward(
        self, first: Tensor, second: Tensor, third: Tensor | None = None, fourth: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """What the method exports, of its fields in their order."""
        batch = HandBatch(zip(self.method.export_fields, (first, second, third, fourth), strict=False))
        return tuple(self.method.exported(batch).values())


def export(method: HandMethod, path: Path) -> None:
    """Write the network of a method.

    Args:
        method: with `exported`.
        path: the file.
    """
    network = Network(method.eval())
    batch = example_batch(method, 3)
    fields = tuple(batch[name] for name in method.export_fields)
    with torch.no_grad():
        names = list(method.exported(batch))
        at_once = torch.export.Dim("batch", min=1, max=MOST_AT_ONCE)
        torch.onnx.export(
            network,
            fields,
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=list(method.export_fields),
            output_names=names,
            dynamic_shapes=tuple({0: at_once} for _ in fields),
        )


def check(method: HandMethod, path: Path) -> Checked:
    """Run both on other examples, one and several at once.

    Raises:
        ValueError: they differ.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    difference, flipped = 0.0, 0.0
    for count in (1, 4):
        batch = example_batch(method, count, seed=count)
        feeds = {name: batch[name].numpy() for name in method.export_fields}
        with torch.no_grad():
            expected = method.exported(batch)
        for (name, values), got in zip(expected.items(), session.run(None, feeds), strict=True):
            if values.is_floating_point():
                difference = max(difference, float(np.abs(got - values.numpy()).max()))
            else:
                flipped = max(flipped, float((got != values.numpy()).mean()))
            if difference > LARGEST_DIFFERENCE or flipped > _FLIPPED:
                raise ValueError(
                    f"{path}: onnxruntime says another '{name}' than PyTorch: numbers differ by {difference:.2g} "
                    f"(expected {LARGEST_DIFFERENCE:g} at most), {flipped:.2%} of labels do; report it"
                )
    batch = example_batch(method, 1)
    feeds = {name: batch[name].numpy() for name in method.export_fields}
    with torch.no_grad():
        torch_ms = _median_ms(lambda: method.exported(batch))
    return Checked(difference, flipped, torch_ms, _median_ms(lambda: session.run(None, feeds)))


def example_batch(method: HandMethod, count: int, seed: int = 0) -> HandBatch:
    """Crops of bent open hands at 0.6 m, right ones; as colours, shaded by their depth before coloured noise.

    Args:
        method: says the crop's size.
        count: of hands.
        seed: of poses.
    """
    size, model = method.crop_size, open_hand()
    generator = torch.Generator().manual_seed(seed)
    pose, turn = (0.3 * torch.randn(count, numbers, generator=generator) for numbers in (45, 3))
    vertices = HandLayer(model)(pose, torch.zeros(count, 10), turn).vertices
    vertices = vertices - vertices.mean(1, keepdim=True) + torch.tensor([0.02, -0.01, _AWAY])
    focal = _AWAY / _CUBE * size
    K = torch.tensor([[focal, 0, (size - 1) / 2], [0, focal, (size - 1) / 2], [0, 0, 1]]).expand(count, 3, 3)
    faces = torch.from_numpy(model.faces)
    parts = face_parts(torch.from_numpy(model.part_labels), faces)
    depth, _ = render_labels(vertices.contiguous(), faces, K.contiguous(), (size, size), parts)
    noise = torch.rand(count, 3, size, size, generator=generator)
    return HandBatch(
        depth=depth,
        rgb=torch.where(depth > 0, (1.2 - depth) * torch.tensor([1.0, 0.8, 0.7])[:, None, None], 0.5 * noise),
        K=K.contiguous(),
        cube_centre=torch.tensor([0.0, 0, _AWAY]).expand(count, 3).contiguous(),
        cube_side=torch.full((count,), _CUBE),
        side=torch.full((count,), RIGHT),
        mirrored=torch.zeros(count, dtype=torch.bool),
        has_rgb=torch.ones(count, dtype=torch.bool),
        has_depth=torch.ones(count, dtype=torch.bool),
        key=[f"example/{i}" for i in range(count)],
    )


def _median_ms(run: Callable[[], object]) -> float:
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
