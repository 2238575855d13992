"""The card beside a file of weights: what it was trained on and how, how good it is, where its limits are.

Every value is read: from the run's config.yaml, metrics.csv and checkpoint, from the file of weights itself, and from
figures on real pictures that a command wrote.
"""

import csv
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml

from lightning_modules.callbacks.checkpoints import FACTS
from lightning_modules.callbacks.final_table import ALIGNMENTS, error_rows
from lightning_modules.checkpoint_io import write_whole
from lightning_modules.restore import restore_method
from lightning_modules.run_folder import folder_of_checkpoint
from lightning_modules.weights import read_weights

_DATA = ("domains", "datasets", "sources", "crop", "modalities", "hide", "batch_size", "image_size")  # options told
_LIMITS = {
    "depth": "It expects one hand within 0.1 to 2 m, nearer than what is around it, and no object in it.",
    "rgb": "It expects one hand in a box around it. Metric distance follows from the focal length and an assumed bone "
    "length: a colour picture does not say how large a hand is.",
}

_BOARD = "[docs/board.md](../docs/board.md) measures weights that take photographs, all on the same ones."


def write_card(checkpoint: Path, weights: Path, real: Sequence[Path] = ()) -> None:
    """Write `<name>.md` beside `<name>.safetensors`.

    Args:
        checkpoint: that the weights were made of, in its run's folder.
        weights: the file.
        real: JSON files with `figures` or `errors_mm` of real pictures; each becomes a table.
    """
    folder = folder_of_checkpoint(checkpoint)
    assert folder is not None  # `convert` refused others
    stored = read_weights(weights)
    method = restore_method(weights)
    config = yaml.safe_load(stored["config"])
    modality = "rgb" if "rgb" in method.source_needs["every"] else "depth"
    facts = _facts(checkpoint, weights, config, stored)
    lines = [
        f"# {weights.stem}: {type(method).__name__}",
        "",
        "Written by `python -m lightning_modules.weights`; `make weights` trains and writes it anew.",
        "",
        *_table(("", ""), facts.items()),
        "",
        "## On the rendered test split",
        "",
        *_test_tables(folder / "metrics.csv"),
        "",
        "## On real pictures, which it was never trained on",
        "",
        *(line for path in real for line in _real_table(path)),
        *([] if real else [_BOARD if modality == "rgb" else "Not measured."]),
        "",
        "## Limits",
        "",
        "Trained on rendered hands alone, of people that artists' shapes make up: no measured population. "
        + _LIMITS[modality]
        + " A small network for two CPU cores: configurations with the paper's sizes are in `configs/`.",
        "",
    ]
    write_whole(weights.with_suffix(".md"), "\n".join(lines).encode())


def _facts(checkpoint: Path, weights: Path, config: dict, stored: dict) -> dict[str, str]:
    data = config["data"]
    told = {name: data["init_args"][name] for name in _DATA if data["init_args"].get(name) is not None}
    trained = torch.load(checkpoint, map_location="cpu", weights_only=True)
    clock = trained.get("callbacks", {}).get("RunReport")
    hours = (
        "not known" if clock is None else f"{clock['seconds'] / 3600:.1f} of training, beside whatever else ran there"
    )
    numbers = sum(value.numel() for value in stored["state_dict"].values() if isinstance(value, torch.Tensor))
    return {
        "class": f"`{stored[FACTS]['class_path']}`",
        "data": f"`{data['class_path']}`, " + ", ".join(f"{name} {_flat(value)}" for name, value in told.items()),
        "steps": f"{trained['global_step']} of {config['trainer']['max_steps']}, seed {config['seed_everything']}",
        "hours": hours,
        "machine": _machine(),
        "numbers": f"{numbers / 1e6:.1f} million in {weights.stat().st_size / 1e6:.1f} MB, `{weights.name}` "
        f"sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()[:16]}",
        "hand model": f"`{stored[FACTS]['hand_model']}`",
        "commit": stored["commit"],
        "licence": "the project's (Apache-2.0); the hand model is CC0",
    }


def _machine() -> str:
    """The processor here: runs do not write down theirs."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores{gpu}; that of the conversion"


def _test_tables(metrics: Path) -> list[str]:
    """The errors of the last test of metrics.csv; of the best validation where the run was not tested."""
    with open(metrics, newline="") as file:
        logged = list(csv.DictReader(file))
    tests = [row for row in logged if row.get("test/joints_root_mm")]
    judged = [row for row in logged if row.get("val/joints_root_mm")]
    if not tests and not judged:
        return ["The run was neither tested nor validated."]
    stage = "test/" if tests else "val/"
    last = tests[-1] if tests else min(judged, key=lambda row: float(row["val/joints_root_mm"]))
    named = {"test/" + name.removeprefix(stage): value for name, value in last.items() if name.startswith(stage)}
    rows = error_rows({name: float(value) for name, value in named.items() if value})
    cells = [
        (f"{domain or 'all'}: {what.replace('_', ' ')}", *(f"{errors[key]:.1f}" for key in ALIGNMENTS if key in errors))
        for (domain, what), errors in rows.items()
    ]
    whole = [row for row in cells if len(row) == 1 + len(ALIGNMENTS)]
    said = [] if tests else ["Not tested yet; this is its best validation, on few rendered hands.", ""]
    return said + _table(("mm", *ALIGNMENTS.values()), whole)


def _real_table(path: Path) -> list[str]:
    """A file of figures as a table under what it is of."""
    found = json.loads(path.read_text())
    figures: Mapping[str, object] = found.get("figures") or found.get("errors_mm") or {}
    if not figures:
        raise ValueError(f"--real {path}: expected 'figures' or 'errors_mm', got {', '.join(found)}; leave it out")
    told = found.get("of") or Path(str(found.get("picture", path.stem))).name
    values = [(name, f"{value:.1f}" if isinstance(value, float) else str(value)) for name, value in figures.items()]
    return [f"{told}:", "", *_table(("mm", ""), values), ""]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _flat(value: object) -> str:
    return json.dumps(value).replace('"', "") if isinstance(value, dict | list) else str(value)
