"""The batch scripts and submit, with sbatch and srun that only write down what they are given."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_modules.preflight import preflight
from slurm import local_sweep
from slurm.submit import main as submit_main

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "slurm").glob("*.sbatch"))


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Reads what sbatch and srun were given: their arguments a line each, then RUN_ID."""
    for name in ("sbatch", "srun", "scontrol"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" "$RUN_ID" > {tmp_path}/{name}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for variable in [name for name in os.environ if name.startswith("SLURM_")] + ["RUN_ID", "HANDFUL_PYTHON"]:
        monkeypatch.delenv(variable, raising=False)
    return lambda name: (tmp_path / name).read_text().splitlines()


def submit(*words: str, code: int = 0) -> str:
    """What submit prints."""
    command = [sys.executable, "-m", "slurm.submit", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


def run_script(name: str, *words: str, **environ: str) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "slurm" / name), *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_names_every_variable_that_it_reads(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text()
    assert text.startswith("#!/bin/bash\n") and "set -euo pipefail" in text
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for variable in set(re.findall(r"HANDFUL_\w+", text)):
        assert variable in comments, f"{path.name} does not say what {variable} is"


def test_submit_prints_what_it_submits_and_submits_it(said, tmp_path):
    options = ("--config", "a.yaml", "--model.lr=1e-3")
    text = submit(
        "train", "--nodes=2", "--gpus=4", "--time=1:00:00", "--run-id=night", f"--logs={tmp_path}/logs", "--", *options
    )
    given = said("sbatch")
    assert given[-1] == "night" and given[-4:-1] == list(options)
    for word in ("--nodes=2", "--gpus-per-node=4", "--ntasks-per-node=4", "--time=1:00:00", "--signal=SIGUSR1@180"):
        assert word in given and word in text
    assert "to go on with it after a crash: the same command with --run-id night" in text
    assert (tmp_path / "logs").is_dir(), "SLURM drops the output of a job whose folder is not there"


def test_a_dry_run_submits_nothing_and_every_submission_has_an_id_of_its_own(said, tmp_path):
    ids = {re.search(r"RUN_ID=(\S+)", submit("train", "--dry-run")).group(1) for _ in range(2)}
    assert len(ids) == 2 and not (tmp_path / "sbatch").exists()


def test_seeds_and_sweeps_are_arrays(said, tmp_path):
    logs = f"--logs={tmp_path}"
    submit("seeds", "--seeds=0-4%2", logs)
    assert "--array=0-4%2" in said("sbatch")
    submit("sweep", "me/handful/abc", "--jobs=8", logs)
    assert "--array=1-8" in said("sbatch") and said("sbatch")[-2] == "me/handful/abc"


def test_every_command_of_the_readme_is_accepted(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "slurm" / "README.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m slurm\.(\w+) (.*?)(?:`|$)", readme, re.MULTILINE)
    assert len(commands) >= 6
    places = {"N": "2", "...": "configs/deephps_paper.yaml", "<name>.yaml": "vae_rendered.yaml"}
    for program, text in commands:
        for place, value in places.items():
            text = re.sub(rf"(?<![\w.]){re.escape(place)}(?!\w)", value, text)
        words = text.split()
        if program == "submit":
            end = words.index("--") if "--" in words else len(words)
            submit_main([*words[:end], "--dry-run", *words[end:]]) if "--help" not in words else None
            experiment = words[end + 1 :]
            preflight(["fit", *experiment]) if experiment and words[0] != "render" else None
        else:
            assert program == "local_sweep"
            end = words.index("--") if "--" in words else len(words)
            given = local_sweep._parser().parse_args(words[:end])
            assert given.count == 8 and given.slurm == ("--" in words)
            preflight(["fit", "--config=configs/deephps_rendered.yaml", *given.extra])
            submit_main(["proposals", "folder", "--numbers=0", "--dry-run", *words[end + 1 :]])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words, message",
    [
        (("train", "--run-id=a/b"), "--run-id: expected up to 64 letters"),
        (("seeds", "--seeds=zero"), "expected seeds such as 0-4 or 0,3,7, got 'zero'"),
        (("train", "--nodes=0"), "expected a whole number of at least 1, got '0'"),
    ],
)
def test_submit_refuses_by_name(said, words, message):
    assert message in submit(*words, code=2 if "run-id" not in words[1] else 1)


def test_options_reach_srun_and_ranks_follow_the_allocation(said):
    slurm = {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "6"}
    done = run_script("train.sbatch", "--config=a b.yaml", RUN_ID="night", HANDFUL_PYTHON="box exec python", **slurm)
    assert done.returncode == 0, done.stderr
    given = said("srun")
    assert given[0] == "--cpus-per-task=6" and given[-2:] == ["--config=a b.yaml", "night"]
    assert given[2:9] == [
        *("box", "exec", "python", "-u", "train.py", "fit"),
        "--trainer.num_nodes=2",
    ]
    assert "--trainer.devices=4" in given


def test_a_task_of_an_array_is_a_run_and_a_seed(said):
    done = run_script("array_seeds.sbatch", "--config=a.yaml", RUN_ID="x", SLURM_ARRAY_TASK_ID="3")
    assert done.returncode == 0, done.stderr
    assert said("srun")[-2:] == ["--seed_everything=3", "x-seed3"]


@pytest.mark.parametrize("script, variable", [("train.sbatch", "RUN_ID"), ("array_seeds.sbatch", "RUN_ID")])
def test_a_script_without_a_run_id_says_how_to_submit(said, script, variable):
    done = run_script(script)
    assert done.returncode != 0 and f"{variable}: is not set" in done.stderr and "python -m slurm.submit" in done.stderr
