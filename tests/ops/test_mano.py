"""The MANO reader on files in the published layout, and on files that want more than to be read."""

import io
import pickle
import sys
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from ops.hand_model.mano import MANO_STAND_INS, ChumpyArray, load_mano, load_mano_pair, template_side
from ops.hand_model.model import open_hand
from ops.safe_pickle import RefusedPickle, load_pickle
from tests.ops.python2_pickle import write

FIELDS = ("v_template", "shapedirs", "posedirs", "weights", "joint_regressor", "faces", "pose_mean", "pose_components")


@pytest.fixture
def chumpy(monkeypatch):
    """Modules that look like chumpy to a pickler; gone again before the file is read."""
    ch, reordering = types.ModuleType("chumpy.ch"), types.ModuleType("chumpy.reordering")
    for module, name in ((ch, "Ch"), (ch, "MatVecMult"), (reordering, "Select"), (reordering, "Reshape")):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", ch)
    monkeypatch.setitem(sys.modules, "chumpy.reordering", reordering)
    return types.SimpleNamespace(ch=ch, reordering=reordering)


def make(cls, **state):
    thing = cls()
    thing.__dict__.update(state)
    return thing


def leaf(chumpy, array):
    return make(chumpy.ch.Ch, x=array, _dirty_vars={"x"}, _itr=None, _status="new")


def published(model, chumpy):
    """The dict that a MANO file holds: shape directions sliced from a longer chumpy array, a sparse regressor."""
    count, _, shapes = model.shapedirs.shape
    longer = np.concatenate([model.shapedirs, np.zeros((count, 3, 2))], 2)
    chosen = np.arange(longer.size).reshape(longer.shape)[:, :, :shapes].ravel()
    select = make(
        chumpy.reordering.Select, a=leaf(chumpy, longer), idxs=chosen, preferred_shape=(count, 3, shapes), dterms=["a"]
    )
    flat = make(chumpy.reordering.Reshape, a=leaf(chumpy, model.v_template.ravel()), newshape=(count, 3))
    parents = np.array([[4294967295, *model.parents[1:]], range(16)], dtype=np.uint32)
    return {
        "v_template": flat,
        "shapedirs": select,
        "posedirs": np.asfortranarray(model.posedirs),
        "weights": leaf(chumpy, model.weights),
        "J_regressor": scipy.sparse.csc_matrix(model.joint_regressor),
        "f": model.faces.astype(np.uint32),
        "hands_mean": model.pose_mean,
        "hands_components": model.pose_components.astype(">f8"),
        "kintree_table": parents,
        "bs_style": "lbs",
        "J": model.joint_regressor @ model.v_template,
    }


@pytest.fixture
def right_file(tmp_path, chumpy):
    return write(tmp_path / "MANO_RIGHT.pkl", published(open_hand(), chumpy))


def left_file(tmp_path, chumpy, defective):
    left = open_hand("left")
    if defective:
        left = replace(left, shapedirs=open_hand().shapedirs)
    return write(tmp_path / "MANO_LEFT.pkl", published(left, chumpy))


def assert_same(got, want):
    assert got.side == want.side
    assert (got.tip_vertices == [745, 317, 444, 556, 673]).all()
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(got, field), getattr(want, field), err_msg=field)


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_file_in_the_published_layout_gives_the_arrays_back(tmp_path, chumpy, monkeypatch, protocol):
    path = write(tmp_path / "MANO_RIGHT.pkl", published(open_hand(), chumpy), protocol)
    for module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, module)
    text = path.read_bytes()
    assert b"cchumpy.reordering\nSelect" in text and b"cscipy.sparse.csc\ncsc_matrix" in text
    assert b"cnumpy.core.multiarray\n_reconstruct" in text and b"_codecs" not in text
    assert_same(load_mano(path, "right"), open_hand())
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_converted_by_python_3_is_read_as_well(tmp_path, chumpy, protocol):
    contents = {k: v for k, v in published(open_hand(), chumpy).items() if k not in ("v_template", "shapedirs")}
    contents |= {"v_template": open_hand().v_template, "shapedirs": open_hand().shapedirs}
    path = tmp_path / "converted.pkl"
    path.write_bytes(pickle.dumps(contents, protocol))
    assert_same(load_mano(path), open_hand())


