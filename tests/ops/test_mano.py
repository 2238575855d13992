"""The MANO reader on files in the published layout, and on files that want more than to be read."""

import io
import pickle
import struct
import sys
import types
import warnings
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse

from ops.hand_model.mano import MANO_STAND_INS, ChumpyArray, load_mano, load_mano_pair, template_side
from ops.hand_model.model import open_hand
from ops.hand_model.safe_pickle import RefusedPickle, load_pickle

FIELDS = ("v_template", "shapedirs", "posedirs", "weights", "joint_regressor", "faces", "pose_mean", "pose_components")


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings for str, and the module names of its day."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_byte_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        if not self.bin:
            self.write(b"S" + repr(data)[1:].encode() + b"\n")
        elif len(data) < 256:
            self.write(b"U" + bytes([len(data)]) + data)
        else:
            self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    def save_old_name(self, value, name=None):
        old = {"numpy._core.multiarray": "numpy.core.multiarray", "scipy.sparse._csc": "scipy.sparse.csc"}
        if value.__module__ in old:
            self.write(f"c{old[value.__module__]}\n{value.__name__}\n".encode())
            self.memoize(value)
        else:
            super().save_global(value, name)

    save_global = save_old_name
    dispatch[bytes] = dispatch[str] = save_byte_string
    dispatch[type] = dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = save_old_name


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


def write(path, contents, protocol=2):
    with path.open("wb") as file:
        Python2Pickler(file, protocol).dump(contents)
    return path


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


def test_annotation_pickles_of_numbers_need_no_further_names(tmp_path):
    contents = {7: {"K": np.eye(3), "xyz": np.arange(6.0).reshape(2, 3)}, "list": [np.float32(2.5), (1, None, True)]}
    path = write(tmp_path / "anno.pickle", contents)
    read = load_pickle(path)
    np.testing.assert_array_equal(read[7]["xyz"], [[0, 1, 2], [3, 4, 5]])
    assert read["list"][0] == 2.5 and read["list"][1] == (1, None, True)


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
    (tmp_path / "large.pkl").write_bytes(pickle.dumps(b"x" * 99, 2))
    with pytest.raises(ValueError, match="at most 64 bytes"):
        load_pickle(tmp_path / "large.pkl", max_bytes=64)


# ---- hostile files

