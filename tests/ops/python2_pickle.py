"""Pickles as Python 2 wrote them: what hand models and annotation files of the last decade are."""

import pickle
import struct
import types
from pathlib import Path
from typing import Any, ClassVar


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings for str, and the module names of its day."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_byte_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        if not self.bin:
            self.write(b"S" + repr(data)[1:].encode() + b"\n")
        elif len(data) < 256:
            self.write(b"U" + bytes([len(data)]) + data)
        else:
            self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    def save_old_name(self, value, name=None):
        old = {"numpy._core.multiarray": "numpy.core.multiarray", "scipy.sparse._csc": "scipy.sparse.csc"}
        if value.__module__ in old:
            self.write(f"c{old[value.__module__]}\n{value.__name__}\n".encode())
            self.memoize(value)
        else:
            super().save_global(value, name)

    save_global = save_old_name
    dispatch[bytes] = dispatch[str] = save_byte_string
    dispatch[type] = dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = save_old_name


def write(path: Path, contents: Any, protocol: int = 2) -> Path:
    """Write `contents` to `path` as Python 2 would have."""
    with path.open("wb") as file:
        Python2Pickler(file, protocol).dump(contents)
    return path
