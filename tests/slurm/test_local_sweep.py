"""Sweeps without an account: proposed, run, gone on with, ranked; engine and train.py are stood in for."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from slurm import local_sweep, sweep_jobs, sweep_record
from slurm.sweep_record import Record, SweepRun
from tests.slurm.cluster import cluster, reason_to_skip

ROOT = Path(__file__).parents[2]
SWEEP = {
    "method": "random",
    "metric": {"name": "val/error", "goal": "minimize"},
    "command": ["${env}", "${interpreter}", "${program}", "fit", "--config=configs/vae_rendered.yaml", "${args}"],
    "program": "train.py",
    "parameters": {"model.init_args.lr": {"min": 1e-4, "max": 1e-2}},
}
# proposes 0.001, 0.002 ... and nothing behind the sixth
ENGINE = """#!{python}
import json, sys
asked = json.load(sys.stdin)
done = len(asked["runs"])
with open({log!r}, "a") as log:
    log.write(json.dumps(asked["runs"]) + "\\n")
numbers = [number for number in range(done, done + asked["count"]) if number < 6]
print(json.dumps({{"proposals": [{{"model.init_args.lr": (number + 1) / 1000}} for number in numbers]}}))
"""
# stands for the interpreter: the error of a run is its distance to 0.003, with a worse value behind it
PYTHON = """#!{python}
import os, pathlib, signal, sys, time
options = dict(word.lstrip("-").split("=", 1) for word in sys.argv if "=" in word)
lr = float(options["model.init_args.lr"])
if lr == float(os.environ.get("FAILS", "-1")):
    sys.exit("a bad proposal")
folder = pathlib.Path(options["runs"], "vae_rendered", os.environ["RUN_ID"])
folder.mkdir(parents=True, exist_ok=True)
if os.environ.get("INTERRUPTED"):
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(1)
    folder.with_suffix(".saved").touch()
    sys.exit(130)
error = abs(lr - 0.003)
folder.joinpath("metrics.csv").write_text(f"step,val/error\\n1,{{error}}\\n2,\\n3,nan\\n4,{{error + 1}}\\n")
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs a sweep and gives the places of its ranking."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sweep_record, "ENVIRONMENT", tmp_path / "engine")
    for name, text in (("engine/bin/python", ENGINE), ("train", PYTHON)):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text.format(python=sys.executable, log=str(tmp_path / "asked")))
        program.chmod(0o755)
    file = tmp_path / "tiny.yaml"

    def run(*words: str, content: dict = SWEEP) -> list[dict]:
        file.write_text(yaml.safe_dump(content))
        local_sweep.main([str(file), f"--runs={tmp_path}/runs", f"--python={tmp_path}/train", *words])
        return json.loads((tmp_path / "runs" / "sweeps" / "tiny_ranking.json").read_text())["runs"]

    return run


def test_runs_are_proposed_run_gone_on_with_and_ranked_by_their_best_value(sweep, tmp_path, capsys):
    assert [row["run_id"] for row in sweep("--count=2")] == ["tiny-001", "tiny-000"]
    places = sweep("--count=4")
    assert [row["run_id"] for row in places] == ["tiny-002", "tiny-001", "tiny-003", "tiny-000"]
    assert places[0]["value"] == 0 and places[0]["options"] == {"model.init_args.lr": 0.003}
    assert places[0]["folder"] == f"{tmp_path}/runs/vae_rendered/tiny-002"
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines() if line != "[]"]
    assert asked[-1][0]["state"] == "finished" and asked[-1][0]["history"] == [0.002, 1.002]
    assert "val/error" in capsys.readouterr().out
    assert len(sweep("--count=9")) == 6, "a grid that is done proposes no more"


def test_what_is_to_be_large_is_ranked_by_its_largest_value(sweep):
    places = sweep("--count=2", content=SWEEP | {"metric": {"name": "val/error", "goal": "maximize"}})
    assert [row["run_id"] for row in places] == ["tiny-000", "tiny-001"]
    assert places[0]["value"] == pytest.approx(1.002)


def test_a_run_that_failed_is_said_ranked_last_and_run_again_on_request(sweep, monkeypatch):
    monkeypatch.setenv("FAILS", "0.002")
    places = sweep("--count=3")
    assert [row["state"] for row in places] == ["finished", "finished", "failed"] and places[2]["value"] is None
    monkeypatch.delenv("FAILS")
    assert [row["run_id"] for row in sweep("--count=3", "--retry")] == ["tiny-002", "tiny-001", "tiny-000"]


