"""A hand model in MANO's layout, whatever its number of vertices: arrays, identity, and the open hand's files."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ops.checks import check_choice
from ops.joints import MODEL_PARENTS, PART_NAMES

DATA = Path(__file__).parent / "data"
OPEN_HAND = "open-hand"
Side = Literal["right", "left"]
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "v_template": ("V", 3),
    "shapedirs": ("V", 3, "S"),
    "posedirs": ("V", 3, 135),
    "weights": ("V", 16),
    "joint_regressor": (16, "V"),
    "faces": ("F", 3),
    "tip_vertices": (5,),
    "pose_mean": (45,),
    "pose_components": (45, 45),
}
_OPTIONAL_SHAPES: dict[str, tuple[int | str, ...]] = {
    "part_labels": ("V",),
    "uv": ("T", 2),
    "uv_faces": ("F", 3),
    "controls": ("V", 3, 7),
    "flexion_axes": (16, 3),
    "abduction_axes": (16, 3),
    "limits": (16, 2, 2),
    "bone_groups": (16,),
}


@dataclass(frozen=True, eq=False)
class HandModel:
    """Arrays of one hand (V vertices, F faces, S shape components), float64, metres, model frame.

    Pose components, joints and tips are in MANO's order (`ops.joints.MODEL_JOINTS`; tips thumb to little). The optional
    arrays exist for the open hand; a model without them (MANO) works wherever they are not needed.
    """

    name: str
    side: Side
    v_template: np.ndarray  # (V, 3) rest vertices
    shapedirs: np.ndarray  # (V, 3, S) metres per unit of shape
    posedirs: np.ndarray  # (V, 3, 135) metres per entry of R - I, joints 1-15, row-major
    weights: np.ndarray  # (V, 16) skinning weights, rows sum to 1
    joint_regressor: np.ndarray  # (16, V)
    faces: np.ndarray  # (F, 3) int64, counter-clockwise from outside
    tip_vertices: np.ndarray  # (5,) int64
    pose_mean: np.ndarray  # (45,) axis-angle
    pose_components: np.ndarray  # (45, 45) rows are principal components
    part_labels: np.ndarray | None = None  # (V,) 0 palm, 1-19 finger parts: `ops.joints.PART_NAMES`
    uv: np.ndarray | None = None  # (T, 2) in [0, 1], v upwards
    uv_faces: np.ndarray | None = None  # (F, 3) rows of uv
    controls: np.ndarray | None = None  # (V, 3, 7) metres per unit: `CONTROL_NAMES`
    flexion_axes: np.ndarray | None = None  # (16, 3) unit, rest frame; positive curls towards the palm; 0: none
    abduction_axes: np.ndarray | None = None  # (16, 3) unit, rest frame; positive towards the thumb's side; 0: none
    limits: np.ndarray | None = None  # (16, 2, 2) radians: [flexion, abduction][low, high]
    bone_groups: np.ndarray | None = None  # (16,) 0 palm, 1-5 thumb to little: which bone scale a joint belongs to

    def __post_init__(self) -> None:
        check_choice("side", self.side, ("right", "left"))
        sizes: dict[str, int] = {}
        for field, shape in _SHAPES.items():
            self._check_array(field, shape, sizes)
        for field, shape in _OPTIONAL_SHAPES.items():
            if getattr(self, field) is not None:
                self._check_array(field, shape, sizes)
        rows = {"faces": sizes["V"], "tip_vertices": sizes["V"], "part_labels": len(PART_NAMES)}
        rows |= {"uv_faces": sizes.get("T", 0), "bone_groups": len(BONE_GROUP_NAMES)}
        for field, count in rows.items():
            array = getattr(self, field)
            if array is not None and array.size and (array.min() < 0 or array.max() >= count):
                raise ValueError(
                    f"hand model '{self.name}', array {field}: indices must lie in 0..{count - 1}, "
                    f"got {array.min()}..{array.max()}"
                )

    def _check_array(self, field: str, shape: tuple[int | str, ...], sizes: dict[str, int]) -> None:
        """Raise unless an array is finite and of its shape; sizes of letters are added to `sizes`."""
        array = getattr(self, field)
        fits = isinstance(array, np.ndarray) and array.ndim == len(shape)
        for got, want in zip(getattr(array, "shape", ()), shape, strict=False):
            fits = fits and got == (sizes.setdefault(want, got) if isinstance(want, str) else want)
        if not fits:
            raise ValueError(
                f"hand model '{self.name}', array {field}: expected shape {shape} with {sizes}, "
                f"got {getattr(array, 'shape', type(array).__name__)}; is this a file in MANO's layout?"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"hand model '{self.name}', array {field}: NaN or infinite numbers; get the file anew")

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of each of the 16 joints, -1 for the root."""
        return MODEL_PARENTS

    @cached_property
    def id(self) -> str:
        """Names the geometry, for checkpoints and files: `name-side-V-<hash of the arrays>`."""
        digest = hashlib.sha256()
        for field in _SHAPES:
            digest.update(np.ascontiguousarray(getattr(self, field), dtype="<f4").tobytes())
        return f"{self.name}-{self.side}-{len(self.v_template)}-{digest.hexdigest()[:8]}"

    def mirrored(self) -> "HandModel":
        """The other hand: x negated throughout.

        A pose mirrors as (x, -y, -z) per joint; `mirror_pose` in the layer's module does it. posedirs change sign in
        x and in every column of an entry (i, j) of R - I with exactly one of i, j equal to x.
        """
        flip = np.array([-1.0, 1.0, 1.0])
        column_signs = np.tile(np.outer(flip, flip).reshape(-1), 15)  # (135,)
        pose_signs = np.tile(np.array([1.0, -1.0, -1.0]), 15)  # (45,)
        return replace(
            self,
            side="left" if self.side == "right" else "right",
            v_template=self.v_template * flip,
            shapedirs=self.shapedirs * flip[:, None],
            posedirs=self.posedirs * flip[:, None] * column_signs,
            faces=np.ascontiguousarray(self.faces[:, ::-1]),
            uv_faces=None if self.uv_faces is None else np.ascontiguousarray(self.uv_faces[:, ::-1]),
            pose_mean=self.pose_mean * pose_signs,
            pose_components=self.pose_components * pose_signs,
            controls=None if self.controls is None else self.controls * flip[:, None],
            # an axis is a pseudo-vector: a positive angle must still curl, so it mirrors as (x, -y, -z)
            flexion_axes=None if self.flexion_axes is None else self.flexion_axes * -flip,
            abduction_axes=None if self.abduction_axes is None else self.abduction_axes * -flip,
        )


