"""Judge predictions by a named protocol: a table, then one JSON line.

    python -m lightning_modules.evaluate --protocol nyu-14 --predictions runs/.../predictions/nyu.npz \\
        --ground-truth nyu_test_groundtruth_label.txt.xz [--plot curve.png] [--save figures.json]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightning_modules.evaluation_files import evaluate_files
from lightning_modules.protocols import PROTOCOLS, EvalUtil, Protocol, protocol


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--protocol", required=True, choices=PROTOCOLS, help="how to measure")
    add("--predictions", required=True, type=Path, help=".npz of a test, published text (.txt, .txt.xz), NYU's .mat")
    add(
        "--ground-truth",
        required=True,
        type=Path,
        help="labels: published text, or .npz (python -m datamodules.labels)",
    )
    add(
        "--scale", choices=("as predicted", "ground truth"), default="as predicted", help="of the *-eval-util protocols"
    )
    add("--plot", type=Path, help="PNG of the success curve before published ones")
    add("--save", type=Path, help="write the JSON line to a file, too")
    arguments = parser.parse_args()
    try:
        result = evaluate(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print_table(result)
    print(json.dumps(result))


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of the command line's files; plots and saves where asked."""
    for path in (arguments.plot, arguments.save):
        if path is not None and path.exists():
            raise FileExistsError(f"{path}: there already; remove it or name another file")
    metric = chosen(arguments.protocol, arguments.scale)
    evaluate_files(arguments.predictions, arguments.ground_truth, metric)
    result = {
        "protocol": metric.name,
        "predictions": str(arguments.predictions),
        "ground_truth": str(arguments.ground_truth),
        "rules": metric.facts,
        "joints": list(metric.point_names),
        **metric.compute(),
    }
    if arguments.plot is not None:
        from lightning_modules.success_plot import plot_success  # matplotlib takes a second to import

        plot_success(arguments.plot, result)
    if arguments.save is not None:
        arguments.save.write_text(json.dumps(result) + "\n")
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
        if isinstance(value, int | float):
            table.add_row(name.replace("_", " "), f"{value:g}")
        elif isinstance(value, dict) and name.endswith("_pct"):
            table.add_row(
                name.replace("_", " "), "  ".join(f"{limit} mm: {share:.1f}" for limit, share in value.items())
            )
    for name in ("per_joint_mm", "per_joint_px", "per_part_pct"):
        if name in result:
            values = zip(result["joints"], result[name], strict=True)
            table.add_row(name.replace("_", " "), "  ".join(f"{joint} {value:.2f}" for joint, value in values))
    console.print(table)


if __name__ == "__main__":
    main()
