"""A real SLURM on one machine: slurmctld, munge, and slurmd that count as nodes."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.browser import INSTALLER
from tests.slurm.commands import command_output, wait_for
from tests.slurm.nodes import end_node

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
INSTALL = "INSTALL_SLURM"
NODES = ("node1", "node2", "node3")  # two that work, and one for the job of one that dies
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=1000 State=UNKNOWN"
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
SlurmctldPort={port}
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmctldTimeout=30
MessageTimeout=60
SlurmdTimeout=30
{nodes}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=120
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def reason_to_skip() -> str | None:
    """Why there can be no SLURM here; installs it where root and INSTALL_SLURM=1 allow that."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and os.environ.get(INSTALL) == "1" and shutil.which("apt-get"):
        subprocess.run([*INSTALLER, "slurm-wlm", "munge"], check=True, capture_output=True)
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
    for name in ("run", "state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    port, *ports = _free_ports(1 + len(NODES))
    nodes = "\n".join(NODE.format(name=name, port=own) for name, own in zip(NODES, ports, strict=True))
    conf.write_text(CONF.format(folder=folder, port=port, nodes=nodes))
    environ = os.environ | {"SLURM_CONF": str(conf)}
    _start_munge(folder)
    try:
        for command in (["slurmctld", "-c"], *(["slurmd", "-N", node] for node in NODES)):
            subprocess.run(command, env=environ, check=True)
        states = ["sinfo", "-h", "-o", "%D %t"]
        wait_for(lambda: command_output(states, environ).startswith(f"{len(NODES)} idle"), 300, "idle nodes")
        yield environ
    finally:
        for node in NODES:
            with contextlib.suppress(OSError, ValueError):
                end_node(node, environ)  # with what a failed test left running
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
    """Ports that no connection is given by chance, and no cluster of another process of the tests takes."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + 500 * worker
    free: list[int] = []
    for port in range(first, first + 500):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise OSError(f"expected {count} free ports from {first} on, got {len(free)}")