DTYPE = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
HOSTILE = {
    "os.system": (b"cos\nsystem\n(S'touch canary'\ntR.", "'os.system'"),
    "posix": (b"cposix\nsystem\n(S'touch canary'\ntR.", "'posix.system'"),
    "eval": (b'c__builtin__\neval\n(S\'open("canary", "w")\'\ntR.', "'__builtin__.eval'"),
    "eval in python 3": (b"cbuiltins\neval\n(S'1'\ntR.", "'builtins.eval'"),
    "getattr": (b"c__builtin__\ngetattr\n(cnumpy\ndtype\nS'__class__'\ntR.", "'__builtin__.getattr'"),
    "import": (b"c__builtin__\n__import__\n(S'antigravity'\ntR.", "'__builtin__.__import__'"),
    "old instance": (b"(S'touch canary'\nios\nsystem\n.", "'os.system'"),
    "obj": (b"(csubprocess\nPopen\nS'touch canary'\no.", "'subprocess.Popen'"),
    "newobj": (b"\x80\x02csubprocess\nPopen\n(S'ls'\nt\x81.", "'subprocess.Popen'"),
    "dotted": (
        b"\x80\x04\x8c\x05numpy\x8c\x1dcore.multiarray._reconstruct\x93.".replace(b"\x1d", b"\x1c"),
        "'numpy.core.multiarray._reconstruct'",
    ),
    "numpy.load": (b"cnumpy\nload\n(S'x.npy'\ntR.", "'numpy.load'"),
    "numpy.fromfile": (b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR.", "'numpy.fromfile'"),
    "numpy's import": (b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.", "'numpy.core.multiarray.fromfile'"),
    "numpy f2py": (b"cnumpy.f2py\ncompile\n(S'x'\ntR.", "'numpy.f2py.compile'"),
    "another chumpy": (b"cchumpy.utils\ndfs_do_func_on_graph\n(tR.", "'chumpy.utils.dfs_do_func_on_graph'"),
    "unknown": (b"cno.such.module\nThing\n(tR.", "'no.such.module.Thing'"),
    "within a list": (b"(lp0\n(dp1\nS'a'\ncos\nsystem\n(S'touch canary'\ntRsa.", "'os.system'"),
    "persistent id": (b"Pcanary\n.", "a persistent id"),
    "binary persistent id": (b"\x80\x02U\x06canaryQ.", "a persistent id"),
    "extension code": (b"\x80\x02\x82\x01.", "an extension code"),
    "memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "a memo of 2147483647 entries"),
    "ndarray of a size": (b"cnumpy\nndarray\n((L99999999999L\nttR.", "numpy.ndarray called with a size"),
    "reconstruct of a size": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L99999999999L\ntS'b'\ntR.",
        r"_reconstruct with shape \(99999999999,\)",
    ),
    "array of a size": (RECONSTRUCT + b"(I1\n(L99999999999L\nt" + DTYPE + b"I00\nS'abc'\ntb.", "with 3 bytes"),
    "negative size": (RECONSTRUCT + b"(I1\n(I-1\nI-1\nt" + DTYPE + b"I00\nS'abcdefgh'\ntb.", r"shape \(-1, -1\)"),
    "no shape": (RECONSTRUCT + b"(I1\nI1\n" + DTYPE + b"I00\nS'abcdefgh'\ntb.", "an array of shape 1"),
    "object array": (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "dtype 'O8', expected plain numbers"),
    "record array": (b"cnumpy\ndtype\n(S'f8,O'\nI0\nI1\ntR.", "dtype 'f8,O', expected plain numbers"),
    "record by state": (DTYPE + b"(I3\nS'<'\nN(S'a'\nt(dI-1\nI-1\nI0\ntb.", "structured dtype"),
    "objects for numbers": (
        RECONSTRUCT + b"(I1\n(I1\nt" + DTYPE + b"I00\n(lp1\nI1\natb.",
        "an array of Python objects",
    ),
    "dtype by hand": (RECONSTRUCT + b"(I1\n(I1\ntS'f8'\nI00\nS'abcdefgh'\ntb.", "whose dtype is a str"),
    "attributes of a function": (b"ccopy_reg\n_reconstructor\n(dS'a'\nI1\nsb.", "sets attributes on a function"),
    "reconstructor of a type": (
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
        "_reconstructor of",
    ),
    "set of a string": (b"c__builtin__\nset\n(S'abc'\ntR.", "a set made from a str"),
    "codec": (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "encoding 'zip'"),
    "state of a stand-in": (b"c__builtin__\nobject\n(tRS'x'\nb.", "expected a dict"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name(tmp_path, monkeypatch, name):
    data, message = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.pkl").write_bytes(data)
    with pytest.raises(
        RefusedPickle, match=r"hostile\.pkl: refused, nothing was executed: the file asks for .*" + message
    ):
        load_mano(tmp_path / "hostile.pkl")
    assert not (tmp_path / "canary").exists()


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


def test_the_same_bytes_cannot_be_asked_for_without_end(tmp_path):
    array = RECONSTRUCT + b"(I1\n(I12500\nt" + DTYPE + b"I00\ng9\ntb"
    data = b"(lp0\nS'" + b"x" * 100_000 + b"'\np9\n0" + (array + b"a") * 30 + b"."
    (tmp_path / "m.pkl").write_bytes(data)
    with pytest.raises(RefusedPickle, match="repeat the same bytes"):
        load_pickle(tmp_path / "m.pkl", max_bytes=1_000_000)
    assert len(load_pickle(tmp_path / "m.pkl", max_bytes=4_000_000)) == 30


def test_an_array_is_filled_once(tmp_path):
    filled = b"(I1\n(I1\nt" + DTYPE + b"I00\nS'abcdefgh'\ntb"
    (tmp_path / "m.pkl").write_bytes(RECONSTRUCT + filled + filled + b".")
    with pytest.raises(RefusedPickle, match="filled twice"):
        load_pickle(tmp_path / "m.pkl")


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
