"""Pickles of numbers are read; what wants more than to be read is refused by name, and nothing runs."""

import pickle

import numpy as np
import pytest

from ops.safe_pickle import RefusedPickle, load_pickle
from tests.ops.python2_pickle import write


def test_annotation_pickles_of_numbers_need_no_further_names(tmp_path):
    contents = {7: {"K": np.eye(3), "xyz": np.arange(6.0).reshape(2, 3)}, "list": [np.float32(2.5), (1, None, True)]}
    path = write(tmp_path / "anno.pickle", contents)
    read = load_pickle(path)
    np.testing.assert_array_equal(read[7]["xyz"], [[0, 1, 2], [3, 4, 5]])
    assert read["list"][0] == 2.5 and read["list"][1] == (1, None, True)


def annotations():
    """A dict as RHD's: long enough for every width of length and memo number."""
    rng = np.random.default_rng(0)
    return {
        i: {"xyz": rng.normal(size=(42, 3)), "uv_vis": rng.normal(size=(42, 3)).astype(np.float32), "name": "x" * i}
        for i in range(300)
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_gives_the_arrays_back(tmp_path, protocol):
    contents = annotations()
    (tmp_path / "anno.pickle").write_bytes(pickle.dumps(contents, protocol) + b"what follows the end is not read")
    read = load_pickle(tmp_path / "anno.pickle")
    assert read.keys() == contents.keys()
    for index, record in contents.items():
        np.testing.assert_array_equal(read[index]["xyz"], record["xyz"])
        np.testing.assert_array_equal(read[index]["uv_vis"], record["uv_vis"])
        assert read[index]["uv_vis"].dtype == np.float32 and read[index]["name"] == record["name"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_file_cut_anywhere_is_damaged(tmp_path, protocol):
    data = pickle.dumps({7: {"K": np.eye(2), "name": "x" * 300}, "list": [1.5, 2**70]}, protocol)
    path = tmp_path / "anno.pickle"
    for length in range(1, len(data), 5):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"anno\.pickle: damaged, truncated or no pickle"):
            load_pickle(path)


def test_lengths_that_the_file_cannot_hold_are_refused_unread(tmp_path):
    path = tmp_path / "anno.pickle"
    lengths = {"T": b"\xff\xff\xff\xff", "\x8e": b"\xff" * 7 + b"\x7f", "\x8b": b"\xff\xff\xff\x7f"}
    for opcode, length in lengths.items():
        path.write_bytes(b"\x80\x04" + opcode.encode("latin1") + length + b"abc.")
        with pytest.raises(ValueError, match=r"it ends within .* at byte 2"):
            load_pickle(path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
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
        load_pickle(tmp_path / "hostile.pkl")
    assert not (tmp_path / "canary").exists()


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