def test_what_is_read_is_plain_and_can_be_written_again(right_file):
    model = load_mano(right_file)
    assert all(type(getattr(model, field)) is np.ndarray for field in FIELDS)
    array = load_pickle(right_file, MANO_STAND_INS)["hands_mean"]
    again = pickle.loads(pickle.dumps(array))
    assert type(again) is np.ndarray
    np.testing.assert_array_equal(again, open_hand().pose_mean)


# ---- sides and the left hand's defect


def test_the_side_is_seen_in_the_template():
    for side in ("right", "left"):
        model = open_hand(side)
        assert template_side(model.v_template, model.joint_regressor) == side


def test_the_other_hands_file_is_refused(right_file):
    with pytest.raises(ValueError, match="expected a left hand, got a right one"):
        load_mano(right_file, "left")


def test_a_sound_left_file_is_left_alone(tmp_path, chumpy, right_file):
    path = left_file(tmp_path, chumpy, defective=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, left = load_mano_pair(right_file, path)
        assert_same(left, open_hand("left"))
        assert_same(load_mano(path), open_hand("left"))


@pytest.mark.parametrize("with_right", [True, False])
def test_a_defective_left_file_is_mended_and_said_so(tmp_path, chumpy, right_file, with_right):
    path = left_file(tmp_path, chumpy, defective=True)
    evidence = "against the right file, cosine \\+1.000" if with_right else "judged without the right file"
    with pytest.warns(UserWarning, match=evidence + ".*mended"):
        left = load_mano(path, "left", load_mano(right_file) if with_right else None)
    assert_same(left, open_hand("left"))


def test_a_left_file_that_cannot_be_judged_alone_says_so(tmp_path, chumpy):
    left = open_hand("left")
    # growth along x alone looks the same with either sign
    path = write(
        tmp_path / "l.pkl", published(replace(left, shapedirs=left.shapedirs * np.array([[1.0], [0], [0]])), chumpy)
    )
    with pytest.warns(UserWarning, match="cannot be judged without the right file"):
        load_mano(path)


def test_a_right_hand_of_another_model_is_refused(tmp_path, chumpy):
    path = left_file(tmp_path, chumpy, defective=True)
    other = replace(open_hand(), shapedirs=np.random.default_rng(0).normal(size=(778, 3, 10)))
    with pytest.raises(ValueError, match="not those of the left hand"):
        load_mano(path, right=other)
    with pytest.raises(ValueError, match="got a left hand"):
        load_mano(path, right=open_hand("left"))


# ---- damaged and foreign files


def changed(key, value):
    def change(contents):
        contents[key] = value(contents) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("posedirs"), "missing: posedirs"),
        (changed("weights", np.full((778, 16), np.nan)), "array weights: NaN or infinite"),
        (changed("posedirs", np.zeros((778, 3, 207))), "array posedirs: expected shape"),
        (changed("v_template", np.zeros((6890, 3))), r"v_template: expected shape \(778, 3\)"),
        (changed("J_regressor", np.zeros((24, 778))), "array joint_regressor: expected shape"),
        (changed("f", np.full((4, 3), 778)), "array faces: indices must lie in 0..777"),
        (changed("weights", "lbs"), "array weights: cannot be read .*expected an array of numbers, got str"),
        (changed("kintree_table", np.zeros((2, 16), np.uint32)), "kintree_table: expected the parents"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, chumpy, change, message):
    contents = published(open_hand(), chumpy)
    change(contents)
    with pytest.raises(ValueError, match=message):
        load_mano(write(tmp_path / "m.pkl", contents))


def test_an_object_that_holds_itself_is_refused(tmp_path, chumpy):
    contents = published(open_hand(), chumpy)
    loop = leaf(chumpy, None)
    loop.x = loop
    contents["weights"] = loop
    with pytest.raises(ValueError, match="nested deeper than 32"):
        load_mano(write(tmp_path / "m.pkl", contents))


