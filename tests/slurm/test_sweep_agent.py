"""slurm/sweep_agent.sbatch, with an agent and an srun that say what they are asked."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "slurm" / "sweep_agent.sbatch"
AGENT = """#!/bin/bash
if [ "$1 $2" = "-m wandb" ]; then
    echo "agent $*"
    exec /usr/bin/env python train.py fit --model.lr=0.1
fi
echo "train $*"
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("tasks", [1, 2])
def test_an_agent_starts_one_run_and_srun_all_its_ranks(tmp_path, tasks):
    agent = program(tmp_path / "bin" / "python", AGENT)
    program(tmp_path / "bin" / "srun", '#!/bin/bash\necho "srun $*"\n')
    environ = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HANDFUL_PYTHON": "python"}
    environ |= {"SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": "2", "TMPDIR": str(tmp_path)}
    done = subprocess.run(["bash", str(SCRIPT), "me/hands/abc"], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "agent -m wandb agent --count 1 me/hands/abc"
    options = "train.py fit --model.lr=0.1"
    ranks = "--trainer.num_nodes=1 --trainer.devices=2"
    wanted = f"srun --kill-on-bad-exit=1 {agent} -u {options} {ranks}" if tasks == 2 else f"train {options}"
    assert second == wanted


def test_an_agent_without_a_sweep_says_what_to_name():
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode != 0 and "name the sweep: <entity>/<project>/<sweep id>" in done.stderr