# file key -> field; the file keeps MANO's own key names
_KEYS = {
    "v_template": "v_template",
    "shapedirs": "shapedirs",
    "posedirs": "posedirs",
    "weights": "weights",
    "J_regressor": "joint_regressor",
    "f": "faces",
    "tip_vertex_ids": "tip_vertices",
    "hands_mean": "pose_mean",
    "hands_components": "pose_components",
}
_OPTIONAL_KEYS = {
    "part_labels": "part_labels",
    "uv": "uv",
    "ft": "uv_faces",
    "controls": "controls",
    "flexion_axes": "flexion_axes",
    "abduction_axes": "abduction_axes",
    "limits": "limits",
    "bone_groups": "bone_groups",
}
_INTEGER_FIELDS = ("faces", "tip_vertices", "part_labels", "uv_faces", "bone_groups")

CONTROL_NAMES = (
    "length",
    "mass",
    "size",
    "palm_length",
    "finger_inter_distance",
    "finger_length",
    "fingertip_size",
)
BONE_GROUP_NAMES = ("palm", "thumb", "index", "middle", "ring", "little")


def load_hand_model(path: str | Path, name: str, side: Side) -> HandModel:
    """Read a hand model from an .npz with MANO's key names. Nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an .npz of numbers, an array missing or of the wrong shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such hand model file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key in _KEYS or key in _OPTIONAL_KEYS}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"{path}: cannot be read as an .npz of plain arrays ({error}); get the file anew") from error
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise ValueError(f"{path}: arrays missing: {', '.join(missing)}; expected a hand model in MANO's layout")
    fields = {{**_KEYS, **_OPTIONAL_KEYS}[key]: array for key, array in arrays.items()}
    for field, array in fields.items():
        fields[field] = array.astype(np.int64 if field in _INTEGER_FIELDS else np.float64)
    return HandModel(name=name, side=side, **fields)


@cache
def open_hand(side: Side = "right", resolution: Literal["778", "native"] = "778") -> HandModel:
    """The open hand (CC0): 778 vertices in MANO's layout, or its native 1649."""
    check_choice("resolution", resolution, ("778", "native"))
    check_choice("side", side, ("right", "left"))
    file = "open_hand_right.npz" if resolution == "778" else "open_hand_right_native.npz"
    model = load_hand_model(DATA / file, name=OPEN_HAND, side="right")
    return model if side == "right" else model.mirrored()
