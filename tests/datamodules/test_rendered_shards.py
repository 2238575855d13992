"""Sets of rendered hands on disk: what is read is what is rendered on the fly; shards die, are redone, are damaged."""

import json
import os
import pickle
import shutil
import signal
import tarfile
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
import torch

from datamodules.batch import RIGHT
from datamodules.check.__main__ import main as check
from datamodules.check.contract import broken_promises
from datamodules.cropping import CropRule, check_croppable, crop_frames
from datamodules.domains import DOMAINS
from datamodules.frames import BadFrame
from datamodules.hand_sampler import HandSampler
from datamodules.rendered_shards import RenderedShards, _offsets
from datamodules.rendered_write import BLOCK, ShardWriter, main, share_of
from datamodules.rendering import HandRenderer
from datamodules.shard_files import DEPTH_UNIT, VERTEX_UNIT
from datamodules.transforms import as_pictured
from ops.hand_model import open_hand

CASES = {
    "clean": ("--left-share=0.5",),
    "sensor": ("--split=test",),
    "photo": ("--rgb=png", "--seed=3"),
}
COMMON = ("--count=10", "--shard-size=4", "--image-size=48")


def write(folder, domain="clean", *more: str) -> int:
    return main(["write", str(folder), f"--domain={domain}", *COMMON, *CASES[domain], *more])


