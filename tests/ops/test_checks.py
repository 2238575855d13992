"""Errors name the argument, what was expected, what came, and the remedy."""

import pytest
import torch

from ops import checks


def test_shape_letters_stand_for_any_size_and_the_same_letter_for_the_same_size():
    checks.check_shape("x", torch.zeros(4, 4, 3), ("N", "N", 3))
    with pytest.raises(ValueError, match=r"x: expected shape \(N, N, 3\), got \(4, 5, 3\)"):
        checks.check_shape("x", torch.zeros(4, 5, 3), ("N", "N", 3))
    with pytest.raises(ValueError, match=r"x: expected shape \(3,\), got \(3, 1\)"):
        checks.check_shape("x", torch.zeros(3, 1), (3,))
    with pytest.raises(TypeError, match=r"x: expected a torch.Tensor.*got list"):
        checks.check_shape("x", [1, 2, 3], (3,))


def test_finite_counts_what_is_wrong():
    checks.check_finite("x", torch.ones(3))
    with pytest.raises(ValueError, match="x: expected finite numbers, got 2 NaN or infinite of 3"):
        checks.check_finite("x", torch.tensor([float("nan"), 1.0, float("inf")]))


def test_floating_device_and_choice():
    with pytest.raises(TypeError, match=r"x: expected a floating-point tensor, got torch.int64"):
        checks.check_floating("x", torch.arange(3))
    with pytest.raises(ValueError, match="a on cpu, b on meta"):
        checks.check_same_device(a=torch.ones(1), b=torch.ones(1, device="meta"))
    with pytest.raises(ValueError, match="backend: expected one of 'cpu', 'torch', got 'metal'"):
        checks.check_choice("backend", "metal", ("cpu", "torch"))


def test_missing_package_names_who_needs_it_and_the_remedy():
    with pytest.raises(ImportError, match=r"backend 'x' needs the package 'no_such_package'.*pip install it"):
        checks.require_module("no_such_package", "backend 'x'", "pip install it")


def test_two_faiss_wheels_are_refused_by_name():
    checks.refuse_two_faiss(["faiss-cpu", "numpy"])
    checks.refuse_two_faiss()  # this environment holds one at most
    with pytest.raises(RuntimeError, match=r"faiss-cpu and faiss-gpu-cu12.*uninstall"):
        checks.refuse_two_faiss(["faiss_gpu_cu12", "Faiss-CPU"])


def test_numbers_outside_their_range_are_refused_by_name():
    checks.check_positive(lr=1e-4)
    checks.check_not_negative(weight=0, steps=3)
    for number in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"lr: expected a finite number above 0, got {number}"):
            checks.check_positive(rate=1, lr=number)
    for number in (-1e-9, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"weight: expected a finite number of at least 0, got {number}"):
            checks.check_not_negative(weight=number)


def test_finite_numbers_whose_sum_overflows_are_finite():
    checks.check_finite("x", torch.full((4,), 3e38))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="x: expected finite numbers, got 1 NaN or infinite of 4"):
            checks.check_finite("x", torch.tensor([3e38, bad, 3e38, 0.0]))
    with pytest.raises(ValueError, match="got 2 NaN or infinite of 2"):
        checks.check_finite("x", torch.tensor([float("inf"), -float("inf")]))
