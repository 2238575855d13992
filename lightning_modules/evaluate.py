"""Judge predictions by a named protocol: a table, then one JSON line.

    python -m lightning_modules.evaluate --protocol nyu-14 --predictions runs/.../predictions/nyu.npz \\
        --ground-truth nyu_test_groundtruth_label.txt.xz [--plot curve.png] [--save figures.json]

Files are understood by their ending:
  .txt .txt.xz  the published layout: a line per frame, u v d per point, pixels and mm (nyu-14, icvl-16, msra-21)
  .npz          predictions of a test, or labels, which `python -m datamodules.labels` writes: `keys` (N,) with `points`
                (N, P, 3) or `joints_3d` (N, 21, 3) in metres, camera frame; `visible` (N, 21) bool; `vertices`
                (N, V, 3); `parts` (N, H, W)
  .mat          NYU's own test_predictions.mat, array `pred_joint_uvconf` (nyu-14-px)
Samples are matched by key where both files have keys; a file without is in the order of the other's keys. Joints of two
conventions are refused, or converted to the one that --convention names.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightning_modules.evaluation_pairs import evaluate_files
from lightning_modules.protocols import PROTOCOLS, EvalUtil, Protocol, protocol, result_of
from ops.hand_model.conventions import convention_names


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--protocol", required=True, choices=PROTOCOLS, help="how to measure")
    add("--predictions", required=True, type=Path, help="what to judge (.npz, .txt, .txt.xz, .mat)")
    add("--ground-truth", required=True, type=Path, help="the labels (.npz, .txt, .txt.xz)")
    add(
        "--scale",
        choices=("as predicted", "ground truth"),
        default="as predicted",
        help="of the *-eval-util protocols: 'ground truth' multiplies by the true length of middle MCP-PIP",
    )
    add(
        "--convention",
        choices=convention_names(),
        help="joint convention to compare in where the two files' differ: the other file's joints are converted",
    )
    add("--plot", type=Path, help="PNG of the success curve before published ones")
    add("--save", type=Path, help="write the JSON line to a file, too")
    arguments = parser.parse_args()
    try:
        result = evaluate(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print_table(result)
    print(json.dumps(result, allow_nan=False))


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of the command line's files; plots and saves where asked."""
    for path in (arguments.plot, arguments.save):
        if path is not None and path.exists():
            raise FileExistsError(f"{path}: there already; remove it or name another file")
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: no such folder for {path.name}; make it first")
    metric = chosen(arguments.protocol, arguments.scale)
    evaluate_files(arguments.predictions, arguments.ground_truth, metric, arguments.convention)
    result = result_of(metric, metric.compute(), arguments.predictions, arguments.ground_truth)
    if arguments.plot is not None:
        from lightning_modules.success_plot import plot_success  # matplotlib takes a second to import

        plot_success(arguments.plot, result)
    if arguments.save is not None:
        arguments.save.write_text(json.dumps(result, allow_nan=False) + "\n")
    return result


def chosen(name: str, scale: str) -> Protocol:
    """The protocol, with the scale where it has the choice."""
    metric = protocol(name)
    if isinstance(metric, EvalUtil):
        return EvalUtil(metric.dataset, scale)
    if scale != "as predicted":
        raise ValueError(f"scale: '{name}' has no choice; leave --scale out")
    return metric


def print_table(result: dict[str, Any]) -> None:
    """Rules, figures, and errors per joint."""
    console = Console(width=None if Console().is_terminal else 110)
    table = Table("figure", "value", title=f"{result['protocol']}: {Path(result['predictions']).name}")
    for rule, words in result["rules"].items():
        table.add_row(f"[dim]{rule}[/dim]", f"[dim]{words}[/dim]")
    for name, value in result.items():
        if words := _words(value, result["joints"] if name.startswith("per_") else None):
            table.add_row(name.replace("_", " "), words)
    console.print(table)


def _words(value: Any, joints: list[str] | None) -> str | None:
    """A figure for the table; None: it is not shown there."""
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, list) and joints is not None:
        named = zip(joints, value, strict=True)
        return "  ".join(f"{joint} {'-' if number is None else f'{number:.2f}'}" for joint, number in named)
    if isinstance(value, dict) and all(isinstance(number, float) for number in value.values()):
        return "  ".join(f"{limit} mm: {share:.1f}" for limit, share in value.items())
    return None


if __name__ == "__main__":
    main()
