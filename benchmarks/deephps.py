"""DeepHPS at inference: milliseconds a picture, pictures a second, multiply-adds and parameters of its networks.

    python -m benchmarks.deephps [--save]

Times go from the cropped depth picture to joints and mesh, HPSL included. `small` are the networks of
configs/deephps_rendered.yaml, `paper` those of configs/deephps_paper.yaml. On a GPU the paper's networks run as a CUDA
graph; the paper says 3.7 ms on its own.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.report import emit
from lightning_modules.deephps import DeepHPS
from lightning_modules.networks.trunks import PICTURE_SIZE

NETWORKS = {
    "small": {"pose_trunk": "small", "scale_trunk": "tiny", "shape_trunk": "tiny"},
    "paper": {"pose_trunk": "resnet18", "scale_trunk": "resnet18", "shape_trunk": "resnet18"},
}
THROUGHPUT_BATCH = 256


def pictures(batch: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, cube centres and sides: noise, since no layer's time depends on what it sees."""
    generator = torch.Generator().manual_seed(0)
    depth = 0.45 + 0.3 * torch.rand(batch, 1, PICTURE_SIZE, PICTURE_SIZE, generator=generator)
    centre = torch.tensor([0.05, -0.02, 0.6]).expand(batch, 3)
    return depth.to(device), centre.to(device), torch.full((batch,), 0.3, device=device)


def milliseconds(call: Callable[[], object], repeats: int, device: str) -> float:
    """Median time of `call`, after a tenth as many to warm up."""
    times = []
    for _ in range(repeats // 10 + 2):
        call()
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def multiply_adds(model: nn.Module) -> float:
    """Billions of multiply-adds of convolutions and linear layers for one picture."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        places = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        total += layer.weight.numel() * places

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    model(*pictures(1, "cpu"))
    for hook in hooks:
        hook.remove()
    return total / 1e9


def on_cpu(model: nn.Module, repeats: int) -> dict[str, float]:
    """One picture on one core; a batch on all cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one, many = pictures(1, "cpu"), pictures(THROUGHPUT_BATCH, "cpu")
    single = milliseconds(lambda: model(*one), repeats, "cpu")
    torch.set_num_threads(threads)
    batch = milliseconds(lambda: model(*many), max(repeats // 50, 3), "cpu")
    return {"ms_b1": single, "throughput_b256": 1000 * THROUGHPUT_BATCH / batch}


def on_cuda(model: nn.Module, repeats: int) -> dict[str, float]:
    """The same on a GPU, replayed from CUDA graphs."""
    figures = {}
    for batch in (1, THROUGHPUT_BATCH):
        inputs = pictures(batch, "cuda")
        stream = torch.cuda.Stream()  # capture wants a warm-up on a stream of its own
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(*inputs)
        figures[batch] = milliseconds(graph.replay, repeats, "cuda")
    return {"ms_b1": figures[1], "throughput_b256": 1000 * THROUGHPUT_BATCH / figures[THROUGHPUT_BATCH]}


@torch.inference_mode()
def measure() -> tuple[dict[str, float], Table]:
    """All figures, and the table of them."""
    figures: dict[str, float] = {}
    table = Table(
        "networks", "GMAC", "parameters, M", "device", "ms, batch 1", "pictures/s, batch 256", title="DeepHPS"
    )
    for name, trunks in NETWORKS.items():
        suffix = "" if name == "small" else f"_{name}"
        model = DeepHPS(**trunks).eval().to(memory_format=torch.channels_last)
        facts = {"gmac": multiply_adds(model), "mparams": sum(p.numel() for p in model.parameters()) / 1e6}
        figures |= {f"{fact}{suffix}": round(value, 4) for fact, value in facts.items()}
        results = {"cpu": on_cpu(model, repeats=200 if name == "small" else 50)}
        if torch.cuda.is_available():
            results["cuda"] = on_cuda(model.to("cuda"), repeats=500)
        for device, result in results.items():
            figures |= {f"{device}_{figure}{suffix}": round(value, 3) for figure, value in result.items()}
            cells = [f"{facts['gmac']:.3f}", f"{facts['mparams']:.2f}", device]
            table.add_row(name, *cells, f"{result['ms_b1']:.2f}", f"{result['throughput_b256']:.0f}")
    return figures, table


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/deephps.json")
    arguments = parser.parse_args()
    figures, table = measure()
    emit("deephps", figures, table, arguments.save)


if __name__ == "__main__":
    main()
