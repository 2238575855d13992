"""Read a pickle of numbers from a stranger: nothing that the file names is imported, called or executed.

Annotation files and hand models of the last decade are Python 2 pickles. A pickle is a program that may ask for any
global by (module, name). Here such a name is only a key into an allow-list of stand-ins written in this file; a name
that is not on the list is refused, and the error says which name the file asked for. Code never runs and memory is
bounded; the time that a file takes is not.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 1 << 29  # 512 MiB: the largest annotation file met is a quarter of it
_PLAIN_KINDS = "biufcSU"  # numbers and strings; no objects, no records
_BYTE_ORDERS = "<>|="
_FORBIDDEN_OPCODES = {
    "PERSID": "a persistent id",
    "BINPERSID": "a persistent id",
    "EXT1": "an extension code",
    "EXT2": "an extension code",
    "EXT4": "an extension code",
    "NEXT_BUFFER": "an out-of-band buffer",
}
_STOP, _LONG_BINPUT = pickle.STOP[0], pickle.LONG_BINPUT[0]
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
# what most of a file consists of: opcodes that need no look at their argument -> bytes of opcode and argument
_SHORT_OPCODES = {
    code: 1 + (opcode.arg.n if opcode.arg else 0)
    for code, opcode in _OPCODES.items()
    if (opcode.arg is None or opcode.arg.n >= 0)
    and code not in (_STOP, _LONG_BINPUT)
    and opcode.name not in _FORBIDDEN_OPCODES
}

Allowed = Mapping[tuple[str, str], Any]


class RefusedPickle(ValueError):
    """The file asks for something that data has no need of; the message names it."""


class StandIn:
    """An object of a class that is not imported: keeps the attributes that the file gives it, and does nothing.

    Subclass it for each class to be let in, and read the attributes from `fields`.
    """

    fields: dict[str, Any]

    def __new__(cls) -> "StandIn":
        """Without arguments; an unpickler skips __init__."""
        self = super().__new__(cls)
        self.fields = {}
        return self

    def __setstate__(self, state: object) -> None:
        # (dict, slots) is what classes with __slots__ write
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if part is not None and not isinstance(part, dict):
                raise RefusedPickle(f"the state of a {type(self).__name__} is a {type(part).__name__}, expected a dict")
            self.fields.update(part or {})


class _Function:
    """A callable without attributes: what a file tries to set on it is refused."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> object:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise RefusedPickle("the file sets attributes on a function")


class _Dtype:
    """Stands in for numpy.dtype: plain kinds only."""

    def __init__(self, spec: object, align: object = False, copy: object = False) -> None:
        spec = spec.decode("latin1") if isinstance(spec, bytes) else spec
        try:
            self.dtype = np.dtype(spec) if isinstance(spec, str) else None
        except TypeError:
            self.dtype = None
        if self.dtype is None or self.dtype.kind not in _PLAIN_KINDS or self.dtype.shape:
            raise RefusedPickle(f"an array of dtype {spec!r}, expected plain numbers or strings")

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in _BYTE_ORDERS or any(part is not None for part in state[2:5]):
            raise RefusedPickle(f"an array of structured dtype {state!r}, expected plain numbers or strings")
        self.dtype = self.dtype.newbyteorder(order)


def _refuse_ndarray(*args: object) -> None:
    raise RefusedPickle(f"numpy.ndarray called with a size of its own choosing {args}")


_NDARRAY = _Function(_refuse_ndarray)  # stands where a file names the class; it makes nothing


class PickledArray(np.ndarray):
    """An array whose numbers stand in the file; it is allocated only when they are there."""

    budget: "_Budget | None" = None  # set while the array waits for its numbers

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise RefusedPickle(f"an array whose dtype is a {type(dtype).__name__}")
        if self.budget is None:
            raise RefusedPickle("an array that is filled twice")
        data = _as_bytes(data)
        self.budget.take(len(data))
        self.budget = None
        _check_size(shape, dtype.dtype, data)
        super().__setstate__((1, tuple(shape), dtype.dtype, bool(fortran), data))

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Written again (to a worker, to a file), it is an array like any other."""
        return np.asarray(self).__reduce_ex__(protocol)


class _Budget:
    """Bytes that the arrays of one file may take: the same stored bytes can be asked for a thousand times."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise RefusedPickle("arrays that repeat the same bytes until they exceed the size limit")


