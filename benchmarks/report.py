"""What every benchmark prints and stores: a table, then one JSON line with the machine it ran on."""

import json
import os
import platform
import subprocess
from pathlib import Path

import torch
from rich.console import Console, RenderableType

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str | int]:
    """CPU and GPU model, cores, and the versions that matter to a timing."""
    facts: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = str(torch.version.cuda)
    return facts


def emit(name: str, figures: dict, table: RenderableType, save: bool, measured: Path = RESULTS) -> None:
    """Print the table and, last, one JSON line; store it under `results/` if asked.

    Args:
        name: the benchmark's name, also that of its file.
        figures: figure name to number (or list, or text where a figure is a fact such as a peer's version).
        table: what a reader sees.
        save: write `results/<name>.json`, or `results/<name>_<gpu>.json` where there is a GPU.
        measured: a folder of the checkout that was measured, whose commit is named.
    """
    result = {"benchmark": name, "commit": commit(measured), "machine": machine(), "figures": figures}
    Console(width=None if os.isatty(1) else 120).print(table)
    if save:
        gpu = result["machine"].get("gpu")
        stem = f"{name}_{str(gpu).replace(' ', '-')}" if gpu else name
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result), flush=True)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit(folder: Path = RESULTS) -> str:
    """Short name of the commit in `folder`'s checkout, with -dirty where tracked files but results differ from it."""
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)benchmarks/results"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
