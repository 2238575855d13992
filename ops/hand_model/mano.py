"""Read the genuine MANO_RIGHT.pkl and MANO_LEFT.pkl (Romero, Tzionas and Black 2017) without chumpy.

The files are Python 2 pickles that hold chumpy objects and a scipy matrix; `safe_pickle` reads them and executes
nothing. They may not be redistributed: register at the model's own site and keep them outside the repository.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ops.checks import check_choice
from ops.hand_model.model import HandModel, Side
from ops.joints import MODEL_PARENTS
from ops.safe_pickle import StandIn, load_pickle

VERTICES = 778
# Vertices that stand for the finger tips, thumb to little, as MANO's users number them.
TIP_VERTICES = (745, 317, 444, 556, 673)
_FIELDS = {
    "v_template": "v_template",
    "shapedirs": "shapedirs",
    "posedirs": "posedirs",
    "weights": "weights",
    "J_regressor": "joint_regressor",
    "f": "faces",
    "hands_mean": "pose_mean",
    "hands_components": "pose_components",
}
_MAX_NESTING = 32
# Cosine between the shape directions of a right and of a left hand, in x: a sound pair gives -1, a defective one +1.
_SAME_MODEL = 0.5
# So many times less even must growth be with the other sign of x to count as proof (the open hand: 77 times).
_UNEVENNESS = 4.0


class ChumpyArray(StandIn):
    """chumpy.ch.Ch: a leaf that holds an array `x`."""

    def value(self, depth: int) -> np.ndarray:
        """The numbers."""
        return _numbers(self.fields["x"], depth)


class ChumpySelect(StandIn):
    """chumpy.reordering.Select: entries `idxs` of the flattened `a`, in a `preferred_shape`; what slicing leaves."""

    def value(self, depth: int) -> np.ndarray:
        """The numbers."""
        chosen = _numbers(self.fields["a"], depth).ravel()[np.asarray(self.fields["idxs"], dtype=np.int64)]
        return chosen.reshape(self.fields.get("preferred_shape", chosen.shape))


class ChumpyReshape(StandIn):
    """chumpy.reordering.Reshape: `a` in the shape `newshape`."""

    def value(self, depth: int) -> np.ndarray:
        """The numbers."""
        return _numbers(self.fields["a"], depth).reshape(self.fields["newshape"])


class SparseMatrix(StandIn):
    """scipy's csc_matrix: column pointers `indptr`, row numbers `indices`, numbers `data`."""

    def value(self, depth: int) -> np.ndarray:
        """The matrix with its zeros."""
        shape = self.fields.get("_shape", self.fields.get("shape"))
        if shape != (16, VERTICES):
            raise ValueError(f"a sparse matrix of shape {shape}, expected (16, {VERTICES})")
        rows, data = np.asarray(self.fields["indices"]), np.asarray(self.fields["data"])
        counts = np.diff(np.asarray(self.fields["indptr"]).astype(np.int64))
        if len(counts) != VERTICES or counts.min() < 0 or counts.sum() != len(data) or len(rows) != len(data):
            raise ValueError("a sparse matrix whose column pointers do not fit its numbers")
        dense = np.zeros(shape)
        np.add.at(dense, (rows, np.repeat(np.arange(VERTICES), counts)), data)
        return dense


MANO_STAND_INS = {
    ("chumpy.ch", "Ch"): ChumpyArray,
    ("chumpy", "Ch"): ChumpyArray,
    ("chumpy.reordering", "Select"): ChumpySelect,
    ("chumpy.reordering", "Reshape"): ChumpyReshape,
    ("scipy.sparse.csc", "csc_matrix"): SparseMatrix,
    ("scipy.sparse._csc", "csc_matrix"): SparseMatrix,
}


def load_mano(path: str | Path, side: Side | None = None, right: HandModel | None = None) -> HandModel:
    """Read a MANO file; a left file's known defect (x of the shape directions) is mended with a warning.

    Args:
        path: MANO_RIGHT.pkl or MANO_LEFT.pkl, as published.
        side: the side the file must be of; None takes it from the template.
        right: the right hand, against which a left file is checked; without it the left file is judged by itself.

    Returns:
        The model, float64, metres, 778 vertices, tips at `TIP_VERTICES`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: refused (see `safe_pickle`), damaged, not MANO's arrays, or of the other side.
    """
    if side is not None:
        check_choice("side", side, ("right", "left"))
    contents = load_pickle(path, MANO_STAND_INS)
    tips = np.array(TIP_VERTICES, dtype=np.int64)
    model = HandModel(name="mano", side="right", tip_vertices=tips, **_arrays(path, contents))
    found = template_side(model.v_template, model.joint_regressor)
    if side is not None and side != found:
        raise ValueError(f"{path}: expected a {side} hand, got a {found} one by its template; give the other file")
    return model if found == "right" else mend_left_shapes(replace(model, side="left"), right)


def load_mano_pair(right_path: str | Path, left_path: str | Path) -> tuple[HandModel, HandModel]:
    """Read both hands; the left one is checked against the right one, and mended where it has the defect."""
    right = load_mano(right_path, "right")
    return right, load_mano(left_path, "left", right)


