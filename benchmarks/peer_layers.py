"""The hand layers of other projects, made comparable: measured and tested against, never shipped.

smplx comes from PyPI (`make peers`). manotorch (github.com/lixiny/manotorch) and manopth (github.com/hassony2/manopth)
are not on PyPI: give the folders of their checkouts. Both load their files through chumpy, which no longer imports; a
stand-in hands them the same arrays.
"""

import pickle
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csc_matrix
from torch import Tensor

from ops.hand_model import HandModel
from ops.joints import MODEL_TO_CANONICAL

# pose (B, 45), shape (B, 10), global rotation (B, 3) -> vertices (B, V, 3) metres, joints (B, 16 or 21, 3)
Layer = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
_LOADER = "mano.webuser.smpl_handpca_wrapper_HAND_only"


def mano_arrays(model: HandModel) -> dict[str, object]:
    """The model under the keys of MANO's files."""
    parents = [2**32 - 1, *model.parents[1:]]  # MANO stores the root's parent as an unsigned -1
    return {
        "v_template": model.v_template,
        "shapedirs": model.shapedirs,
        "posedirs": model.posedirs,
        "weights": model.weights,
        "J_regressor": csc_matrix(model.joint_regressor),
        "f": model.faces.astype(np.uint32),
        "kintree_table": np.array([parents, range(16)], dtype=np.uint32),
        "hands_mean": model.pose_mean,
        "hands_components": model.pose_components,
        "hands_coeffs": np.zeros((1, 45)),
        "bs_type": "lrotmin",
        "bs_style": "lbs",
    }


def smplx_layer(model: HandModel, folder: Path, flat_hand_mean: bool = True) -> Layer:
    """smplx's MANO layer on `model`, written into `folder` as it wants it. Joints: 16, model order."""
    import smplx

    path = folder / f"MANO_{model.side.upper()}.pkl"
    path.write_bytes(pickle.dumps(mano_arrays(model)))
    layer = smplx.MANO(str(path), is_rhand=model.side == "right", use_pca=False, flat_hand_mean=flat_hand_mean)

    def run(pose: Tensor, shape: Tensor, global_rotation: Tensor) -> tuple[Tensor, Tensor]:
        out = layer(betas=shape, global_orient=global_rotation, hand_pose=pose)
        return out.vertices, out.joints

    run.to = layer.to
    return run


def manotorch_layer(model: HandModel, folder: Path) -> Layer:
    """manotorch's layer. Joints: 21, canonical order."""
    _stand_in_for_chumpy(model)
    from manotorch.manolayer import ManoLayer

    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / f"MANO_{model.side.upper()}.pkl").touch()  # it looks for the file, the stand-in reads none
    layer = ManoLayer(side=model.side, mano_assets_root=str(folder), flat_hand_mean=True)

    def run(pose: Tensor, shape: Tensor, global_rotation: Tensor) -> tuple[Tensor, Tensor]:
        out = layer(torch.cat([global_rotation, pose], 1), shape)
        return out.verts, out.joints

    run.to = layer.to
    return run


def manopth_layer(model: HandModel, folder: Path) -> Layer:
    """manopth's layer, which answers in millimetres. Joints: 21, canonical order."""
    _stand_in_for_chumpy(model)
    from manopth.manolayer import ManoLayer

    layer = ManoLayer(side=model.side, mano_root=str(folder), flat_hand_mean=True, use_pca=False)

    def run(pose: Tensor, shape: Tensor, global_rotation: Tensor) -> tuple[Tensor, Tensor]:
        vertices, joints = layer(torch.cat([global_rotation, pose], 1), shape)
        return vertices / 1000, joints / 1000

    run.to = layer.to
    return run


def importable_peers(
    model: HandModel, folder: Path, checkouts: Iterable[Path] = ()
) -> tuple[dict[str, Layer], dict[str, str]]:
    """The peers that can be imported, by name, and why the others cannot.

    Args:
        model: the hand that all of them pose.
        folder: where they may write the files they want.
        checkouts: folders to import from, one per project that is not installed.
    """
    sys.path += [str(path) for path in checkouts]
    peers, missing = {}, {}
    for name, build in {"smplx": smplx_layer, "manotorch": manotorch_layer, "manopth": manopth_layer}.items():
        try:
            peers[name] = build(model, folder)
        except ImportError as error:
            missing[name] = str(error)
    return peers, missing


def difference(layer: Layer, vertices: Tensor, joints: Tensor, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference of a peer's vertices and joints from ours (joints (B, 21, 3) canonical), metres."""
    peer_vertices, peer_joints = layer(*inputs)
    if peer_joints.shape[1] == 16:
        places = [MODEL_TO_CANONICAL.index(joint) for joint in range(16)]
        joints = joints[:, places]
    return max(float((peer_vertices - vertices).abs().max()), float((peer_joints - joints).abs().max()))


class _Readable(np.ndarray):
    """An array with chumpy's `.r`."""

    @property
    def r(self) -> np.ndarray:
        return np.asarray(self)


def _stand_in_for_chumpy(model: HandModel) -> None:
    arrays = mano_arrays(model) | {"betas": np.zeros(model.shapedirs.shape[2])}
    for key in ("v_template", "shapedirs", "posedirs", "weights", "betas"):
        arrays[key] = arrays[key].view(_Readable)
    loader = types.ModuleType(_LOADER)
    loader.ready_arguments = lambda path: arrays
    sys.modules |= {"mano": types.ModuleType("mano"), "mano.webuser": types.ModuleType("mano.webuser"), _LOADER: loader}