@pytest.mark.parametrize("shape", [(10**9, 10**9), (0, 10**12), (778, 16)])
def test_a_sparse_matrix_that_is_no_regressor_is_refused(tmp_path, chumpy, shape):
    contents = published(open_hand(), chumpy)
    contents["J_regressor"]._shape = shape
    with pytest.raises(ValueError, match=rf"sparse matrix of shape \({shape[0]}, {shape[1]}\), expected \(16, 778\)"):
        load_mano(write(tmp_path / "m.pkl", contents))


@pytest.mark.parametrize(("field", "factor"), [("indptr", 10**9), ("indptr", -1), ("indices", 10**6)])
def test_a_sparse_matrix_that_points_elsewhere_is_refused(tmp_path, chumpy, field, factor):
    contents = published(open_hand(), chumpy)
    setattr(contents["J_regressor"], field, getattr(contents["J_regressor"], field).astype(np.int64) * factor)
    with pytest.raises(ValueError, match="array J_regressor: cannot be read"):
        load_mano(write(tmp_path / "m.pkl", contents))


def test_lists_that_hold_each_other_are_not_unrolled(tmp_path, chumpy):
    nested = [0.0]
    for _ in range(40):
        nested = [nested] * 10
    with pytest.raises(ValueError, match=r"array weights: .*expected an array of numbers, got list"):
        load_mano(write(tmp_path / "m.pkl", published(open_hand(), chumpy) | {"weights": nested}))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.999])
def test_a_truncated_file_says_so(right_file, tmp_path, share):
    data = right_file.read_bytes()
    (tmp_path / "part.pkl").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"part\.pkl: damaged, truncated or no pickle"):
        load_mano(tmp_path / "part.pkl")


def test_files_that_are_no_pickle_say_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_mano(tmp_path / "absent.pkl")
    with pytest.raises(FileNotFoundError, match="got a directory"):
        load_mano(tmp_path)
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(ValueError, match="is empty"):
        load_mano(tmp_path / "empty.pkl")
    np.savez(tmp_path / "hand.npz", f=np.zeros(3))
    with pytest.raises(ValueError, match="read by load_hand_model"):
        load_mano(tmp_path / "hand.npz")
    (tmp_path / "login.pkl").write_text("<!DOCTYPE html><p>Please log in")
    with pytest.raises(ValueError, match="web page"):
        load_mano(tmp_path / "login.pkl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2], 2))
    with pytest.raises(ValueError, match="missing: v_template"):
        load_mano(tmp_path / "list.pkl")


# ---- hostile files


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_call_hidden_among_the_arrays_is_never_made(tmp_path, chumpy, protocol):
    contents = published(open_hand(), chumpy) | {"hands_coeffs": [{"deep": (Touch(tmp_path / "canary"),)}]}
    data = pickle.dumps(contents, protocol)
    (tmp_path / "m.pkl").write_bytes(data)
    with pytest.raises(RefusedPickle, match=r"the global '(__builtin__|builtins|io|_io)\.open'"):
        load_mano(tmp_path / "m.pkl")
    assert not (tmp_path / "canary").exists()
    pickle.loads(data)  # the trap works: the ordinary reader falls into it
    assert (tmp_path / "canary").exists()


def test_class_attributes_cannot_be_set(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"cchumpy.ch\nCh\n(N(dS'value'\nI1\nstb.")
    with pytest.raises(ValueError, match="damaged"):
        load_mano(tmp_path / "m.pkl")
    assert callable(ChumpyArray.value)


def test_random_damage_never_does_more_than_raise(right_file, tmp_path):
    data = bytearray(right_file.read_bytes())
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    for _ in range(20):
        hurt = data.copy()
        for position in rng.integers(0, len(hurt), 200):
            hurt[position] = rng.integers(256)
        hurt[rng.integers(0, 400)] ^= 255
        (tmp_path / "hurt.pkl").write_bytes(hurt)
        try:
            model = load_mano(tmp_path / "hurt.pkl")
            stream.write(model.id.encode())  # a lucky hit among the numbers: still a whole model
        except ValueError as error:
            assert "hurt.pkl" in str(error) or "hand model 'mano'" in str(error)
