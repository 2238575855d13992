"""Which commit of this code runs."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The checkout's commit, with -dirty where tracked files differ from it; empty outside of one."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
