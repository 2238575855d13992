"""Memory comes again when nobody holds it, and not before."""

import gc

import numpy as np
import torch

from ops.memory import Memory


def test_memory_comes_again_when_nobody_holds_it_and_not_before():
    memory = Memory()
    held = memory.empty((4, 5))
    first, row = held.data_ptr(), held[1]
    assert held.shape == (4, 5) and held.dtype == torch.float32
    del held
    gc.collect()
    other = memory.empty((4, 5))
    assert other.data_ptr() != first  # a view still holds it
    del row
    gc.collect()
    again = memory.empty((4, 5))
    assert again.data_ptr() == first and other.data_ptr() != first


def test_memory_is_of_one_shape_and_type():
    memory = Memory()
    first = memory.empty((4, 5))
    place = first.data_ptr()
    del first
    gc.collect()
    bytes_, turned = memory.empty((4, 5), np.uint8), memory.empty((5, 4))
    assert bytes_.dtype == torch.uint8 and turned.shape == (5, 4)
    assert place not in (bytes_.data_ptr(), turned.data_ptr())


def test_only_so_much_memory_is_kept():
    memory = Memory(limit=2)
    arrays = [memory.array((3,)) for _ in range(5)]
    del arrays
    gc.collect()
    assert [len(kept) for kept in memory._free.values()] == [2]
    for size in range(100):
        memory.array((size,))
    assert len(memory._free) <= 16


def test_what_autograd_holds_is_not_given_away():
    memory = Memory()
    factor = memory.empty((3,)).fill_(2)
    place, x = factor.data_ptr(), torch.ones(3, requires_grad=True)
    product = x * factor
    del factor
    gc.collect()
    assert memory.empty((3,)).data_ptr() != place
    product.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
