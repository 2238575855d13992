"""A real SLURM on one machine: slurmctld, munge and two slurmd that count as two nodes."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
INSTALL = "INSTALL_SLURM"
CONF = """\
ClusterName=toy
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SwitchType=switch/none
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort={ports[0]}
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmctldTimeout=30
MessageTimeout=60
SlurmdTimeout=30
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=1000 State=UNKNOWN
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def reason_to_skip() -> str | None:
    """Why there can be no SLURM here; installs it where root and INSTALL_SLURM=1 allow that."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and os.environ.get(INSTALL) == "1" and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "slurm-wlm", "munge"], check=True, capture_output=True)
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install slurm-wlm munge, or set {INSTALL}=1)"
    return None


@contextlib.contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Start one; yields the environment for its commands."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:  # sockets' names are short
        yield from _run_cluster(Path(folder))


def _run_cluster(folder: Path) -> Iterator[dict[str, str]]:
    for name in ("run", "state", "spool.node1", "spool.node2"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, ports=_free_ports(3)))
    environ = os.environ | {"SLURM_CONF": str(conf)}
    _start_munge(folder)
    try:
        for command in (["slurmctld", "-c"], ["slurmd", "-N", "node1"], ["slurmd", "-N", "node2"]):
            subprocess.run(command, env=environ, check=True)
        states = ["sinfo", "-h", "-o", "%D %t"]
        wait_for(lambda: command_output(states, environ).startswith("2 idle"), 300, "idle nodes")
        yield environ
    finally:
        for pid in [*(folder / "run").glob("slurm*.pid"), folder / "run" / "munged.pid"]:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), 15)


def _start_munge(folder: Path) -> None:
    """A munged of one's own: another cluster's may end at any time, and takes with it what it signed."""
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    files = {"socket": "munge.socket", "key-file": key, "pid-file": "run/munged.pid", "log-file": "munged.log"}
    files |= {"seed-file": "munged.seed"}
    # --force: it warns of folders that others may write to, such as /tmp above this one
    subprocess.run(["munged", "--force", *(f"--{name}={folder / file}" for name, file in files.items())], check=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def command_output(command: list[str], environ: dict[str, str], patience: float = 300) -> str:
    """What a command prints; asked again for `patience` seconds, as a controller on a busy machine may not answer."""
    end = time.monotonic() + patience
    while (done := subprocess.run(command, env=environ, capture_output=True, text=True)).returncode:
        assert time.monotonic() < end, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        time.sleep(1)
    return done.stdout


def job_state(job: str, environ: dict[str, str]) -> tuple[str, int]:
    """A job's state and how often it was queued again."""
    shown = command_output(["scontrol", "show", "job", job], environ)
    return re.search(r"JobState=(\w+)", shown).group(1), int(re.search(r"Restarts=(\d+)", shown).group(1))


def wait_for(there, seconds: float, what: str) -> None:
    """Until `there()` is true."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"after {seconds:.0f} s: no {what}"
        time.sleep(0.5)
