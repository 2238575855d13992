"""Says what to do where the packages are not there, instead of a traceback; nothing of them is imported here."""

import sys
from importlib.util import find_spec

_NEEDED = ("torch", "lightning", "yaml", "cv2")


def require_install() -> None:
    """Exit with code 2 unless the environment is that of the project."""
    if absent := [name for name in _NEEDED if find_spec(name) is None]:
        program = sys.argv[0].rpartition("/")[2]
        print(
            f"{program}: error: {sys.executable} has no {', '.join(absent)}; run `make install` once, then "
            f".venv/bin/python {program}",
            file=sys.stderr,
        )
        raise SystemExit(2)
