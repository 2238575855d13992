"""The project's measured figures beside its goals: docs/performance.md, from what benchmarks/results/ keeps.

python -m benchmarks.summary            write the page
python -m benchmarks.summary --check    only say whether it is what the results say; exit code 1 if not
"""

import argparse
import json
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.report import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


class Goal(NamedTuple):
    """A figure of a benchmark and what it should be."""

    benchmark: str
    figure: str
    what: str
    sense: Literal["at least", "at most"]
    goal: float
    note: str = ""  # why it is missed, or what it was measured against

    def met(self, value: float) -> bool:
        """Whether a measured value reaches the goal."""
        return value >= self.goal if self.sense == "at least" else value <= self.goal


PNG = "the network is so small that decoding a frame and finding its hand take longer"
SMALL = "small pictures: what is beside decoding, and the crop, take as long as it"
READERS = {  # what is measured, over a loop that only decodes, and why it falls short
    "nyu": (
        "NYU's reader, crop and batch over a loop that only decodes",
        "the crop takes the rest; frames alone come near",
    ),
    "synhand5m": ("SynHand5M's", "mesh and mask beside the depth, then the crop"),
    "rhd": ("RHD's", "three pictures a frame, then the crop"),
    "stb": ("STB's",),
    "dexter_object": ("Dexter+Object's",),
    "ho3d": ("HO-3D's", "the crop takes the rest; frames alone come near"),
    "icvl": ("ICVL's", SMALL),
    "freihand": ("FreiHAND's", SMALL),
    "ge": ("Ge's real set", SMALL),
    "msra15": ("MSRA15's", "its loop reads bytes and decodes nothing"),
}
GOALS = (
    Goal("make_train", "minutes", "`make train` from a fresh clone, minutes", "at most", 10),
    Goal("hand_layer", "eager_speedup_b32", "hand layer, batch 32: fastest peer's time over ours", "at least", 1.5),
    Goal("hand_layer", "eager_speedup_b256", "the same, batch 256", "at least", 1.5),
    Goal("hand_layer", "compiled_speedup_b32", "compiled, batch 32", "at least", 2.5),
    Goal("hand_layer", "compiled_speedup_b256", "compiled, batch 256", "at least", 2.5),
    Goal("hand_layer", "memory_over_best_peer_b256", "peak memory over the best peer's, batch 256", "at most", 1),
    Goal("render", "silhouette_fb_224_b32", "silhouettes with gradient, 224 px, batch 32, a second", "at least", 2500),
    Goal(
        "render",
        "silhouette_fb_128_b64",
        "silhouettes with gradient, 128 px, batch 64, a second",
        "at least",
        6000,
        "between 3,700 and 5,100 over five runs: the machine's two cores together are hardly faster than one",
    ),
    Goal("render", "silhouette_over_deodr_fb_224", "the same over deodr's, 224 px", "at least", 1),
    Goal("render", "slope_48", "slope of the silhouette's gradient, 48 px (1 is right)", "at least", 0.97),
    Goal("render", "slope_128", "128 px", "at least", 0.97),
    Goal("render", "slope_224", "224 px", "at least", 0.97),
    Goal("rendered_data", "depth_parts_128", "rendered depth and parts, 128 px, samples a second", "at least", 5000),
    Goal("rendered_data", "rgb_224", "rendered colours, 224 px, samples a second", "at least", 1000),
    Goal("rendered_data", "wait_share", "share of training spent waiting for data", "at most", 0.05),
    Goal("deephps", "cpu_ms_b1", "DeepHPS, small networks, one picture on one core, ms", "at most", 10),
    Goal("fitting", "exact_seconds", "10,000 hands fitted to joints in space, seconds", "at most", 60),
    Goal("fitting", "picture_seconds", "10,000 hands fitted to joints in the picture, seconds", "at most", 60),
    Goal("patch_restoration", "cpu_s_per_map_36m", "a map restored from 36 M patches, seconds", "at most", 0.25),
    Goal("patch_restoration", "agreement_36m", "its agreement with exhaustive search", "at least", 0.95),
    Goal("patch_restoration", "memory_gb", "memory of all of it, GB", "at most", 4),
    *(Goal("readers", f"{name}_over_bare", what, "at least", 0.8, *why) for name, (what, *why) in READERS.items()),
    Goal(
        "readers", "worker_memory_growth_mb", "growth of a worker's memory over an epoch, MB, 8 workers", "at most", 16
    ),
    Goal("predict", "json_share", "predict.py's joints of 1000 frames over its network alone", "at least", 0.8, PNG),
    Goal("predict", "everything_share", "with overlays and meshes", "at least", 0.8, PNG),
    Goal("dhpe", "cpu_wait_share", "DHPE: share of training spent waiting for data", "at most", 0.05),
    Goal("vae", "cpu_wait_share", "cross-modal VAE: the same", "at most", 0.05),
    Goal("ranks", "2_processes_half_the_batch_loss_differs", "losses of 2 processes and of 1, share", "at most", 1e-6),
    Goal("ranks", "2_processes_half_the_batch_metric_differs", "their metrics", "at most", 1e-6),
    Goal("kill_resume", "identical_share", "runs killed at random that end as an unbroken one", "at least", 1),
    Goal("requeues", "identical_share", "requeues under slurmctld that end as an unbroken run", "at least", 1),
)


def page(results: Path = RESULTS) -> str:
    """The page, of the results that are there."""
    lines = [
        "# What was measured",
        "",
        "Written by `python -m benchmarks.summary` from `benchmarks/results/`; every row is a run of the command"
        " `python -m benchmarks.<name>` on the machine and at the commit below. Nothing here has run on a GPU.",
        "",
        "| benchmark | figure | measured | goal | |",
        "|---|---|---|---|---|",
    ]
    sources: dict[str, str] = {}
    for goal in GOALS:
        file = results / f"{goal.benchmark}.json"
        if not file.is_file():
            lines.append(f"| {goal.benchmark} | {goal.what} | not measured | {goal.sense} {goal.goal:,g} | |")
            continue
        result = json.loads(file.read_text())
        value = result["figures"].get(goal.figure)
        if value is None:
            raise ValueError(f"{file}: no figure '{goal.figure}'; run python -m benchmarks.{goal.benchmark} --save")
        sources[goal.benchmark] = f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['commit']}"
        verdict = "" if goal.met(value) else "**missed**" + (f": {goal.note}" if goal.note else "")
        lines.append(f"| {goal.benchmark} | {goal.what} | {_shown(value)} | {goal.sense} {goal.goal:,g} | {verdict} |")
    lines += ["", "Machines and commits:", ""]
    lines += [f"- {name}: {source}" for name, source in sources.items()]
    return "\n".join(lines) + "\n"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is another")
    arguments = parser.parse_args()
    if arguments.check:
        if PAGE.read_text() != page():
            raise SystemExit(f"{PAGE}: not what benchmarks/results/ says; python -m benchmarks.summary writes it")
        return
    PAGE.write_text(page())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
