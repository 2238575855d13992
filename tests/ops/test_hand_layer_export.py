"""The layer through torch.compile, torch.export and ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch

from ops.hand_model import HandLayer, open_hand
from tests.ops.tiny_hand import tiny_hand


def inputs(batch, shapes):
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(batch, size, generator=generator) * 0.5 for size in (45, shapes, 3, 3))


def gradients(layer, values):
    values = [value.clone().requires_grad_() for value in values]
    out = layer(*values)
    return torch.autograd.grad((out.vertices.square().sum() + out.joints.square().sum()), values)


def test_traces_into_one_graph_and_keeps_values_and_gradients():
    # aot_eager runs the traced graphs without generating code
    layer = HandLayer(tiny_hand())
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    values = inputs(3, shapes=4)
    for a, b in zip(compiled(*values), layer(*values), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    for a, b in zip(gradients(compiled, values), gradients(layer, values), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_compiled_code_equals_the_layer_for_two_batch_sizes():
    layer = HandLayer(open_hand())
    compiled = torch.compile(layer, fullgraph=True)
    for batch in (2, 5):
        values = inputs(batch, shapes=10)
        torch.testing.assert_close(compiled(*values).vertices, layer(*values).vertices, atol=1e-6, rtol=0)
        for a, b in zip(gradients(compiled, values), gradients(layer, values), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pose_space", [pytest.param("axis-angle", marks=pytest.mark.slow), "pca"])
def test_onnx_gives_the_same_hands_for_any_batch(tmp_path, pose_space):
    layer = HandLayer(open_hand("left"), pose_space, flat_hand_mean=False).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    values = inputs(3, shapes=10)
    path = tmp_path / "hand.onnx"
    torch.onnx.export(
        layer,
        values,
        path,
        dynamo=True,
        verbose=False,
        input_names=["pose", "shape", "global_rotation", "translation"],
        output_names=list(layer(*values)._fields),
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}, {0: batch}),
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 7):
        values = inputs(count, shapes=10)
        feeds = {entry.name: value.numpy() for entry, value in zip(session.get_inputs(), values, strict=True)}
        for got, expected in zip(session.run(None, feeds), layer(*values), strict=True):
            np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)