def template_side(v_template: np.ndarray, joint_regressor: np.ndarray) -> Side:
    """Side of a hand in MANO's frame (+y out of the back of the hand): from wrist, fingers and thumb side."""
    joints = joint_regressor @ v_template
    along = joints[4] - joints[0]  # wrist to middle knuckle
    across = joints[1] - joints[7]  # little knuckle to index knuckle
    volume = along[0] * across[2] - along[2] * across[0]
    return "left" if volume > 0 else "right"


def mend_left_shapes(left: HandModel, right: HandModel | None = None) -> HandModel:
    """Undo the defect of a published left file: the x components of all shape directions have the right hand's sign.

    With the right hand at hand, the signs of x are compared. Without it, the mesh itself is asked: the first shape
    direction is overall size, growth stretches a surface evenly, and with the wrong sign of x it would shrink along x
    while it grows along z.
    """
    if right is None:
        ratio = shape_unevenness(left) / shape_unevenness(_flip_shapes(left))
        evidence = f"judged without the right file: growth is {ratio:.0f} times more even with x negated"
        if 1 / _UNEVENNESS < ratio < _UNEVENNESS:
            warnings.warn(
                "the left hand's shape directions cannot be judged without the right file (their x has the wrong sign "
                "in a published version); pass right=load_mano(...) or use load_mano_pair",
                stacklevel=3,
            )
            return left
        defective = ratio > 1
    else:
        cosine = _cosine(left, right)
        evidence = f"against the right file, cosine {cosine:+.3f}, expected -1"
        defective = cosine > 0
    if not defective:
        return left
    warnings.warn(
        f"the left hand's shape directions have the right hand's sign in x ({evidence}); mended", stacklevel=3
    )
    return _flip_shapes(left)


def shape_unevenness(model: HandModel) -> float:
    """Variance over the mesh's edges of their relative stretch per unit of the first shape component (size)."""
    pairs = model.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    edges = model.v_template[pairs[:, 0]] - model.v_template[pairs[:, 1]]  # (3F, 3)
    changes = model.shapedirs[pairs[:, 0], :, 0] - model.shapedirs[pairs[:, 1], :, 0]  # (3F, 3)
    stretch = (edges * changes).sum(1) / np.maximum((edges * edges).sum(1), 1e-12)
    return max(float(stretch.var()), 1e-20)


def _flip_shapes(model: HandModel) -> HandModel:
    return replace(model, shapedirs=model.shapedirs * np.array([-1.0, 1.0, 1.0])[:, None])


def _cosine(left: HandModel, right: HandModel) -> float:
    if left.shapedirs.shape != right.shapedirs.shape or right.side != "right":
        raise ValueError(
            f"right: expected a right hand with shape directions {left.shapedirs.shape}, got a {right.side} hand with "
            f"{right.shapedirs.shape}; give the right file of the same version"
        )
    a, b = left.shapedirs[:, 0], right.shapedirs[:, 0]
    cosine = float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
    if abs(cosine) < _SAME_MODEL:
        raise ValueError(
            f"right: its shape directions are not those of the left hand (cosine {cosine:+.2f} in x, expected near -1, "
            "or +1 with the known defect); give the right file of the same version"
        )
    return cosine


def _arrays(path: str | Path, contents: object) -> dict[str, np.ndarray]:
    missing = [key for key in _FIELDS if not isinstance(contents, dict) or key not in contents]
    if missing:
        raise ValueError(f"{path}: expected MANO's arrays, missing: {', '.join(missing)}; is this a MANO file?")
    arrays = {}
    for key, field in _FIELDS.items():
        array = _named(path, key, lambda key=key: _numbers(contents[key], 0))
        if key == "f":
            arrays[field] = array.astype(np.int64)
        else:
            arrays[field] = array.astype(np.float64)
    if arrays["v_template"].shape != (VERTICES, 3):
        raise ValueError(
            f"{path}, array v_template: expected shape ({VERTICES}, 3), got {arrays['v_template'].shape}; "
            "a hand of another mesh is read by load_hand_model"
        )
    if "kintree_table" in contents:
        _check_tree(path, _named(path, "kintree_table", lambda: _numbers(contents["kintree_table"], 0)))
    return arrays


def _check_tree(path: str | Path, table: np.ndarray) -> None:
    parents = table[0].tolist() if table.ndim == 2 else []
    # the root's parent is stored as -1 in an unsigned type
    if len(parents) != len(MODEL_PARENTS) or tuple(parents[1:]) != MODEL_PARENTS[1:]:
        raise ValueError(f"{path}, array kintree_table: expected the parents {MODEL_PARENTS}, got {parents}")


def _named(path: str | Path, key: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return read()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path}, array {key}: cannot be read ({type(error).__name__}: {error})") from error


def _numbers(value: Any, depth: int) -> np.ndarray:
    """A plain array of what a file stores for one: an array, a number or a stand-in of one."""
    if depth > _MAX_NESTING:
        raise ValueError(f"objects nested deeper than {_MAX_NESTING}")
    if hasattr(value, "value") and isinstance(value, StandIn):
        return value.value(depth + 1)
    # no lists: a few that hold each other many times would fill the memory
    if not isinstance(value, np.ndarray | np.generic | int | float) or np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(f"expected an array of numbers, got {type(value).__name__}")
    return np.array(value, subok=False)
