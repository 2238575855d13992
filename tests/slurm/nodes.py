"""The death of a node of the test's own cluster, as of a power cut, and its return."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.slurm.commands import command_output

KILL = signal.SIGKILL


def end_node(name: str, environ: dict[str, str]) -> None:
    """Kill a node's slurmd, its step daemons and all processes of its jobs, in this order: none can report the others.

    Args:
        name: of the cluster.
        environ: of the cluster's commands.
    """
    folder = Path(environ["SLURM_CONF"]).parent
    _kill([int((folder / "run" / f"slurmd.{name}.pid").read_text())])
    while tasks := _tasks(name, environ["SLURM_CONF"]):
        daemons = {parent for pid in tasks if "slurmstepd" in _words(parent := _parent(pid))}
        _kill([*daemons, *tasks])


def start_node(name: str, environ: dict[str, str]) -> None:
    """Start a node's slurmd again; slurmctld takes the node back by itself (ReturnToService=2)."""
    subprocess.run(["slurmd", "-N", name], env=environ, check=True)


def node_state(name: str, environ: dict[str, str]) -> str:
    """Such as idle, alloc, idle* (does not answer) or down*."""
    return command_output(["sinfo", "-h", "-n", name, "-o", "%t"], environ).strip()


def node_of(job: str, environ: dict[str, str]) -> str:
    """The one node on which a job runs."""
    return command_output(["squeue", "-h", "-j", job, "-o", "%N"], environ).strip()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, KILL)


def _tasks(node: str, conf: str) -> list[int]:
    """Processes that SLURM of this very configuration started on a node."""
    wanted = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={conf}".encode()}
    return [pid for pid in _pids() if wanted <= set(_read(pid, "environ").split(b"\0"))]


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _parent(pid: int) -> int:
    stat = _read(pid, "stat").rpartition(b")")[2].split()
    return int(stat[1]) if stat else 0


def _words(pid: int) -> str:
    return _read(pid, "cmdline").decode(errors="replace")


def _read(pid: int, name: str) -> bytes:
    """A file of /proc; nothing of a process that is gone by now."""
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""
