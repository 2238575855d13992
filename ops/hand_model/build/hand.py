"""All stages in order: from the wheel to the arrays of both files."""

import zipfile

import numpy as np

from ops.hand_model.build import poses
from ops.hand_model.build.annotation import (
    FIT_SAMPLES,
    RING,
    fingertips,
    joint_regressor,
    mano_order,
    part_labels,
    texture_layout,
)
from ops.hand_model.build.controls import BONE_GROUPS, hinge_axes, joint_limits, nail_normal, shape_controls
from ops.hand_model.build.correctives import Surface, pose_correctives, pose_space
from ops.hand_model.build.region import Region, read_region
from ops.hand_model.build.retopology import RIM, VERTICES, Triangles, decimate, triangulate
from ops.hand_model.build.rig import (
    DISTAL_JOINTS,
    FINGER_JOINTS,
    PoseMaker,
    bone_directions,
    local_rotations,
    skin,
    unit,
    world_rotations,
)
from ops.hand_model.build.shape_space import ShapeModel, ShapeSpace, build_shape_space
from ops.hand_model.model import DATA
from ops.joints import MODEL_PARENTS, PART_NAMES

Arrays = dict[str, np.ndarray]
_POSE_WEIGHTS = (1, 1, 0.5, 0.5)  # rest, fist, relaxed, pinch
_PER_VERTEX = ("v_template", "shapedirs", "posedirs", "weights", "controls", "part_labels")


def build_hand(archive: zipfile.ZipFile) -> dict[str, Arrays]:
    """Arrays of the open right hand, by resolution: "native" and "778"."""
    region = read_region(archive)
    model = ShapeModel(archive, region)
    space = build_shape_space(model)
    thumb = [model.relaxed_directions[joint] for joint in FINGER_JOINTS["thumb"]]
    maker = PoseMaker(space.plain_directions, unit(np.cross(thumb[1], thumb[2])))
    native = triangulate(region.quads, region.uv_quads, space.plain_mean)
    coarse = decimate(native, _judged_poses(region, space, maker), _POSE_WEIGHTS, VERTICES, RIM)
    shared = _shared_arrays(space, maker, native, region) | {"controls": shape_controls(model, space)}
    atlas = region.uv[np.unique(native.uv_faces)]
    uv = np.zeros_like(region.uv)
    uv[np.unique(native.uv_faces)] = texture_layout(atlas)
    meshes = {"native": native, "778": coarse}
    arrays = {name: _mesh_arrays(mesh, region, space, maker, uv, shared) for name, mesh in meshes.items()}
    arrays["778"] = _reordered(arrays["778"], coarse)
    return {name: {key: _stored(array) for key, array in parts.items()} for name, parts in arrays.items()}


def _judged_poses(region: Region, space: ShapeSpace, maker: PoseMaker) -> list[np.ndarray]:
    """The mean hand (V, 3) in the poses that the coarse mesh must keep its shape in."""
    posed = [space.mean]
    for make in (poses.fist, poses.relaxed, poses.pinch):
        world = world_rotations(local_rotations(make(maker)))
        posed.append(skin(space.mean, space.joints, region.weights, world)[0])
    return posed


def _shared_arrays(space: ShapeSpace, maker: PoseMaker, native: Triangles, region: Region) -> Arrays:
    """What does not depend on the mesh."""
    directions = bone_directions(space.joints, space.tips)
    nail = nail_normal(space.mean, native.faces, region.weights[:, DISTAL_JOINTS[0]])
    flexion, abduction = hinge_axes(directions, nail)
    with np.load(DATA / "open_hand_right.npz") as published:
        mean, components = pose_space(maker, published["hands_components"].astype(np.float64))
    parents = np.array([2**32 - 1, *MODEL_PARENTS[1:]])  # the root's parent as MANO's uint32 writes -1
    return {
        "kintree_table": np.stack([parents, np.arange(16)]),
        "hands_mean": mean,
        "hands_components": components,
        "part_names": np.array([name.replace("little", "pinky") for name in PART_NAMES]),  # the file's word
        "flexion_axes": flexion,
        "abduction_axes": abduction,
        "limits": joint_limits(space.joints, directions, flexion, abduction),
        "bone_groups": BONE_GROUPS.astype(np.uint8),
    }


def _mesh_arrays(
    mesh: Triangles, region: Region, space: ShapeSpace, maker: PoseMaker, uv: np.ndarray, shared: Arrays
) -> Arrays:
    """All arrays of one resolution, vertices in the source's order."""
    rows = mesh.rows
    vertices, weights = space.mean[rows], region.weights[rows]
    directions = bone_directions(space.joints, space.tips)
    samples, sample_joints = space.sample_vertices[:FIT_SAMPLES, rows], space.sample_joints[:FIT_SAMPLES]
    regressor = joint_regressor(vertices, space.joints, weights, samples, sample_joints)
    used_uv, uv_faces = np.unique(mesh.uv_faces, return_inverse=True)
    return shared | {
        "v_template": vertices,
        "shapedirs": space.components[rows],
        "posedirs": pose_correctives(Surface(vertices, mesh.faces, weights, space.joints), maker),
        "weights": weights,
        "J_regressor": regressor,
        "J": regressor @ vertices,
        "f": mesh.faces.astype(np.uint32),
        "tip_vertex_ids": fingertips(vertices, space.joints, directions, weights),
        "part_labels": part_labels(vertices, space.joints, directions, weights).astype(np.uint8),
        "uv": uv[used_uv],
        "ft": uv_faces.reshape(-1, 3).astype(np.uint32),
        "controls": shared["controls"][rows],
    }


def _reordered(arrays: Arrays, mesh: Triangles) -> Arrays:
    """The same hand with its vertices in the order that MANO's index constants ask for."""
    order = mano_order(mesh, arrays["v_template"], arrays["tip_vertex_ids"])
    rows = np.argsort(order)
    return (
        arrays
        | {key: arrays[key][rows] for key in _PER_VERTEX}
        | {
            "J_regressor": arrays["J_regressor"][:, rows],
            "f": order[mesh.faces].astype(np.uint32),
            "tip_vertex_ids": order[arrays["tip_vertex_ids"]],
            "wrist_ring": np.array(RING),
        }
    )


def _stored(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array
