"""The CUDA side of the renderer: what can be shown without a GPU, and on one how the backends agree."""

import math
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from ops.camera import PinholeCamera
from ops.hand_model import open_hand
from ops.render import nvdiffrast_backend, nvdiffrast_native, reference, render, render_labels
from ops.render.labels import face_parts
from ops.render.topology import SLIVER, topology_of

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
HERE = Path(__file__).parent


def test_triton_kernels_agree_with_the_reference_in_the_interpreter():
    pytest.importorskip("triton", reason="triton is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "interpreted_render.py")]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, timeout=550)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert " passed" in run.stdout and "skipped" not in run.stdout


POINTERS = {"faces": "*i32", "edges": "*i32", "ids": "*i32", "keys": "*i64", "part_of_face": "*u8", "parts": "*u8"}
FLOATS = ("near", "tolerance")
INTEGERS = ("vertex_count", "face_count", "edge_count", "height", "width", "blocks", "channels", "count")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_to_machine_code(capability):
    """For the GPUs of a data centre, without one: the compiler is part of triton."""
    triton = pytest.importorskip("triton", reason="triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ops.render import triton_edges, triton_interpolate, triton_raster

    edges = {"EDGE_BITS": 24, "ONE": triton_edges._ONE}
    face = {"LOW": triton_raster._LOW, "ROWS": 4, "COLUMNS": 8}
    kernels = [
        (triton_raster._raster_kernel, face | {"PERSPECTIVE": True, "MASK_ONLY": False}, {"out": "*i64"}),
        (triton_raster._raster_kernel, face | {"PERSPECTIVE": False, "MASK_ONLY": True}, {"out": "*u8"}),
        (triton_raster._label_kernel, {"EMPTY": triton_raster._EMPTY, "LOW": triton_raster._LOW, "BLOCK": 1024}, {}),
        (triton_edges._edge_kernel, edges | {"PERSPECTIVE": True, "LANES": 32}, {}),
        (triton_edges._edge_kernel, edges | {"PERSPECTIVE": False, "LANES": 32}, {}),
        (triton_edges._blend_kernel, edges | {"TRANSPOSE": False, "BLOCK": 256}, {}),
        (triton_edges._blend_kernel, edges | {"TRANSPOSE": True, "BLOCK": 256}, {}),
        (triton_edges._edge_gradient_kernel, edges | {"BLOCK": 256}, {}),
        (triton_interpolate._interpolate_kernel, {"PERSPECTIVE": True, "SLIVER": SLIVER, "BLOCK": 128}, {}),
        (triton_interpolate._interpolate_gradient_kernel, {"PERSPECTIVE": True, "SLIVER": SLIVER, "BLOCK": 128}, {}),
    ]
    for kernel, constants, pointers in kernels:
        kinds = dict.fromkeys(INTEGERS, "i32") | dict.fromkeys(FLOATS, "fp32") | POINTERS | pointers
        signature = {name: "constexpr" if name in constants else kinds.get(name, "*fp32") for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False})
        assert len(binary.asm["cubin"]) > 1000
        # fused multiply-add would round an edge differently in the two triangles that share it
        assert "fma.rn.f64" not in binary.asm["ptx"] or kernel.__name__.startswith("_interpolate")


# ---- errors


def test_the_triton_backend_asks_for_a_cuda_device():
    pytest.importorskip("triton", reason="triton is not installed")
    with pytest.raises(ValueError, match=r"backend 'triton': expected vertices on a CUDA device, got cpu"):
        render(torch.rand(1, 3, 3) + 1, torch.tensor([[0, 1, 2]]), PinholeCamera(torch.eye(3)), 4, backend="triton")


def test_a_missing_triton_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match=r"backend 'triton' needs the package 'triton'.*pip install triton"):
        render(torch.rand(1, 3, 3) + 1, torch.tensor([[0, 1, 2]]), PinholeCamera(torch.eye(3)), 4, backend="triton")


@pytest.mark.parametrize("backend", [nvdiffrast_backend, nvdiffrast_native])
def test_a_missing_nvdiffrast_is_said_with_the_way_to_install_it(monkeypatch, backend):
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
    pixels, z, topology = triangles()
    with pytest.raises(ImportError, match=r"needs the package 'nvdiffrast.torch'.*pip install git\+https://github.com"):
        backend.rasterize_ids(pixels, z, topology, (4, 4), 0.01, True)


