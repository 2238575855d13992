"""The hand layer beside smplx, manotorch and manopth: forward and backward, one process, same threads, rounds in turn.

    python -m benchmarks.hand_layer [--threads 1] [--peers CHECKOUT ...] [--save]

Runs in the peers' environment (`make peers`); started from another one, it starts itself there. Backward means the
gradients of pose, shape and global rotation from random gradients of vertices and joints. Peers run eagerly, as their
users run them. Speed-ups are the fastest peer's time over ours, medians. From 256 hands on, glibc hands freed blocks
back to the system and pays for them again: with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ at 1000000000 every
contender gets faster, those that allocate most by the largest factor.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.peer_layers import Layer, difference, importable_peers
from benchmarks.report import emit
from ops.hand_model import HandLayer, HandModel, open_hand

ROOT = Path(__file__).parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
TOLERANCE = 1e-6  # metres: all contenders must pose the same hand
BATCHES = {"cpu": (32, 256, 1), "cuda": (32, 256, 1024)}
FLOOR_BYTES = 2 * 778 * 3 * 4  # per hand: vertices written once, their gradient read once


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--peers", type=Path, nargs="*", default=[], help="checkouts of manotorch and manopth")
    parser.add_argument("--device", choices=BATCHES, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    if importlib.util.find_spec("smplx") is None:
        _start_in_peers_environment()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = open_hand()
    with tempfile.TemporaryDirectory() as folder:
        peers, missing = importable_peers(model, Path(folder), arguments.peers)
    for peer in peers.values():
        peer.to(arguments.device)
    figures, table = measure(model, peers, arguments.device, arguments.rounds)
    figures |= {"peers": sorted(peers), "peers_not_importable": missing, "threads": arguments.threads}
    emit("hand_layer", figures, table, arguments.save)


def measure(model: HandModel, peers: dict[str, Layer], device: str, rounds: int) -> tuple[dict, Table]:
    """Times of all contenders at every batch size, as figures and as a table."""
    ours = our_layers(model, device)
    graphs_before = _compiled_graphs()
    figures: dict = {}
    table = Table(title=f"hand layer on {device}: ms forward | forward + backward | peak MB of the latter")
    table.add_column("contender")
    rows: dict[str, list[str]] = {name: [] for name in ours | peers}
    for batch in BATCHES[device]:
        table.add_column(f"B = {batch}", justify="right")
        contenders = dict(ours | peers)
        if device == "cuda":
            contenders["ours, triton, graph"] = _graphed(model, batch)
            rows.setdefault("ours, triton, graph", [])
        inputs = hands(batch, device)
        _refuse_different_hands(contenders, peers, inputs)
        forward = _medians({name: _forward(layer, inputs) for name, layer in contenders.items()}, device, rounds)
        both = {name: _forward_backward(layer, inputs) for name, layer in contenders.items()}
        memory = {name: _peak_bytes(step, device) for name, step in both.items()}
        times = _medians(both, device, rounds)
        for name in contenders:
            rows[name].append(f"{forward[name]:.2f} | {times[name]:.2f} | {memory[name] / 1e6:.2f}")
        figures |= _figures(times, memory, set(peers), batch, device)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    if device == "cpu":
        figures["recompilations"] = _recompilations(ours["ours, compiled"], graphs_before)
    else:
        figures["cuda_over_floor_b1024"] = figures["cuda_ms_b1024"] / _floor_ms(1024)
    return figures, table


def our_layers(model: HandModel, device: str) -> dict[str, Layer]:
    """The ways to run our layer, by name."""
    layers = {"ours, eager": HandLayer(model, convention="model").to(device)}
    if device == "cuda":
        layers["ours, triton"] = HandLayer(model, convention="model", backend="triton").to(device)
    layers["ours, compiled"] = torch.compile(HandLayer(model, convention="model").to(device), fullgraph=True)
    return {name: _vertices_and_joints(layer) for name, layer in layers.items()}


def hands(batch: int, device: str) -> tuple[Tensor, ...]:
    """Random pose, shape and global rotation that want gradients."""
    sizes = ((45, 0.3), (10, 1.0), (3, 1.0))
    return tuple((torch.randn(batch, size, device=device) * spread).requires_grad_() for size, spread in sizes)


def _vertices_and_joints(layer: Callable) -> Layer:
    def run(pose: Tensor, shape: Tensor, global_rotation: Tensor) -> tuple[Tensor, Tensor]:
        out = layer(pose, shape, global_rotation)
        return out.vertices, out.joints

    return run


def _graphed(model: HandModel, batch: int) -> Layer:
    """The Triton layer, its kernels recorded once per batch size as CUDA graphs."""
    layer = HandLayer(model, convention="model", backend="triton").cuda()
    return _vertices_and_joints(torch.cuda.make_graphed_callables(layer, hands(batch, "cuda")))


def _forward(layer: Layer, inputs: tuple[Tensor, ...]) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            layer(*inputs)

    return step


def _forward_backward(layer: Layer, inputs: tuple[Tensor, ...]) -> Callable[[], None]:
    with torch.no_grad():
        cotangents = [torch.randn_like(tensor) for tensor in layer(*inputs)]

    def step() -> None:
        torch.autograd.grad(layer(*inputs), inputs, cotangents)

    return step


def _refuse_different_hands(contenders: dict[str, Layer], peers: dict, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        vertices, joints = contenders["ours, eager"](*inputs)
        for name, layer in contenders.items():
            apart = difference(layer, vertices, joints, inputs)
            # float32 sums in another order; a peer's own arithmetic is allowed the same
            if not apart < TOLERANCE:
                raise RuntimeError(f"{name} poses another hand than ours: {apart:.2e} m apart")


def _medians(steps: dict[str, Callable[[], None]], device: str, rounds: int) -> dict[str, float]:
    """Median ms of each step; the steps take turns, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    warm_up = 5
    for turn in range(warm_up + rounds):
        for name, step in steps.items():
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            if turn >= warm_up:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(step: Callable[[], None], device: str) -> int:
    """Largest sum of bytes that torch held at once during a step, beyond what it held before."""
    step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _figures(times: dict, memory: dict, peers: set[str], batch: int, device: str) -> dict[str, float]:
    best_peer = min(times[name] for name in peers)
    figures = {f"{device}_ms_b{batch} {name}": round(times[name], 4) for name in times}
    figures |= {f"{device}_peak_mb_b{batch} {name}": round(memory[name] / 1e6, 3) for name in memory}
    if device == "cpu":
        figures[f"eager_speedup_b{batch}"] = round(best_peer / times["ours, eager"], 3)
        figures[f"compiled_speedup_b{batch}"] = round(best_peer / times["ours, compiled"], 3)
        figures[f"memory_over_best_peer_b{batch}"] = round(
            memory["ours, eager"] / min(memory[name] for name in peers), 3
        )
    else:
        figures[f"cuda_ms_b{batch}"] = min(times[name] for name in times if name not in peers)
        figures[f"cuda_speedup_b{batch}"] = round(best_peer / figures[f"cuda_ms_b{batch}"], 3)
    return figures