def test_what_is_run_again_waits_for_no_job_of_before(tmp_path):
    runs = [SweepRun("tiny-000", {}, "failed", "17_0"), SweepRun("tiny-001", {}, "finished", "17_1")]
    record = Record("tiny", SWEEP, tmp_path, runs=runs)
    record.forget_failures()
    assert [(run.state, run.job) for run in record.runs] == [("proposed", None), ("finished", "17_1")]
    assert json.loads(record.path.read_text())["runs"][0]["job"] is None


def test_a_sweep_whose_first_run_fails_stops_and_shows_why(sweep, monkeypatch):
    monkeypatch.setenv("FAILS", "0.001")
    with pytest.raises(SystemExit, match=r"run tiny-000 failed.*(?s:.*)a bad proposal\n\nmend it"):
        sweep("--count=3")


def test_a_sweep_that_is_interrupted_waits_until_its_run_is_saved_and_goes_on(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERRUPTED", "1")
    with pytest.raises(SystemExit, match="the same command goes on"):
        sweep("--count=1")
    assert (tmp_path / "runs" / "vae_rendered" / "tiny-000.saved").is_file()
    monkeypatch.delenv("INTERRUPTED")
    assert [(row["run_id"], row["state"]) for row in sweep("--count=1")] == [("tiny-000", "finished")]


def test_another_sweep_of_the_same_name_and_a_missing_engine_are_refused(sweep, tmp_path, monkeypatch):
    sweep("--count=1")
    with pytest.raises(SystemExit, match=r"the sweep 'tiny' began with another sweep .*--name"):
        sweep("--count=2", content=SWEEP | {"method": "grid"})
    monkeypatch.setattr(sweep_record, "ENVIRONMENT", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match=r"not installed .*: make sweeps-env"):
        sweep("--count=2")


def test_a_proposal_that_the_experiment_does_not_take_is_refused_at_once(sweep, monkeypatch, capsys):
    wrong = SWEEP | {"command": [*SWEEP["command"], "--model.init_args.rate=1"]}
    with pytest.raises(SystemExit):
        sweep("--count=1", content=wrong)
    assert "unknown option 'model.init_args.rate'" in capsys.readouterr().err


def test_slurm_gets_an_array_whose_tasks_find_their_options(sweep, tmp_path, monkeypatch):
    said = tmp_path / "said"
    programs = {
        "sbatch": f'printf "%s\\n" "$@" >> {said}\necho Submitted batch job 17\n',
        # a line per task: first they run, then two are done and one has failed
        "squeue": f"if [ -e {said}.asked ]; then state=COMPLETED; else state=RUNNING; fi; touch {said}.asked\n"
        'echo "17_0 $state"; echo "17_1 $state"; echo "17_2 FAILED"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sweep_jobs, "_POLL_S", 0.01)
    places = sweep("--count=3", "--slurm", "--", "--gpus=1")
    assert sorted(row["state"] for row in places) == ["failed", "finished", "finished"]
    given = said.read_text().splitlines()
    assert "--array=0,1,2" in given and "--gpus-per-node=1" in given
    assert given[-2].endswith("slurm/array_sweep.sbatch") and given[-1] == f"{tmp_path}/runs/sweeps/tiny"
    options = (Path(given[-1]) / "tiny-001.options").read_text().splitlines()
    assert options == [
        "--config=configs/vae_rendered.yaml",
        "--model.init_args.lr=0.002",
        f"--runs={tmp_path}/runs",
    ]


@pytest.mark.slow
def test_a_real_slurm_runs_proposals_array_by_array(sweep, tmp_path, monkeypatch):
    if reason := reason_to_skip():
        pytest.skip(reason)
    with cluster() as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("FAILS", "0.002")
        words = ("--slurm", "--at-once=2", "--", "--cpus=1")
        places = sweep("--count=3", *words)
        assert [(row["run_id"], row["state"]) for row in places] == [
            *(("tiny-002", "finished"), ("tiny-000", "finished"), ("tiny-001", "failed"))
        ]
        assert "a bad proposal" in (tmp_path / "runs" / "sweeps" / "tiny" / "tiny-001.log").read_text()
        monkeypatch.delenv("FAILS")
        places = sweep("--count=4", "--retry", *words)
        assert [row["state"] for row in places] == ["finished"] * 4 and places[1]["run_id"] == "tiny-001"