def test_nvdiffrast_asks_for_a_cuda_device(nvdiffrast, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", nvdiffrast)
    monkeypatch.setitem(sys.modules, "nvdiffrast", types.ModuleType("nvdiffrast"))
    pixels, z, topology = triangles()
    with pytest.raises(ValueError, match="expected tensors on a CUDA device, got cpu"):
        nvdiffrast_backend.rasterize_ids(pixels, z, topology, (4, 4), 0.01, True)


# ---- nvdiffrast's conventions, by a stand-in that rasterises as its documentation says


def triangles(seed=0, batch=3):
    random = torch.Generator().manual_seed(seed)
    pixels = torch.rand(batch, 20, 2, generator=random) * 26 - 3
    z = torch.rand(batch, 20, generator=random) * 0.4 + 0.1
    faces = torch.stack([torch.randperm(20, generator=random)[:3] for _ in range(9)])
    return pixels, z, topology_of(faces, 20)


class Context:
    def __init__(self, device):
        self.device = device


def rasterize(context, pos, tri, resolution, ranges, grad_db):
    """Range mode: clip space, row 0 at y = -1, nearest is the smallest z / w; (u, v, z / w, triangle + 1)."""
    assert pos.dtype == torch.float32 and pos.is_contiguous() and tri.dtype == torch.int32 and tri.is_contiguous()
    assert ranges.device.type == "cpu" and ranges.dtype == torch.int32 and isinstance(context, Context)
    height, width = resolution
    ndc = (pos[:, :3] / pos[:, 3:]).double()
    assert (ndc[:, 2].abs() <= 1).all()
    x = (2 * torch.arange(width).double() + 1) / width - 1
    y = (2 * torch.arange(height).double() + 1) / height - 1
    out = torch.zeros(len(ranges), height, width, 4)
    nearest = torch.full((len(ranges), height, width), math.inf, dtype=torch.float64)
    for b, (start, count) in enumerate(ranges.tolist()):
        for t in range(start, start + count):
            a, p, q = ndc[tri[t].long()]
            area = (p[0] - a[0]) * (q[1] - a[1]) - (p[1] - a[1]) * (q[0] - a[0])
            if area == 0:
                continue
            v = ((x - a[0]) * (q[1] - a[1]) - (y[:, None] - a[1]) * (q[0] - a[0])) / area
            w = ((p[0] - a[0]) * (y[:, None] - a[1]) - (p[1] - a[1]) * (x - a[0])) / area
            depth = a[2] + v * (p[2] - a[2]) + w * (q[2] - a[2])
            closer = (v >= 0) & (w >= 0) & (v + w <= 1) & (depth < nearest[b])
            nearest[b][closer] = depth[closer]
            out[b, ..., 3][closer] = t + 1
            out[b, ..., 2][closer] = depth[closer].float()
    return out, None


@pytest.fixture
def nvdiffrast(monkeypatch):
    module = types.ModuleType("nvdiffrast.torch")
    module.rasterize, module.RasterizeCudaContext = rasterize, Context
    monkeypatch.setitem(sys.modules, "nvdiffrast", types.ModuleType("nvdiffrast"))
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    monkeypatch.setattr(nvdiffrast_backend, "_context", Context)
    return module


@pytest.mark.parametrize("perspective", [True, False])
@pytest.mark.parametrize("most_faces", [9, 18, 10**6])
def test_nvdiffrast_is_asked_for_the_same_faces(nvdiffrast, monkeypatch, perspective, most_faces):
    monkeypatch.setattr(nvdiffrast_backend, "_MOST_FACES", most_faces)  # one, two and all pictures a call
    pixels, z, topology = triangles()
    if perspective:
        z[0, 0] = z[1, 5] = -0.2  # behind the camera: their faces are left out
    near = 0.01 if perspective else -math.inf
    arguments = pixels, z, topology, (17, 23), near, perspective
    ids = nvdiffrast_backend.rasterize_ids(*arguments)
    expected = reference.rasterize_ids(*arguments)
    assert ids.dtype == torch.int32 and (expected >= 0).float().mean() > 0.3
    assert torch.equal(ids, expected)


def test_a_scene_behind_the_camera_is_empty_for_nvdiffrast(nvdiffrast):
    pixels, z, topology = triangles()
    assert (nvdiffrast_backend.rasterize_ids(pixels, z - 1, topology, (5, 6), 0.01, True) == -1).all()
    assert nvdiffrast_backend.rasterize_ids(pixels[:0], z[:0], topology, (5, 6), 0.01, True).shape == (0, 5, 6)


def test_nvdiffrasts_own_antialiasing_gets_what_it_rasterised(nvdiffrast):
    pixels, z, topology = triangles(batch=2)
    arguments = topology, (17, 23), 0.01, True
    ids = reference.rasterize_ids(pixels, z, *arguments)
    _, depth = reference.interpolate(pixels, z, topology, ids, True)
    given = {}

    def antialias(color, rast, pos, tri):
        given.update(color=color, rast=rast, pos=pos, tri=tri)
        return color * pos[..., :2].sum()

    nvdiffrast.antialias = antialias
    leaf = pixels.clone().requires_grad_()
    image = torch.rand(2, 3, 17, 23)
    out = nvdiffrast_native.antialias(image, ids, depth, leaf, z, topology, 0.01, True, 0.02)
    assert out.shape == image.shape and torch.autograd.grad(out.sum(), leaf)[0].abs().min() > 0
    assert given["color"].is_contiguous() and torch.equal(given["color"], image.permute(0, 2, 3, 1))
    assert torch.equal(given["rast"][..., 3], (ids + 1).float()) and given["tri"] is topology.faces
    seen = ids[1] >= 0
    one = topology_of(topology.faces, 20)
    own, _ = rasterize(
        Context(None), given["pos"][1].detach(), one.faces, (17, 23), torch.tensor([[0, 9]]).int(), False
    )
    torch.testing.assert_close(given["rast"][1, ..., 2][seen], own[0, ..., 2][seen], atol=1e-4, rtol=0)


# ---- on a GPU


def hands(batch, seed=0):
    from benchmarks.render_slopes import hand_scene

    scene = hand_scene(batch, 128, seed)
    return scene.vertices, scene.faces, PinholeCamera(scene.K)


def distance_to_edges(pixels, faces, ids):
    """Pixels (N,) of those that show a face, to its nearest edge: of picture 0."""
    y, x = torch.nonzero(ids >= 0, as_tuple=True)
    corners = pixels[faces[ids[y, x].long()]].double()  # (N, 3, 2)
    along = corners.roll(-1, 1) - corners
    to_pixel = torch.stack([x, y], -1)[:, None].double() - corners
    t = ((to_pixel * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)).clamp(0, 1)
    return (to_pixel - t[..., None] * along).norm(dim=-1).amin(1)


@gpu
@needs_cuda
@pytest.mark.parametrize("backend", ["triton", "nvdiffrast"])
def test_a_device_sees_the_faces_that_the_cpu_sees(backend):
    import importlib

    if backend == "nvdiffrast":
        pytest.importorskip("nvdiffrast.torch", reason="nvdiffrast is not installed")
    vertices, faces, camera = hands(8)
    module = importlib.import_module(f"ops.render.{backend}_backend")
    pixels, z = camera.project(vertices), vertices[..., 2].contiguous()
    scene = pixels.cuda(), z.cuda(), topology_of(faces.cuda(), 778)
    ids = module.rasterize_ids(*scene, (128, 128), 0.01, True).cpu()
    expected = reference.rasterize_ids(pixels, z, topology_of(faces, 778), (128, 128), 0.01, True)
    if backend == "triton":  # the same arithmetic
        assert (ids != expected).float().mean() < 1e-5
        return
    for b in range(len(ids)):
        differ = ids[b] != expected[b]
        assert differ.float().mean() < 0.02
        # named edge pixels: nvdiffrast snaps vertices to 1/16 px
        for seen in (ids[b], expected[b]):
            shown = torch.where(differ, seen, -1)
            assert distance_to_edges(pixels[b], faces, shown).max() < 0.15


@gpu
@needs_cuda
@pytest.mark.parametrize("backend", ["triton", "nvdiffrast"])
def test_pictures_and_gradients_of_a_device_are_those_of_the_cpu(backend):
    if backend == "nvdiffrast":
        pytest.importorskip("nvdiffrast.torch", reason="nvdiffrast is not installed")
    vertices, faces, camera = hands(4)
    weights = torch.randn(4, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    results = {}
    for device, name in (("cpu", "cpu"), ("cuda", backend)):
        leaf = vertices.to(device).requires_grad_()
        view = PinholeCamera(camera.K.to(device))
        pictures = render(leaf, faces.to(device), view, 128, ("silhouette", "depth"), backend=name)
        gradients = [
            torch.autograd.grad((p * weights.to(device)).sum(), leaf, retain_graph=True)[0] for p in pictures.values()
        ]
        results[device] = [tensor.detach().cpu() for tensor in (*pictures.values(), *gradients)]
    silhouette, depth, to_silhouette, to_depth = zip(results["cuda"], results["cpu"], strict=True)
    exact = backend == "triton"
    both = (depth[0] > 0) & (depth[1] > 0)
    off = (depth[0] - depth[1]).abs()[both] > 1e-4
    assert off.float().mean() < (1e-4 if exact else 0.02)  # another face at an edge
    assert ((silhouette[0] - silhouette[1]).abs() > 1e-3).float().mean() < (1e-4 if exact else 0.02)
    for got, want in (to_silhouette, to_depth):
        cosine = torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0)
        assert cosine > (0.9999 if exact else 0.97)


@gpu
@needs_cuda
def test_labels_of_a_device_are_those_of_the_cpu():
    vertices, faces, camera = hands(16)
    parts = face_parts(torch.from_numpy(open_hand().part_labels), faces)
    depth, labels = render_labels(vertices, faces, camera.K, 128, parts)
    got = render_labels(vertices.cuda(), faces.cuda(), camera.K.cuda(), 128, parts.cuda())
    assert (got[1].cpu() != labels).float().mean() < 1e-5
    assert ((got[0].cpu() - depth).abs() > 1e-4).float().mean() < 1e-5


@gpu
@needs_cuda
def test_antialiasing_on_a_device_is_the_same_in_every_run():
    vertices, faces, camera = hands(4)
    view = PinholeCamera(camera.K.cuda())
    pictures = [render(vertices.cuda(), faces.cuda(), view, 128)["silhouette"] for _ in range(3)]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[0], pictures[2])


@gpu
@needs_cuda
def test_each_tensor_must_lie_on_the_device():
    vertices, faces, camera = hands(1)
    with pytest.raises(ValueError, match="expected all tensors on one device"):
        render(vertices.cuda(), faces.cuda(), camera, 32)