def _compiled_graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _recompilations(layer: Layer, before: int) -> dict[str, int]:
    """Graphs compiled for the measured batch sizes, and how many more five unseen sizes cost."""
    measured = _compiled_graphs() - before
    for batch in (7, 33, 64, 100, 300):
        _forward_backward(layer, hands(batch, "cpu"))()
    return {"graphs_measured": measured, "graphs_for_5_more_batch_sizes": _compiled_graphs() - before - measured}


def _floor_ms(batch: int) -> float:
    """Time to move the vertices and their gradient once, at the bandwidth that a large copy reaches here."""
    source, target = torch.empty(2, 2**28, device="cuda")
    copy = _medians({"copy": lambda: target.copy_(source)}, "cuda", 10)["copy"]
    return copy * FLOOR_BYTES * batch / (2 * source.numel() * source.element_size())


def _start_in_peers_environment() -> None:
    if not PEERS_PYTHON.is_file() or Path(sys.executable) == PEERS_PYTHON:
        raise SystemExit("benchmarks.hand_layer compares with smplx, which is not installed; remedy: make peers")
    os.execv(PEERS_PYTHON, [str(PEERS_PYTHON), "-m", "benchmarks.hand_layer", *sys.argv[1:]])


if __name__ == "__main__":
    main()
