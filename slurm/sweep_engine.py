"""W&B's open sweep engine behind JSON; runs in an environment of its own, as the engine wants NumPy 1.

    .venv-sweeps/bin/python slurm/sweep_engine.py < question > answer

A question is {"sweep": the sweep file's content, "runs": [{"config": {name: value}, "state": "finished", "history":
[values of the metric]}], "count": how many runs to propose, "seed": of the draws}. The answer is {"proposals": [{name:
value}]}, fewer where a grid has no more, or {"error": what is wrong with the sweep}.
"""

import json
import random
import sys
from typing import Any

import numpy
import sweeps


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Proposals for a question."""
    if wrong := sweeps.schema_violations_from_proposed_config(question["sweep"]):
        return {"error": "; ".join(wrong)}
    config = sweeps.SweepConfig(question["sweep"])
    metric = config.get("metric", {}).get("name", "")
    runs = [_run(run, metric) for run in question["runs"]]
    proposals: list[dict[str, Any]] = []
    for _ in range(question["count"]):
        for draws in (random, numpy.random):  # a sweep that goes on proposes what an unbroken one would
            draws.seed(question["seed"] + len(runs))
        proposal = sweeps.next_run(config, runs)
        if proposal is None:
            break
        proposals.append({name: _plain(value["value"]) for name, value in proposal.config.items()})
        proposal.state = sweeps.RunState.running
        runs.append(proposal)
    return {"proposals": proposals}


def _run(run: dict[str, Any], metric: str) -> sweeps.SweepRun:
    config = {name: {"value": value} for name, value in run["config"].items()}
    history = [{metric: value} for value in run["history"]]
    summary = {metric: run["history"][-1]} if run["history"] else {}
    return sweeps.SweepRun(config=config, state=run["state"], history=history, summary_metrics=summary)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, numpy.generic) else value


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
