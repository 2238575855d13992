"""Success curves as a picture: a run before the published methods of the same protocol."""

from pathlib import Path
from typing import Any

from lightning_modules.published_rows import MARKS, published_protocols, published_rows

_AXES = {
    "curve_maxframe": ("largest error of a frame at most, mm", "share of frames"),
    "curve_pck": ("error at most, mm", "share of joints"),
}


def plot_success(path: Path, result: dict[str, Any]) -> None:
    """Write a PNG.

    Args:
        path: where.
        result: figures of an evaluation with a curve (`evaluate`).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kind = next((name for name in _AXES if result.get(name)), None)
    if kind is None:
        raise ValueError(f"plot: '{result['protocol']}' has no success curve of these predictions; leave --plot out")
    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=120, layout="constrained")
    for row in published_rows(result["protocol"]) if result["protocol"] in published_protocols() else ():
        if curve := getattr(row, kind):
            label = row.method + row.mark
            axes.plot(curve["thresholds_mm"], curve["share"], linewidth=1, alpha=0.7, label=label)
    curve = result[kind]
    name = Path(result["predictions"]).name
    axes.plot(curve["thresholds_mm"], curve["share"], color="black", linewidth=2.5, label=f"this run: {name}")
    across, up = _AXES[kind]
    axes.set(xlabel=across, ylabel=up, ylim=(0, 1), title=result["protocol"])
    figure.supxlabel(MARKS, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
    pyplot.close(figure)
