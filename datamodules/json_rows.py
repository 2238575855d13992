"""Rows of a JSON file that is too large to hold: found in one pass, read one at a time."""

import json
import mmap
import re
from pathlib import Path

import numpy as np

from datamodules.frames import BadFrame
from datamodules.label_files import label_file, number_array

_START = re.compile(rb"\s*\[\s*\[\s*\[")
_ROW_END = re.compile(rb"\]\s*\]")
_END = re.compile(rb"\s*\]\s*")


class JsonRows:
    """A list of matrices, [[[...], ...], ...]: only where each begins and ends is kept. Cheap to pickle.

    Args:
        path: the file, of any size.
        shape: of every matrix.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._path, self._shape = label_file(path), shape
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            ends = np.array([match.end() for match in _ROW_END.finditer(text)], dtype=np.int64)
            if not _START.match(text) or not len(ends) or not _END.fullmatch(text[ends[-1] :]):
                raise BadFrame(f"{path}: truncated, or no JSON list of matrices {shape}; get the file anew")
            self._edges = np.concatenate([[text.find(b"[") + 1], ends])

    def __len__(self) -> int:
        """Number of matrices."""
        return len(self._edges) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Matrix `index`, float64."""
        start, end = self._edges[index : index + 2].tolist()
        with self._path.open("rb") as file:
            file.seek(start)
            text = file.read(end - start).lstrip(b", \n\r\t")
        try:
            row = json.loads(text)
        except ValueError as error:
            raise BadFrame(f"{self._path}, row {index}: no JSON ({error}); get the file anew") from error
        return number_array(self._path, f"row {index}", row, self._shape)
