"""The fused labels equal the renderer; they work in worker processes, whatever the number of threads."""

import multiprocessing

import pytest
import torch

from benchmarks.render_slopes import hand_scene
from ops.camera import PinholeCamera
from ops.hand_model import open_hand
from ops.render import Surface, Texture, face_parts, render, render_labels, render_labels_rgb


def hand_parts(faces):
    return face_parts(torch.from_numpy(open_hand().part_labels), faces)


def test_face_parts_take_the_majority_and_start_at_1():
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [1, 2, 3]])
    labels = face_parts(torch.tensor([4, 4, 7, 9]), faces)
    assert labels.tolist() == [5, 5, 5] and labels.dtype == torch.uint8
    assert face_parts(torch.tensor([1, 3, 3, 0]), faces).tolist() == [4, 2, 4]


def test_labels_equal_the_renderer():
    scene = hand_scene(3, 64, seed=2)
    parts = hand_parts(scene.faces)
    camera = PinholeCamera(scene.K)
    expected = render(scene.vertices, scene.faces, camera, (50, 64), ("depth", "parts"), part_of_face=parts)
    depth, labels = render_labels(scene.vertices, scene.faces, scene.K, (50, 64), parts)
    # projected in float64 here, in float32 there: a pixel at an edge may go the other way
    differs = labels != expected["parts"]
    assert differs.float().mean() < 1e-3 and labels.max() > 10
    same = ~differs & ((depth - expected["depth"]).abs() < 0.01)[:, 0]
    assert same.float().mean() > 0.999
    torch.testing.assert_close(depth[:, 0][same], expected["depth"][:, 0][same], atol=1e-5, rtol=0)


def test_rgb_equals_the_renderer():
    scene = hand_scene(2, 64, seed=2)
    model = open_hand()
    parts = hand_parts(scene.faces)
    random = torch.Generator().manual_seed(0)
    colours = torch.rand(*scene.vertices.shape, generator=random)
    pictures = torch.randint(0, 256, (1, 16, 16, 3), generator=random, dtype=torch.uint8)
    background = torch.randint(0, 256, (2, 3, 64, 64), generator=random, dtype=torch.uint8)
    texture = Texture(pictures, torch.from_numpy(model.uv).float(), torch.from_numpy(model.uv_faces))
    for worn in (None, texture):
        textures = None if worn is None else pictures.permute(0, 3, 1, 2) / 255
        surface = Surface(colours, textures, texture.uv, texture.faces)
        expected = render(
            scene.vertices, scene.faces, PinholeCamera(scene.K), 64, ("rgb",), surface=surface,
            background=background / 255, antialias=False,
        )["rgb"]  # fmt: skip
        depth, labels, rgb = render_labels_rgb(
            scene.vertices, scene.faces, scene.K, 64, parts, colours, background, worn
        )
        difference = (rgb / 255 - expected).abs()
        assert (difference < 0.6 / 255).float().mean() > 0.995  # a pixel at an edge may go the other way
        alone = render_labels(scene.vertices, scene.faces, scene.K, 64, parts)
        assert torch.equal(depth, alone[0]) and torch.equal(labels, alone[1])


def in_a_worker(queue, scene, parts):
    torch.set_num_threads(1)
    queue.put([x.clone().numpy() for x in render_labels(scene.vertices, scene.faces, scene.K, 48, parts)])


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_process_renders_the_same(method):
    scene = hand_scene(4, 48)
    parts = hand_parts(scene.faces)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # the pool of threads exists before the fork
    try:
        here = render_labels(scene.vertices, scene.faces, scene.K, 48, parts)
    finally:
        torch.set_num_threads(threads)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=in_a_worker, args=(queue, scene, parts))
    worker.start()
    there = queue.get(timeout=120)
    worker.join(timeout=30)
    for ours, theirs in zip(here, there, strict=True):
        assert (ours.numpy() == theirs).all()


def test_bad_input_says_what_and_how():
    scene = hand_scene(1, 16)
    parts = hand_parts(scene.faces)

    def labels(vertices=scene.vertices, K=scene.K, parts=parts):
        return render_labels(vertices, scene.faces, K, 16, parts)

    for near in (0.0, -1.0, torch.nan):
        with pytest.raises(ValueError, match="near: expected a positive distance in metres"):
            render_labels(scene.vertices, scene.faces, scene.K, 16, parts, near)
        with pytest.raises(ValueError, match="near: expected a positive distance in metres"):
            render_labels_rgb(
                scene.vertices, scene.faces, scene.K, 16, parts, torch.ones_like(scene.vertices), near=near
            )
    with pytest.raises(ValueError, match="vertices: expected finite"):
        labels(vertices=scene.vertices * torch.nan)
    with pytest.raises(TypeError, match=r"vertices: expected float32 on the CPU.*\.float\(\)"):
        labels(vertices=scene.vertices.double())
    with pytest.raises(ValueError, match="K: expected positive focal lengths"):
        labels(K=torch.zeros(1, 3, 3))
    with pytest.raises(TypeError, match=r"part_of_face: expected torch\.uint8"):
        labels(parts=parts.long())
    with pytest.raises(ValueError, match="part_of_face: expected shape"):
        labels(parts=parts[:-1])
    with pytest.raises(ValueError, match="background: expected shape"):
        render_labels_rgb(
            scene.vertices, scene.faces, scene.K, 16, parts, torch.rand(scene.vertices.shape),
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        )  # fmt: skip
