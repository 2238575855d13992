import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import Dataset

from datamodules.rendered import RenderedHandsData
from datamodules.sampler import BatchKey, EpochSampler, ResumableLoader


class Names(Dataset):
    def __getitem__(self, key):
        return [(key.epoch, int(index)) for index in key.indices]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [24, 25, 26, 29])
def test_ranks_share_one_global_order(ranks, size):
    samplers = [EpochSampler(size, 4, rank, ranks) for rank in range(ranks)]
    lengths = {len(list(sampler)) for sampler in samplers}
    assert len(lengths) == 1 and lengths == {len(samplers[0])}
    batches = [[key.indices for key in sampler] for sampler in samplers]
    for number, together in enumerate(zip(*batches, strict=True)):
        expected = np.arange(number * 4 * ranks, min((number + 1) * 4 * ranks, size))
        np.testing.assert_array_equal(np.sort(np.concatenate(together)), expected)
        assert max(map(len, together)) - min(map(len, together)) <= 1
    seen = sum(len(indices) for rank in batches for indices in rank)
    assert size - seen < ranks  # training drops less than one sample per rank


def test_evaluation_drops_nothing():
    samplers = [EpochSampler(13, 4, rank, 3, training=False) for rank in range(3)]
    seen = sorted(int(i) for sampler in samplers for key in sampler for i in key.indices)
    assert seen == list(range(13)) and [len(sampler) for sampler in samplers] == [2, 1, 1]


def loader(workers=0, size=20):
    return ResumableLoader(Names(), EpochSampler(size, 4), num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_continues_in_mid_epoch(workers):
    broken, unbroken = loader(workers), [batch for batch in loader()]
    start = iter(broken)
    seen = [next(start), next(start)]
    state = broken.state_dict()
    assert state == {"epoch": 0, "batches": 2}  # not what workers have made in advance
    continued = loader(workers)
    continued.load_state_dict(state)
    assert seen + list(continued) == unbroken
    following = list(continued)
    assert following[0][0] == (1, 0) and len(following) == 5  # the next epoch starts at its beginning


def test_a_finished_epoch_continues_with_the_next():
    first = loader()
    list(first)
    second = loader()
    second.load_state_dict(first.state_dict())
    assert next(iter(second))[0] == (1, 0)


def test_batches_trained_on_count_not_those_handed_out():
    counting = ResumableLoader(Names(), EpochSampler(20, 4), batches_done=lambda: 1)
    start = iter(counting)
    next(start), next(start)
    assert counting.state_dict() == {"epoch": 0, "batches": 1}
    continued = loader()
    continued.load_state_dict(counting.state_dict())
    assert next(iter(continued))[0] == (0, 4)  # the second batch once more


class Recorder(lightning.LightningModule):
    def __init__(self, path):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.path = path

    def training_step(self, batch, _):
        with open(self.path, "a") as file:
            file.write(" ".join(batch["key"]) + "\n")
        return (self.weight * batch["depth"].mean()).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def train(folder, name, ckpt=None):
    data = RenderedHandsData(
        {"clean": 0.5, "sensor": 0.5}, batch_size=4, epoch_size=16, num_workers=0, image_size=16, seed=2
    )
    every_step = ModelCheckpoint(folder / "checkpoints", "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = lightning.Trainer(
        max_steps=9,
        accelerator="cpu",
        callbacks=[every_step],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(Recorder(folder / name), data, ckpt_path=ckpt, weights_only=True)
    return (folder / name).read_text().splitlines()


def test_a_resumed_run_sees_what_an_unbroken_one_sees(tmp_path):
    unbroken = train(tmp_path, "unbroken")
    assert len(unbroken) == 9 and len(set(" ".join(unbroken).split())) > 27  # clean frames are new in every epoch
    for step in (2, 4, 6):  # in an epoch, at its end, in the next one
        assert train(tmp_path, f"resumed at {step}", tmp_path / "checkpoints" / f"step={step}.ckpt") == unbroken[step:]


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="size: expected at least 1"):
        EpochSampler(0, 4)


def test_a_key_says_what_a_batch_is_made_from():
    key = next(iter(EpochSampler(8, 4)))
    assert isinstance(key, BatchKey) and key.epoch == 0 and key.indices.tolist() == [0, 1, 2, 3]