class SafeUnpickler(pickle.Unpickler):
    """Unpickler that knows `allowed` (module, name) -> stand-in, numpy arrays and nothing else."""

    def __init__(self, file: Any, allowed: Allowed, max_bytes: int) -> None:
        # latin1: the strings of Python 2; fix_imports off: the names are compared as the file spells them
        super().__init__(file, fix_imports=False, encoding="latin1")
        self._budget = _Budget(max_bytes)
        self._allowed = {**_numpy_stand_ins(self._new_array, self._array_from_buffer), **allowed}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global, or a refusal that names it."""
        if (module, name) not in self._allowed:
            raise RefusedPickle(f"the global '{module}.{name}'")
        return self._allowed[module, name]

    def persistent_load(self, pid: object) -> object:
        """Refused: data refers to nothing outside itself."""
        raise RefusedPickle(f"a persistent id ({pid!r})")

    def _new_array(self, cls: object, shape: object, kind: object) -> PickledArray:
        if cls is not _NDARRAY or tuple(shape) not in ((0,), ()):
            raise RefusedPickle(f"numpy's _reconstruct with shape {shape!r}, expected (0,)")
        array = PickledArray((0,), dtype=np.uint8)
        array.budget = self._budget
        return array

    def _array_from_buffer(self, data: object, dtype: _Dtype, shape: tuple, order: str = "C") -> PickledArray:
        array = self._new_array(_NDARRAY, (0,), b"b")
        array.__setstate__((1, shape, dtype, order == "F", data))
        return array


def load_pickle(path: str | Path, allowed: Allowed | None = None, max_bytes: int = MAX_BYTES) -> Any:
    """Read a pickle of dicts, lists, numbers, strings and numpy arrays, executing nothing.

    Args:
        path: the file, any protocol, written by Python 2 or 3.
        allowed: further globals that the file may name, (module, name) as the file spells them -> stand-in.
        max_bytes: largest file, and most bytes of all its arrays together.

    Raises:
        FileNotFoundError: no such file.
        RefusedPickle: the file asks for a global, a persistent id or a size that it may not have; a ValueError.
        ValueError: empty, truncated, or no pickle.
    """
    path = Path(path)
    data = _read(path, max_bytes)
    try:
        _scan(data)
        return SafeUnpickler(io.BytesIO(data), allowed or {}, max_bytes).load()
    except RefusedPickle as error:
        raise RefusedPickle(
            f"{path}: refused, nothing was executed: the file asks for {error}; a file of plain data has no need "
            "of it: get the file from its publisher anew"
        ) from error
    except Exception as error:  # a damaged stream raises whatever its bytes happen to spell
        raise ValueError(
            f"{path}: damaged, truncated or no pickle ({type(error).__name__}: {error}); get the file anew"
        ) from error


def _read(path: Path, max_bytes: int) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a pickle file, got a directory or device; give the file itself")
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"{path}: expected at most {max_bytes} bytes, got {size}; is this the right file?")
    data = path.read_bytes()
    if not data:
        raise ValueError(f"{path}: the file is empty; get it anew")
    if data.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"{path}: expected a pickle, got a zip or .npz; a hand model in .npz is read by load_hand_model"
        )
    if data.lstrip()[:1] == b"<":
        raise ValueError(
            f"{path}: expected a pickle, got a web page; log in at the publisher's site and download again"
        )
    return data


def _scan(data: bytes) -> None:
    """Read the opcodes without running them: refuse what reaches outside the file or allocates more than it holds."""
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        size = _SHORT_OPCODES.get(code)
        if size is not None:
            at += size
        elif code == _LONG_BINPUT:  # every other opcode of a long file: kept out of the general case for its speed
            _check_memo(int.from_bytes(data[at + 1 : at + 5], "little"), end)
            at += 5
        elif code == _STOP:
            return
        else:
            at = _scan_long(data, at)
    raise ValueError(f"it ends at byte {end} in the middle of its contents")


def _scan_long(data: bytes, at: int) -> int:
    """Position after the opcode at `at`, whose argument has a length of its own or must be looked at."""
    opcode = _OPCODES.get(data[at])
    if opcode is None:
        raise ValueError(f"no pickle opcode at byte {at}")
    start = at + 1
    if opcode.name in _FORBIDDEN_OPCODES:
        raise RefusedPickle(f"{_FORBIDDEN_OPCODES[opcode.name]} ({opcode.name} at byte {at})")
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        after = data.find(b"\n", start) + 1
        if after and opcode.name in ("GLOBAL", "INST"):  # two lines: module and name
            after = data.find(b"\n", after) + 1
    elif opcode.arg.n in _LENGTH_BYTES:
        body = start + _LENGTH_BYTES[opcode.arg.n]
        # a negative length (signed in one opcode) becomes a large one, which no file holds
        after = body + int.from_bytes(data[start:body], "little")
    else:
        after = start + opcode.arg.n
    if not 0 < after < len(data):  # at least STOP follows
        raise ValueError(f"it ends within {opcode.name} at byte {at}")
    if opcode.name == "PUT":
        _check_memo(int(data[start:after]), len(data))
    return after


def _check_memo(entry: int, size: int) -> None:
    """Refuse an entry number that makes the memo, a table, larger than the file."""
    if entry > size:
        raise RefusedPickle(f"a memo of {entry} entries in a file of {size} bytes")


def _numpy_stand_ins(new_array: Callable[..., Any], from_buffer: Callable[..., Any]) -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _NDARRAY, ("numpy", "dtype"): _Dtype}
    for package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        table[f"{package}.multiarray", "_reconstruct"] = _Function(new_array)
        table[f"{package}.multiarray", "scalar"] = _Function(_scalar)
        table[f"{package}.numeric", "_frombuffer"] = _Function(from_buffer)
    for builtins in ("__builtin__", "builtins"):  # Python 2 and 3
        table[builtins, "set"] = _Function(_set)
        table[builtins, "object"] = StandIn
    for registry in ("copy_reg", "copyreg"):
        table[registry, "_reconstructor"] = _Function(_reconstructor)
    table["_codecs", "encode"] = _Function(_encode)  # how Python 3 writes bytes in protocol 2
    return table


def _scalar(dtype: _Dtype, data: object) -> np.generic:
    data = _as_bytes(data)
    _check_size((1,), dtype.dtype, data)
    return np.frombuffer(data, dtype.dtype)[0]


def _set(items: object = ()) -> set:
    if not isinstance(items, list | tuple):
        raise RefusedPickle(f"a set made from a {type(items).__name__}")
    return set(items)


def _reconstructor(cls: object, base: object, state: object) -> StandIn:
    if not (isinstance(cls, type) and issubclass(cls, StandIn)) or base is not StandIn or state is not None:
        raise RefusedPickle(f"copy_reg._reconstructor of {cls!r}")
    return cls()


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedPickle(f"_codecs.encode with encoding {encoding!r}, expected 'latin1'")
    return text.encode("latin1")


def _as_bytes(data: object) -> bytes:
    if isinstance(data, str):  # a Python 2 byte string, decoded as latin1 on the way in
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise RefusedPickle(f"an array of Python objects (its numbers are a {type(data).__name__})")
    return bytes(data)


def _check_size(shape: object, dtype: np.dtype, data: bytes) -> None:
    count = 1
    for size in shape if isinstance(shape, tuple) else (-1,):
        if not isinstance(size, int) or size < 0:
            raise RefusedPickle(f"an array of shape {shape!r}")
        count *= size
    if count * dtype.itemsize != len(data):
        raise RefusedPickle(f"an array of shape {shape} and dtype {dtype} with {len(data)} bytes of numbers")
