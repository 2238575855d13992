"""When the mask counts: single hands, a ramp, what is logged, and an epoch that is cut in the middle."""

from types import SimpleNamespace

import pytest
import torch

from lightning_modules.callbacks.shape_schedule import HierarchicalShapeLoss, epochs_done

PIXELS = torch.tensor([3.0, 20.0, 14.0, torch.inf])
MASKED = torch.tensor([True, True, False, True])


def run(epoch=0, batch=0):
    return SimpleNamespace(
        current_epoch=epoch, num_training_batches=4, fit_loop=SimpleNamespace(batch_idx=batch), world_size=1
    )


class Method(SimpleNamespace):
    def __init__(self):
        super().__init__(shape_schedule=None, training=True, device="cpu", logged={})

    def log_dict(self, figures, **_):
        self.logged.update({name: value.item() for name, value in figures.items()})

    def all_gather(self, tensor):
        return tensor


def test_single_hands_are_gated_by_their_own_error():
    weigh = HierarchicalShapeLoss(threshold=15.0).weights
    assert weigh(PIXELS, 0).tolist() == [1, 0, 1, 0]
    assert HierarchicalShapeLoss("constant").weights(PIXELS, 0).tolist() == [1, 1, 1, 1]
    ramp = HierarchicalShapeLoss("ramp", ramp_epochs=2.0)
    assert [ramp.weights(PIXELS, epochs)[3].item() for epochs in (0, 0.5, 2, 9)] == [0, 0.25, 1, 1]


def test_the_epochs_shares_are_logged_and_go_on_where_a_run_was_cut():
    shape, method = HierarchicalShapeLoss("ramp", ramp_epochs=2.0), Method()
    trainer = run(epoch=1, batch=2)
    shape.setup(trainer, method, "fit")
    assert epochs_done(trainer) == 1.5
    torch.testing.assert_close(method.shape_schedule(PIXELS, MASKED), torch.full((4,), 0.75))
    state = shape.state_dict()
    again, method = HierarchicalShapeLoss("ramp", ramp_epochs=2.0), Method()
    again.load_state_dict(state)
    again.setup(trainer, method, "fit")
    method.shape_schedule(torch.tensor([1.0]), torch.tensor([True]))
    method.training = False
    method.shape_schedule(PIXELS, MASKED)  # validation is not counted
    again.on_train_epoch_end(trainer, method)
    # three hands with masks, one near, before the cut; one, near, after it
    assert method.logged == {"shape/active_share": 0.75, "shape/near_share": pytest.approx(2 / 4)}
    method.training, trainer.current_epoch = True, 2
    method.shape_schedule(torch.tensor([99.0]), torch.tensor([True]))
    again.on_train_epoch_end(trainer, method)
    assert method.logged == {"shape/active_share": 1, "shape/near_share": 0}, "an epoch begins anew"


def test_evaluation_weighs_as_the_end_of_training():
    shape, method = HierarchicalShapeLoss("ramp"), Method()
    method.training = False
    shape.setup(run(), method, "test")
    assert method.shape_schedule(PIXELS, MASKED).tolist() == [1, 1, 1, 1]


def test_bad_input():
    with pytest.raises(ValueError, match="schedule: expected one of"):
        HierarchicalShapeLoss("sometimes")
    with pytest.raises(ValueError, match="threshold: expected a finite number above 0"):
        HierarchicalShapeLoss(threshold=0)
    with pytest.raises(ValueError, match="has no shape loss to schedule"):
        HierarchicalShapeLoss().setup(run(), SimpleNamespace(), "fit")
