"""The Triton kernels against the reference: in the interpreter everywhere, on the device where there is one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ops.hand_model import HandLayer, open_hand
from tests.ops.tiny_hand import tiny_hand

ROOT = Path(__file__).parent.parent.parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# Triton reads TRITON_INTERPRET when it is imported: the comparison needs a process of its own.
INTERPRETED = """
import torch
from ops.hand_model import HandLayer
from tests.ops.tiny_hand import tiny_hand
torch.manual_seed(0)
model = tiny_hand(vertices=70)  # two tiles of vertices, the second one partly filled
values = [(torch.randn(17, n) * 0.5).requires_grad_() for n in (45, 4, 3, 3)]  # two tiles of samples
kernels, reference = (HandLayer(model, backend=backend)(*values) for backend in ("triton", "torch"))
cotangents = [torch.randn_like(tensor) for tensor in reference]
gradients = [torch.autograd.grad(out, values, cotangents) for out in (kernels, reference)]
for got, expected in zip((*kernels, *gradients[0]), (*reference, *gradients[1])):
    torch.testing.assert_close(got, expected, atol=2e-6 * float(expected.detach().abs().max()), rtol=0)
with torch.no_grad():
    torch.testing.assert_close(HandLayer(model, backend="triton")(*values).vertices, reference.vertices)
print("equal")
"""


@needs_triton
def test_interpreted_kernels_equal_the_reference_forward_and_backward():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETED], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0 and "equal" in run.stdout, run.stderr[-3000:]


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter takes CPU tensors")
def test_cpu_tensors_are_refused_by_the_named_backend():
    layer = HandLayer(tiny_hand(), backend="triton")
    with pytest.raises(ValueError, match=r"backend='triton': expected CUDA tensors, got cpu; .*backend='auto'"):
        layer(torch.zeros(1, 45), torch.zeros(1, 4))


def test_a_missing_triton_is_named_at_construction(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match=r"HandLayer\(backend='triton'\) needs the package 'triton'"):
        HandLayer(tiny_hand(), backend="triton")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("batch", [1, 17, 300])
@pytest.mark.parametrize("resolution", ["778", "native"])
def test_kernels_on_the_device_equal_the_reference_in_float64(batch, resolution):
    torch.manual_seed(1)
    model = open_hand(resolution=resolution)
    values = [(torch.randn(batch, n, device="cuda") * 0.5).requires_grad_() for n in (45, 10, 3, 3)]
    kernels = HandLayer(model, backend="triton").cuda()(*values)
    exact = [value.detach().double().requires_grad_() for value in values]
    reference = HandLayer(model, backend="torch").cuda().double()(*exact)
    torch.testing.assert_close(kernels.vertices.double(), reference.vertices, atol=2e-6, rtol=0)
    cotangents = [torch.randn_like(tensor) for tensor in kernels]
    got = torch.autograd.grad(kernels, values, cotangents)
    expected = torch.autograd.grad(reference, exact, [cotangent.double() for cotangent in cotangents])
    for a, b in zip(got, expected, strict=True):
        # relative to the largest entry: sums of thousands of float32 products
        torch.testing.assert_close(a.double() / b.abs().max(), b / b.abs().max(), atol=1e-5, rtol=0)


@pytest.mark.gpu
@needs_cuda
def test_float64_is_refused_on_the_device():
    layer = HandLayer(tiny_hand(), backend="triton").cuda().double()
    with pytest.raises(TypeError, match=r"expected float32, got torch\.float64"):
        layer(torch.zeros(1, 45).cuda().double(), torch.zeros(1, 4).cuda().double())
