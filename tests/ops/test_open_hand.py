"""The arrays of the open hand: what must hold for any use of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ops.hand_model.model import CONTROL_NAMES, HandModel, open_hand
from ops.joints import MODEL_JOINTS, MODEL_PARENTS, PART_NAMES

RING = [108, 79, 78, 121, 214, 215, 279, 239, 234, 92, 38, 122, 118, 117, 119, 120]
CHAINS = {"index": (1, 2, 3), "middle": (4, 5, 6), "little": (7, 8, 9), "ring": (10, 11, 12), "thumb": (13, 14, 15)}
TIP_ORDER = ("thumb", "index", "middle", "ring", "little")
HINGED = {1, 4, 7, 10, 13}  # joints that also abduct


@pytest.fixture(params=["778", "native"], scope="module")
def hand(request: pytest.FixtureRequest) -> HandModel:
    return open_hand(resolution=request.param)


def joints_of(hand: HandModel, vertices: np.ndarray | None = None) -> np.ndarray:
    return hand.joint_regressor @ (hand.v_template if vertices is None else vertices)


def tip_of(hand: HandModel, joint: int) -> int:
    finger = next(finger for finger, chain in CHAINS.items() if joint in chain)
    return int(hand.tip_vertices[TIP_ORDER.index(finger)])


def edge_uses(faces: np.ndarray) -> Counter:
    return Counter(frozenset((a, b)) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True))


def turned_tip(hand: HandModel, joint: int, axis: np.ndarray, degrees: float) -> np.ndarray:
    """How far the fingertip moves when one joint turns; the tip hangs rigidly on the distal bones."""
    base, tip = joints_of(hand)[joint], hand.v_template[tip_of(hand, joint)]
    return Rotation.from_rotvec(axis * np.deg2rad(degrees)).apply(tip - base) + base - tip


def bone(hand: HandModel, joint: int) -> np.ndarray:
    """Direction from a joint to the next one, or to the fingertip."""
    joints = joints_of(hand)
    child = MODEL_PARENTS.index(joint) if joint in MODEL_PARENTS else None
    end = hand.v_template[tip_of(hand, joint)] if child is None else joints[child]
    return (end - joints[joint]) / np.linalg.norm(end - joints[joint])


def test_ids_name_these_very_arrays():
    # a checkpoint stores the id: a changed array must change it on purpose
    assert open_hand().id == "open-hand-right-778-240fcc93"
    assert open_hand(resolution="native").id == "open-hand-right-1649-a1926667"


def test_weights_and_regressor_are_convex_combinations(hand):
    for rows in (hand.weights, hand.joint_regressor):
        assert rows.min() >= 0
        np.testing.assert_allclose(rows.sum(1), 1, atol=2e-6)  # stored as float32
    assert (hand.weights > 0).sum(1).max() <= 4


def test_frame_has_the_wrist_at_the_origin_and_fingers_along_minus_x(hand):
    joints = joints_of(hand)
    assert np.linalg.norm(joints[0]) < 1e-3
    assert joints[4, 0] < -0.08 and abs(joints[4, 2]) < 2e-3  # middle knuckle straight ahead
    assert joints[1, 2] > 0.02 > joints[7, 2]  # index on the thumb's side
    assert hand.v_template[:, 0].min() == pytest.approx(-0.188, abs=2e-3)  # an adult hand


def test_mesh_is_a_disc_and_a_sphere_once_sealed():
    hand = open_hand()
    uses = edge_uses(hand.faces)
    assert len(hand.v_template) - len(uses) + len(hand.faces) == 1
    assert {vertex for edge, count in uses.items() if count == 1 for vertex in edge} == set(RING)
    centre = len(hand.v_template)
    cap = [[RING[i - 1], RING[i], centre] for i in range(len(RING))]
    sealed = np.vstack([hand.faces, cap])
    directed = Counter((a, b) for face in sealed.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True))
    assert set(directed.values()) == {1}  # every edge once in each direction: closed, consistently wound
    assert all((b, a) in directed for a, b in directed)
    corners = np.vstack([hand.v_template, hand.v_template[RING].mean(0)])[sealed]
    volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 250e-6 < volume < 450e-6  # cubic metres, positive: faces look outwards


def test_native_mesh_is_a_disc_with_a_rim_of_twenty():
    hand = open_hand(resolution="native")
    uses = edge_uses(hand.faces)
    assert len(hand.v_template) - len(uses) + len(hand.faces) == 1
    assert list(uses.values()).count(1) == 20


def test_coarse_vertices_are_native_vertices_with_all_they_carry():
    coarse, native = open_hand(), open_hand(resolution="native")
    distance = np.linalg.norm(coarse.v_template[:, None] - native.v_template[None], axis=-1)
    rows = distance.argmin(1)
    assert distance.min(1).max() == 0
    for field in ("weights", "shapedirs", "controls", "part_labels"):
        np.testing.assert_array_equal(getattr(coarse, field), getattr(native, field)[rows])


def test_every_part_is_there_and_tips_lie_in_tip_parts(hand):
    assert set(np.unique(hand.part_labels)) == set(range(len(PART_NAMES)))
    assert [PART_NAMES[hand.part_labels[tip]] for tip in hand.tip_vertices] == [f"{name}_tip" for name in TIP_ORDER]


def test_uv_lies_in_the_picture_and_faces_do_not_overlap_grossly(hand):
    assert hand.uv.min() >= 0 and hand.uv.max() <= 1
    first, second, third = (hand.uv[hand.uv_faces[:, k]] for k in range(3))
    edges = np.stack([second - first, third - first], -1)
    area = np.linalg.det(edges) / 2
    assert (area > 0).mean() > 0.99  # one orientation: nothing is folded over
    assert 0.3 < area.sum() < 0.8  # of the picture


def test_flexion_axes_are_unit_and_square_to_their_bones(hand):
    np.testing.assert_allclose(np.linalg.norm(hand.flexion_axes[1:], axis=1), 1, atol=1e-6)
    assert not hand.flexion_axes[0].any() and not hand.abduction_axes[0].any()
    for joint in range(1, 16):
        # joints come from the regressor (0.5 mm) and a tip is a vertex beside the bone's end
        tolerance = 0.03 if joint in MODEL_PARENTS else 0.15
        assert abs(hand.flexion_axes[joint] @ bone(hand, joint)) < tolerance, MODEL_JOINTS[joint]


def test_abduction_axes_exist_at_knuckles_alone_and_are_square_to_flexion(hand):
    for joint in range(1, 16):
        axis = hand.abduction_axes[joint]
        assert np.linalg.norm(axis) == pytest.approx(1.0 if joint in HINGED else 0.0, abs=1e-6)
        assert abs(axis @ hand.flexion_axes[joint]) < 1e-6


@pytest.mark.parametrize("joint", range(1, 16), ids=MODEL_JOINTS[1:])
def test_flexion_curls_towards_the_palm(hand, joint):
    moved = turned_tip(hand, joint, hand.flexion_axes[joint], 30)
    assert moved[1] < -0.001  # metres; the thumb's upper joints bend mostly across the palm
    if joint >= 14:
        assert moved[2] < -0.005


@pytest.mark.parametrize("joint", sorted(HINGED), ids=lambda joint: MODEL_JOINTS[joint])
def test_abduction_turns_towards_the_thumb_and_stays_in_the_palms_plane(hand, joint):
    moved = turned_tip(hand, joint, hand.abduction_axes[joint], 15)
    assert moved[2] > 0.008
    assert abs(moved[1]) < 0.5 * abs(moved[2])


def test_curling_a_whole_finger_keeps_it_in_its_plane(hand):
    joints = joints_of(hand)
    for finger in ("index", "middle", "ring", "little"):
        base, middle, last = CHAINS[finger]
        turn = np.eye(3)
        points, at = [joints[base]], joints[base]
        ends = [joints[middle], joints[last], hand.v_template[tip_of(hand, base)]]
        for joint, end in zip((base, middle, last), ends, strict=True):
            turn = turn @ Rotation.from_rotvec(hand.flexion_axes[joint] * np.deg2rad(60)).as_matrix()
            at = at + turn @ (end - joints[joint])
            points.append(at)
        aside = (np.array(points) - joints[base]) @ hand.flexion_axes[base]
        assert np.abs(aside).max() < 0.006  # metres, of a finger of 80 mm curled by 180 degrees


def test_limits_hold_the_rest_pose_and_are_zero_where_nothing_moves(hand):
    low, high = hand.limits[..., 0], hand.limits[..., 1]
    assert (low[1:, 0] < 0).all() and (high[1:, 0] > 0).all()
    for joint in range(16):
        if joint in HINGED:
            assert low[joint, 1] < 0 < high[joint, 1]
        else:
            assert not hand.limits[joint, 1].any()
    assert not hand.limits[0].any()
    degrees = np.rad2deg(hand.limits[:, 0])
    np.testing.assert_allclose(degrees[[2, 5, 8, 11]], [[-2, 98]] * 4, atol=0.1)  # PIP 0-100, rest bent by 2
    np.testing.assert_allclose(degrees[[1, 4, 7, 10], 1], 85, atol=2)


def test_thumb_starts_from_alongside_the_index_metacarpal(hand):
    joints = joints_of(hand)
    index, thumb = joints[1] - joints[0], bone(hand, 13)
    (flexion_low, flexion_high), (abduction_low, abduction_high) = hand.limits[13]
    adducted = Rotation.from_rotvec(hand.abduction_axes[13] * abduction_low).apply(thumb)
    assert np.rad2deg(np.arctan2(adducted[2], -adducted[0]) - np.arctan2(index[2], -index[0])) == pytest.approx(
        0, abs=8
    )
    raised = Rotation.from_rotvec(hand.flexion_axes[13] * flexion_low).apply(thumb)
    assert abs(raised[1]) < 0.1  # back in the palm's plane
    assert np.rad2deg(flexion_high - flexion_low) == pytest.approx(70, abs=0.01)
    assert np.rad2deg(abduction_high - abduction_low) == pytest.approx(60, abs=0.01)


def test_bone_groups_follow_the_fingers(hand):
    assert hand.bone_groups.tolist() == [0, 2, 2, 2, 3, 3, 3, 5, 5, 5, 4, 4, 4, 1, 1, 1]


def test_left_hand_curls_and_spreads_with_the_same_signs():
    left = open_hand("left")
    for joint in range(1, 16):
        assert turned_tip(left, joint, left.flexion_axes[joint], 30)[1] < -0.001
    for joint in HINGED:
        assert turned_tip(left, joint, left.abduction_axes[joint], 15)[2] > 0.008


# Shape controls: what one unit does to the hand, measured from joints and vertices.


def measures(hand: HandModel, **units: float) -> dict[str, float]:
    """Lengths in metres of the hand with some controls applied."""
    vertices = hand.v_template + sum(units[name] * hand.controls[..., CONTROL_NAMES.index(name)] for name in units)
    joints = joints_of(hand, vertices)
    tips = vertices[hand.tip_vertices]
    middle_distal = vertices[hand.weights[:, 6] > 0.9]
    palm = vertices[hand.weights[:, 0] > 0.99]
    return {
        "palm": np.linalg.norm(joints[4] - joints[0]),
        "finger": sum(np.linalg.norm(b - a) for a, b in ((joints[4], joints[5]), (joints[5], joints[6]))),
        "knuckle_gap": np.linalg.norm(joints[1] - joints[4]),
        "length": np.linalg.norm(tips[2] - joints[0]),
        "tip_girth": np.ptp(middle_distal[:, 2]),
        "finger_girth": np.ptp(vertices[hand.weights[:, 5] > 0.9][:, 2]),
        "palm_thickness": np.ptp(palm[:, 1]),
    }


@pytest.mark.parametrize(
    ("control", "grows", "stays"),
    [
        ("length", {"palm": 1.05, "finger": 1.05, "length": 1.05}, ("tip_girth", "palm_thickness", "finger_girth")),
        ("mass", {"palm_thickness": 1.08, "finger_girth": 1.08}, ("palm", "finger", "length")),
        ("size", dict.fromkeys(("palm", "finger", "length", "tip_girth", "palm_thickness"), 1.05), ()),
        ("palm_length", {"palm": 1.05}, ("finger", "tip_girth", "finger_girth", "palm_thickness")),
        ("finger_inter_distance", {"knuckle_gap": 1.08}, ("palm", "finger", "tip_girth")),
        ("finger_length", {"finger": 1.05}, ("palm", "tip_girth", "knuckle_gap", "palm_thickness")),
        ("fingertip_size", {"tip_girth": 1.10}, ("palm", "finger", "length", "finger_girth", "palm_thickness")),
    ],
)
def test_each_control_does_what_its_name_says(hand, control, grows, stays):
    before, after = measures(hand), measures(hand, **{control: 1.0})
    for name, factor in grows.items():
        assert after[name] / before[name] == pytest.approx(factor, abs=0.02), name
    for name in stays:
        assert after[name] / before[name] == pytest.approx(1, abs=0.01), name


def test_no_control_is_a_mixture_of_the_others(hand):
    directions = hand.controls.reshape(-1, len(CONTROL_NAMES))
    values = np.linalg.svd(directions / np.linalg.norm(directions, axis=0), compute_uv=False)
    assert values.min() > 0.01 * values.max()  # zero if length were palm_length + finger_length


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("part_labels", lambda a: a[1:], r"array part_labels: expected shape \('V',\)"),
        ("part_labels", lambda a: a + 1, r"array part_labels: indices must lie in 0\.\.19, got 1\.\.20"),
        ("uv", lambda a: a[:, :1], r"array uv: expected shape \('T', 2\)"),
        ("uv", lambda a: a[1:], "array uv_faces: indices must lie in"),
        ("uv_faces", lambda a: a[1:], r"array uv_faces: expected shape \('F', 3\)"),
        ("controls", lambda a: a[..., :6], r"array controls: expected shape \('V', 3, 7\)"),
        ("controls", lambda a: a * np.nan, "array controls: NaN or infinite"),
        ("flexion_axes", lambda a: a[1:], r"array flexion_axes: expected shape \(16, 3\)"),
        ("abduction_axes", lambda a: a * np.inf, "array abduction_axes: NaN or infinite"),
        ("limits", lambda a: a[..., 0], r"array limits: expected shape \(16, 2, 2\)"),
        ("bone_groups", lambda a: a[1:], r"array bone_groups: expected shape \(16,\)"),
        ("bone_groups", lambda a: a + 1, r"array bone_groups: indices must lie in 0\.\.5, got 1\.\.6"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_optional_arrays_are_checked_as_well(field, change, message):
    model = open_hand()
    with pytest.raises(ValueError, match=message):
        replace(model, **{field: change(getattr(model, field))})