def failed(capsys, words: list[str]) -> str:
    """What a command that cannot be right says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for domain in CASES:
        assert write(folder / domain, domain) == 0
    return folder


def rendered(domain: str, rule: CropRule | None = None):
    """The first block of a set, rendered on the fly: as a network sees it."""
    split, seed, left = ("test" if domain == "sensor" else "train"), 3 * (domain == "photo"), 0.5 * (domain == "clean")
    modalities = ("depth", "parts", "rgb") if domain == "photo" else ("depth", "parts")
    sampler = HandSampler(DOMAINS[domain], open_hand(), left)
    return HandRenderer(open_hand(), 48, modalities, crop=rule)(sampler.sample(seed, split, 0, np.arange(BLOCK)))


@pytest.mark.parametrize("domain", CASES)
def test_frames_are_those_that_rendering_on_the_fly_gives(sets, domain):
    frames = RenderedShards(sets / domain).frames("test" if domain == "sensor" else "train")
    copy, batch = pickle.loads(pickle.dumps(frames)), as_pictured(rendered(domain))
    seen = [copy.frame(index) for index in range(len(copy))]
    assert not any(broken_promises(frame, frames.provides) for frame in seen) and frames.files(9)[0].is_file()
    assert len(seen) == 10 and (domain != "clean" or len({frame.side for frame in seen}) == 2)
    for i, frame in enumerate(seen):
        np.testing.assert_array_equal(frame.joints_3d, batch["joints_3d"][i])
        np.testing.assert_array_equal(frame.K, batch["K"][i])
        np.testing.assert_array_equal(frame.parts, batch["parts"][i])
        np.testing.assert_array_equal(frame.mask, batch["mask"][i, 0] > 0)
        np.testing.assert_allclose(frame.depth, batch["depth"][i, 0], rtol=0, atol=0.51 * DEPTH_UNIT)
        np.testing.assert_array_equal(frame.depth > 0, batch["depth"][i, 0] > 0)
        np.testing.assert_allclose(frame.vertices, batch["vertices"][i], rtol=0, atol=0.51 * VERTEX_UNIT)
        assert frame.side == batch["side"][i] and frame.hand_model == batch["hand_model"][i]
        if domain == "photo":
            np.testing.assert_array_equal(frame.rgb, (batch["rgb"][i] * 255).round().byte().permute(1, 2, 0))


def test_a_network_sees_what_it_would_see_on_the_fly(sets):
    frames = RenderedShards(sets / "clean").frames("train")
    there = [frames.frame(i) for i in range(10)]
    got, batch = crop_frames(there, CropRule(), 48, keys=np.arange(10, dtype=np.uint64)), rendered("clean")
    for name in ("joints_3d", "joints_2d", "K", "parts", "cube_centre", "cube_side", "mirrored", "depth", "vertices"):
        atol = {"depth": 0.51 * DEPTH_UNIT, "vertices": 0.51 * VERTEX_UNIT, "joints_2d": 1e-4, "K": 1e-4}.get(name, 0)
        torch.testing.assert_close(got[name], batch[name][:10], rtol=0, atol=atol)
    assert (got["side"] != RIGHT).any() and got["has_mesh"].all()


def test_squares_are_cut_as_asked_for_and_another_cut_is_refused(tmp_path):
    write(tmp_path, "photo", "--square=1.5", "--count=2")
    frame = RenderedShards(tmp_path).frames("train").frame(1)
    rule = CropRule("square", square=1.5)
    check_croppable(frame, rule)
    got, batch = crop_frames([frame], rule, 48, keys=np.zeros(1, np.uint64)), rendered("photo", rule)
    torch.testing.assert_close(got["rgb"][0], batch["rgb"][1], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"cut by 'square 1.5 box', asked for is 'cube'; set data.crop"):
        check_croppable(frame, CropRule())


def test_a_sample_depends_on_its_number_and_not_on_the_shards(sets, tmp_path):
    write(tmp_path, "clean", "--count=7", "--shard-size=7")
    few, many = (RenderedShards(folder).frames("train") for folder in (tmp_path, sets / "clean"))
    for i in range(7):
        np.testing.assert_array_equal(few.frame(i).depth, many.frame(i).depth)
        np.testing.assert_array_equal(few.labels(i).joints_3d, many.labels(i).joints_3d)
    write(tmp_path / "other", "clean", "--seed=1")
    assert not np.array_equal(
        RenderedShards(tmp_path / "other").frames("train").labels(0).joints_3d, few.labels(0).joints_3d
    )


def test_shards_are_plain_tars_whose_labels_numpy_reads(sets):
    with tarfile.open(sets / "photo" / "train" / "shard-00001.tar") as tar:
        names = tar.getnames()
        assert names[:4] == [f"00000004.{part}" for part in ("depth.png", "parts.png", "rgb.png", "labels.npy")]
        labels = np.load(BytesIO(tar.extractfile("00000004.labels.npy").read()), allow_pickle=False)
    frame = RenderedShards(sets / "photo").frames("train").frame(4)
    np.testing.assert_array_equal(labels["joints_3d"], frame.joints_3d)
    assert int(labels["index"]) == 4 and labels["pose"].shape == (15, 3, 3)


def test_reading_holds_neither_memory_nor_files(sets):
    frames = RenderedShards(sets / "clean").frames("train")
    frames.frame(0)
    files = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    for i in range(50):
        frames.frame(i % len(frames))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 50_000, "a frame has 40,000 bytes"
    assert len(os.listdir("/proc/self/fd")) == files and isinstance(
        _offsets(sets / "clean/train/offsets.npy"), np.memmap
    )


# -- shards that die


def test_a_shard_that_died_is_redone_to_the_byte_and_finished_ones_are_left(tmp_path, capsys, monkeypatch):
    def die(writer, number):
        if number == 1:
            raise KeyboardInterrupt
        return whole(writer, number)

    whole = ShardWriter.write
    monkeypatch.setattr(ShardWriter, "write", die)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"2 of 3 shards are missing, shard-00001.tar first; run python -m .* --count 10 "
    ):
        RenderedShards(tmp_path).frames("train")
    monkeypatch.undo()
    first = (tmp_path / "train" / "shard-00000.tar").stat().st_mtime_ns
    write(tmp_path, "clean", "--shards=1:2")
    assert "1 of 3 shards are left for other tasks" in capsys.readouterr().out
    write(tmp_path)
    assert "1 of 3 shards are finished" not in capsys.readouterr().out
    assert (tmp_path / "train" / "shard-00000.tar").stat().st_mtime_ns == first
    assert len(RenderedShards(tmp_path).frames("train")) == 10
    middle = tmp_path / "train" / "shard-00001.tar"
    before = middle.read_bytes()
    facts = {"count": 10, "shard_size": 4}
    middle.with_suffix(".json").write_text("{")  # of a shard whose note is lost nothing is known
    assert ShardWriter(tmp_path / "train", facts).missing() == [1]
    middle.unlink()
    with pytest.raises(BadFrame, match=r"shard-00001.tar: expected a file of \d+ bytes, got none; run .* verify"):
        RenderedShards(tmp_path).frames("train")
    write(tmp_path)
    assert middle.read_bytes() == before


def test_what_dies_in_a_shard_leaves_no_part_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("datamodules.rendered_write.pack_frame", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path)
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["manifest.json"]


def test_other_options_do_not_go_on_with_a_set(sets, capsys):
    words = ["write", str(sets / "clean"), "--domain=clean", *COMMON, "--left-share=0.2"]
    assert "a set with left_share=0.5 is there, asked for is 0.2; give the options it was begun with" in failed(
        capsys, words
    )
    words = ["write", str(sets / "x"), "--domain=sensor", "--count=7000"]
    assert "--count: sensor/1/train has 6000 frames, got 7000" in failed(capsys, words)
    assert "--shards: there are 3 shards, got 2:9" in failed(
        capsys, ["write", str(sets / "x"), "--domain=clean", *COMMON, "--shards=2:9"]
    )


def test_tasks_of_an_array_share_the_shards():
    tasks = [{f"SLURM_ARRAY_TASK_{k}": str(v) for k, v in (("ID", i), ("MIN", 1), ("COUNT", 3))} for i in (1, 2, 3)]
    shares = [list(share_of(range(8), None, task)) for task in tasks]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert share_of(range(8), None, {}) == range(8) and list(share_of(range(8), (2, 4), tasks[0])) == [2, 3]
    with pytest.raises(ValueError, match="such as 1-3, got one numbered 9"):
        share_of(range(8), None, tasks[0] | {"SLURM_ARRAY_TASK_ID": "9"})


# -- shards that are damaged


def spoilt(sets, folder, place: int):
    """A copy of the clean set with one bit of its second shard turned."""
    shutil.copytree(sets / "clean", folder)
    path = folder / "train" / "shard-00001.tar"
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("place", [0, 124, 700, 6000])  # a member's name, its size, pixels, labels
def test_one_bit_is_found_by_reading_and_by_verify_and_named(sets, tmp_path, capsys, place):
    path = spoilt(sets, tmp_path / "set", place)
    frames = RenderedShards(tmp_path / "set").frames("train")
    frames.frame(3)
    with pytest.raises(BadFrame, match=rf"{path}: record 4 is damaged .* verify {tmp_path}/set, .* --left-share 0.5"):
        frames.frame(4)
    assert main(["verify", str(tmp_path / "set")]) == 1
    said = capsys.readouterr()
    assert f"{path}: damaged, delete it" in said.err and "2 of 3 shards are whole" in said.out
    path.unlink()
    assert write(tmp_path / "set") == 0 and main(["verify", str(tmp_path / "set")]) == 0


def test_a_process_that_is_killed_ends_the_command_and_the_same_one_goes_on(tmp_path, monkeypatch, capsys):
    whole = ShardWriter.write

    def write_or_die(writer: ShardWriter, number: int):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(writer, number)

    monkeypatch.setattr(ShardWriter, "write", write_or_die)
    with pytest.raises(SystemExit) as stop:
        write(tmp_path / "set", "clean", "--workers=2")
    assert stop.value.code == 2 and "a process was killed while it wrote" in capsys.readouterr().err
    monkeypatch.undo()
    assert write(tmp_path / "set", "clean", "--workers=2") == 0 and main(["verify", str(tmp_path / "set")]) == 0


def test_a_cut_off_shard_and_foreign_manifests_are_named(sets, tmp_path, capsys):
    path = spoilt(sets, tmp_path / "set", 0)
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(BadFrame, match=r"shard-00001.tar: expected a file of \d+ bytes, got \d+ bytes"):
        RenderedShards(tmp_path / "set").frames("train")
    assert "damaged" in failed(capsys, ["write", str(tmp_path / "set"), "--domain=clean", *COMMON, *CASES["clean"]])
    manifest = tmp_path / "set" / "train" / "manifest.json"
    facts = json.loads(manifest.read_text())
    for change, message in (
        ({"hand_model": "x"}, "made with hand_model 'x', here it is '"),
        ({"convention_id": "open-0"}, "made with convention_id 'open-0'"),
        ({"format": "2"}, "expected format 'rendered shards 1', got '2'"),
    ):
        manifest.write_text(json.dumps(facts | change))
        with pytest.raises(ValueError, match=message):
            RenderedShards(tmp_path / "set").frames("train")
    manifest.write_text("{")
    assert f"{manifest}: not the manifest of a set" in failed(capsys, ["verify", str(tmp_path / "set")])
    with pytest.raises(BadFrame, match=r"manifest.json: not the manifest of a set of rendered hands"):
        RenderedShards(tmp_path / "set").frames("train")
    with pytest.raises(FileNotFoundError, match=r"write the split: .* --split val"):
        RenderedShards(tmp_path / "set").frames("val")


# -- in use


def test_the_check_command_finds_a_set_right(sets, capsys):
    assert check(["rendered", str(sets / "sensor"), "--split", "test", "--workers", "0"]) == 0
    assert "10 of 10" in capsys.readouterr().out


def test_a_configuration_mixes_a_set_with_hands_rendered_on_the_fly(sets, train):
    shards = {"class_path": "datamodules.rendered_shards.RenderedShards", "init_args": {"folder": str(sets / "clean")}}
    live = {"class_path": "datamodules.sources.RenderedSource", "init_args": {"domain": "clean"}}
    sizes = {"batch_size": 4, "epoch_size": 16, "val_size": 2, "test_size": 2, "image_size": 16, "num_workers": 1}
    data = {
        "sources": {"stored": shards, "live": live},
        "weights": {"stored": 0.5, "live": 0.5},
        "evaluate_on": ["live"],
    }
    config = train.write(
        "shards",
        model={"class_path": "tests.toys.ToyMethod", "init_args": {"image_size": 16}},
        data={"class_path": "datamodules.hand_data.HandData", "init_args": data | sizes},
        trainer={"max_steps": 4, "accelerator": "cpu", "num_sanity_val_steps": 0},
    )
    seen = train("fit", "--test_after_fit=false", "--picture_samples=0", config=config).model.seen
    assert (
        sum(key.startswith("clean/train/0-") for key in seen)
        == sum(key.startswith("clean/1/train/") for key in seen)
        == 8
    )
