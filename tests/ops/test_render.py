"""The renderer's contract: hand-derived values, brute force, bad scenes, bad input."""

import numpy as np
import pytest
import torch

from benchmarks.render_slopes import hand_scene
from ops.camera import PinholeCamera, WeakPerspectiveCamera
from ops.render import Light, Surface, face_parts, rasterize, render, vertex_light
from ops.render.topology import topology_of

SQUARE_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
BACKENDS = ("cpu", "torch")


def square(left, top, right, bottom, z=1.0):
    """Vertices (1, 4, 3) of a rectangle that a camera with f = 1, centre 0 sees at these pixels."""
    corners = torch.tensor([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]])
    return (corners * z)[None]


def unit_camera():
    return PinholeCamera(torch.eye(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_coverage_of_a_square_is_its_area(backend):
    # level borders between pixel rows (n + 1/2): every row is crossed alike and the sum is exact
    picture = render(square(2.3, 1.5, 6.9, 5.5), SQUARE_FACES, unit_camera(), 10, backend=backend)["silhouette"]
    assert picture.sum().item() == pytest.approx((6.9 - 2.3) * (5.5 - 1.5), abs=1e-5)
    # row 3: pixel 2 has its right 0.2, pixels 3-6 are full, pixel 7 has its left 0.4
    expected = torch.tensor([0, 0, 0.2, 1, 1, 1, 1, 0.4, 0, 0])
    torch.testing.assert_close(picture[0, 0, 3], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_coverage_at_corners_is_off_by_the_corners_alone(backend):
    # 3.6 x 3.7 px cover 3 x 3 centres: rows give 3.6 each, columns 3.7 each, the corners' product is left out
    picture = render(square(2.1, 1.3, 5.7, 5.0), SQUARE_FACES, unit_camera(), 10, backend=backend)["silhouette"]
    columns, rows = 3, 3  # centres 3 4 5 and 2 3 4 (5.0 is the first row not covered)
    expected = columns * rows + rows * (3.6 - columns) + columns * (3.7 - rows)
    assert picture.sum().item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_silhouette_gradient_of_a_moving_border(backend):
    # the right border moves one pixel to the right: each of 4 rows gains one pixel; area = 4 (right - left)
    vertices = square(2.3, 1.5, 6.9, 5.5).requires_grad_()
    render(vertices, SQUARE_FACES, unit_camera(), 10, backend=backend)["silhouette"].sum().backward()
    x_gradient = vertices.grad[0, :, 0]
    assert x_gradient[1] + x_gradient[2] == pytest.approx(4, abs=1e-5)
    assert x_gradient[0] + x_gradient[3] == pytest.approx(-4, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_are_centres_and_row_0_is_on_top(backend):
    # covers the centres of columns 1, 2 and of row 0 alone
    vertices = square(0.6, -0.5, 2.4, 0.5)
    ids = rasterize(vertices, SQUARE_FACES, unit_camera(), (3, 4), backend=backend).triangle_ids
    expected = [[False, True, True, False], [False] * 4, [False] * 4]
    assert (ids[0] >= 0).tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_depth_of_a_slanted_plane_is_exact(backend):
    # the plane z = 0.5 + x at pixel u: x = z u / f, so z = 0.5 / (1 - u / f)
    x = torch.tensor([-0.2, 0.2, 0.2, -0.2])
    vertices = torch.stack([x, torch.tensor([-0.2, -0.2, 0.2, 0.2]), 0.5 + x], -1)[None]
    K = torch.tensor([[40.0, 0, 8], [0, 40, 8], [0, 0, 1]])
    out = rasterize(vertices, SQUARE_FACES, PinholeCamera(K), 17, backend=backend)
    u = torch.arange(17) - 8.0
    expected = (0.5 / (1 - u / 40)).expand(17, 17)
    seen = out.triangle_ids[0] >= 0
    assert seen.sum() > 50
    torch.testing.assert_close(out.depth[0][seen], expected[seen], atol=1e-6, rtol=0)
    assert (out.depth[0][~seen] == 0).all()


def test_coverage_and_ids_equal_brute_force():
    scene = hand_scene(1, 32, seed=3)
    out = rasterize(scene.vertices, scene.faces, PinholeCamera(scene.K), 32)
    ids, depth, clear = brute_force(scene.vertices[0].double(), scene.faces, scene.K[0].double(), 32)
    got = out.triangle_ids[0].numpy()
    assert (ids >= 0).sum() > 100 and ((got >= 0) == (ids >= 0)).all()
    # two surfaces within 1e-6 m (along shared edges): either id is right
    assert (got == ids)[clear].all() and clear.mean() > 0.95
    np.testing.assert_allclose(out.depth[0].numpy(), depth, atol=1e-5)


def brute_force(vertices, faces, K, size):
    """Nearest face (H, W), its depth, and where the second nearest is farther by more than 1e-6 m; float64."""
    homogeneous = (vertices @ K.T).numpy()
    uv, z = homogeneous[:, :2] / homogeneous[:, 2:], homogeneous[:, 2]
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 1, 2)
    a, b, c = (uv[faces[:, i].numpy()][None] - grid for i in range(3))

    def cross(p, q):
        return p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]

    weights = np.stack([cross(b, c), cross(c, a), cross(a, b)], -1)
    area = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, area, out=np.full_like(weights, -1), where=area != 0)
    depth = 1 / (weights / z[faces.numpy()]).sum(-1)
    depth[(weights < 0).any(-1)] = np.inf
    order = np.partition(depth, 1, axis=1)
    nearest = order[:, 0].reshape(size, size)
    ids = np.where(np.isinf(nearest), -1, depth.argmin(1).reshape(size, size))
    second = order[:, 1].reshape(size, size)
    clear = np.isinf(nearest) | np.isinf(second) | (np.where(np.isinf(second), 1, second) - nearest > 1e-6)
    return ids, np.where(np.isinf(nearest), 0, nearest), clear


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_depth_goes_to_the_lower_face(backend):
    vertices = square(1, 1, 4, 4)
    faces = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 2, 3]])
    ids = rasterize(vertices, faces, unit_camera(), 6, backend=backend).triangle_ids
    assert set(ids.unique().tolist()) == {-1, 0, 2}


def test_barycentrics_interpolate_what_varies_linearly_in_space():
    scene = hand_scene(1, 64)
    out = rasterize(scene.vertices, scene.faces, PinholeCamera(scene.K), 64)
    y, x = torch.nonzero(out.triangle_ids[0] >= 0, as_tuple=True)
    corners = scene.vertices[0][scene.faces[out.triangle_ids[0, y, x].long()]]
    points = (corners * out.barycentrics[0, y, x][..., None]).sum(1)
    pixels = PinholeCamera(scene.K).project(points[None])[0]
    torch.testing.assert_close(pixels, torch.stack([x, y], -1).float(), atol=1e-3, rtol=0)  # f = 134 px in float32
    torch.testing.assert_close(points[:, 2], out.depth[0, y, x], atol=1e-6, rtol=0)


def test_a_batch_is_its_pictures_whatever_the_number_of_threads():
    scene = hand_scene(9, 48)
    outputs = ("silhouette", "depth", "normals")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = render(scene.vertices, scene.faces, PinholeCamera(scene.K), 48, outputs)
        torch.set_num_threads(1)
        for b in (0, 8):
            alone = render(scene.vertices[b : b + 1], scene.faces, PinholeCamera(scene.K[b]), 48, outputs)
            for name in outputs:
                assert torch.equal(together[name][b], alone[name][0])
    finally:
        torch.set_num_threads(threads)


def test_weak_perspective_equals_a_far_pinhole_camera():
    scene = hand_scene(2, 64)
    far = scene.vertices + torch.tensor([0.0, 0.0, 500.0])
    focal = 134.4 / 0.5 * 500.5
    K = torch.tensor([[focal, 0, 31.5], [0, focal, 31.5], [0, 0, 1]])
    pinhole = render(far, scene.faces, PinholeCamera(K), 64)["silhouette"]
    camera = WeakPerspectiveCamera(torch.full((2,), 134.4 / 0.5), torch.full((2, 2), 31.5))
    # the surface may lie at any z, also behind the camera
    shifted = render(scene.vertices - torch.tensor([0.0, 0.0, 0.5]), scene.faces, camera, 64, ("silhouette", "depth"))
    assert pinhole.sum() > 0
    # 0.03 px of parallax: 0.1 m of depth over 500 m, 32 px from the centre
    torch.testing.assert_close(shifted["silhouette"], pinhole, atol=0.05, rtol=0)
    assert shifted["depth"].min() < 0 < shifted["depth"].max()


def test_normals_of_a_sphere_point_outwards():
    vertices, faces = sphere(0.05)
    camera = PinholeCamera(torch.tensor([[300.0, 0, 31.5], [0, 300, 31.5], [0, 0, 1]]))
    vertices = (vertices + torch.tensor([0.0, 0.0, 0.5]))[None]
    out = render(vertices, faces, camera, 64, ("normals", "depth"))
    y, x = torch.nonzero(out["depth"][0, 0] > 0, as_tuple=True)
    depth = out["depth"][0, 0, y, x]
    points = torch.stack([(x - 31.5) / 300 * depth, (y - 31.5) / 300 * depth, depth - 0.5], -1)
    expected = torch.nn.functional.normalize(points, dim=-1)
    cosine = (out["normals"][0, :, y, x].T * expected).sum(-1)
    assert cosine.min() > 0.98  # faces of 0.2 rad


def sphere(radius, rings=16):
    """A latitude-longitude sphere: vertices (V, 3), faces (F, 3) counter-clockwise from outside, poles degenerate."""
    polar, around = torch.meshgrid(
        torch.linspace(0, torch.pi, rings + 1), torch.arange(2 * rings) * torch.pi / rings, indexing="ij"
    )
    vertices = radius * torch.stack([polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()], -1)
    index = torch.arange((rings + 1) * 2 * rings).reshape(rings + 1, -1)
    a, b, c, d = index[:-1], index[1:], index[1:].roll(-1, 1), index[:-1].roll(-1, 1)
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3)
    return vertices.reshape(-1, 3), faces


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sphere_with_edge_on_faces_has_an_outline(backend):
    # seen along an axis, whole rings of faces are edge-on: their edges are the outline all the same
    vertices, faces = sphere(1.0)
    camera = WeakPerspectiveCamera(torch.tensor([10.3]), torch.tensor([[15.5, 15.5]]))
    picture = render(vertices[None, :, [2, 0, 1]], faces, camera, 32, backend=backend)["silhouette"]
    polygon = 16 * np.sin(2 * np.pi / 32) * 10.3**2  # area of the regular 32-gon
    assert picture.sum().item() == pytest.approx(polygon, rel=0.005)
    assert ((picture > 0) & (picture < 1)).sum() > 40


def test_parts_and_rgb_show_the_face_seen():
    faces = torch.cat([SQUARE_FACES, SQUARE_FACES + 4])
    vertices = torch.cat([square(1, 1, 5, 5, z=2.0), square(3, 1, 8, 5, z=1.0)], 1)
    surface = Surface(torch.tensor([[1.0, 0, 0]] * 4 + [[0, 0, 1.0]] * 4))
    labels = face_parts(torch.tensor([0] * 4 + [7] * 4), faces)
    out = render(
        vertices, faces, unit_camera(), 9, ("parts", "rgb"), part_of_face=labels, surface=surface, antialias=False,
        background=torch.tensor([0.0, 1.0, 0.0]),
    )  # fmt: skip
    assert out["parts"].dtype == torch.uint8
    assert out["parts"][0, 2].tolist() == [0, 1, 1, 8, 8, 8, 8, 8, 0]
    assert out["rgb"][0, :, 2, 1].tolist() == [1, 0, 0]
    assert out["rgb"][0, :, 2, 3].tolist() == [0, 0, 1]
    assert out["rgb"][0, :, 2, 0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_folds_blend_by_the_share_of_the_nearer_surface(backend):
    # a near square ends at x = 4.2 over a far one: pixel 4 is 0.7 near, 0.3 far; the far one ends at 7.6
    faces = torch.cat([SQUARE_FACES, SQUARE_FACES + 4])
    vertices = torch.cat([square(1.5, 1.5, 7.6, 5.5, z=2.0), square(1.5, 1.5, 4.2, 5.5, z=1.0)], 1)
    surface = Surface(torch.tensor([[0.0, 0, 1]] * 4 + [[1.0, 0, 0]] * 4))
    rgb = render(vertices, faces, unit_camera(), 10, ("rgb",), surface=surface, backend=backend)["rgb"]
    torch.testing.assert_close(rgb[0, :, 3, 4], torch.tensor([0.7, 0, 0.3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(rgb[0, :, 3, 8], torch.tensor([0, 0, 0.1]), atol=1e-5, rtol=0)


def test_light_is_ambient_plus_lambert():
    # the square's normal is -z (towards the camera) with this winding; light from 60 degrees beside it
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    light = Light(torch.tensor([np.sqrt(3) / 2, 0, -0.5], dtype=torch.float32), ambient=0.2, directional=0.6)
    surface = Surface(torch.full((4, 3), 0.5))
    vertices = square(1.5, 1.5, 6.5, 6.5)
    rgb = render(vertices, faces, unit_camera(), 9, ("rgb",), surface=surface, light=light)["rgb"]
    assert rgb[0, 0, 4, 4].item() == pytest.approx(0.5 * (0.2 + 0.6 * 0.5), abs=1e-5)


def test_texture_is_looked_up_at_uv_with_v_upwards():
    surface = Surface(
        textures=torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]).expand(1, 3, 2, 2),  # white in the upper left
        uv=torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]]),
        faces=SQUARE_FACES,
    )
    vertices = square(-0.5, -0.5, 7.5, 7.5)
    rgb = render(vertices, SQUARE_FACES, unit_camera(), 8, ("rgb",), surface=surface)["rgb"]
    assert rgb[0, 0, 0, 0].item() == pytest.approx(1, abs=1e-5)
    assert rgb[0, 0, 7, 0].item() == pytest.approx(0, abs=1e-5)
    assert rgb[0, 0, 3, 3].item() == pytest.approx((1 - 0.375) ** 2, abs=1e-4)  # texel 0.375 of the way, twice


SCENES = {
    "behind the camera": square(1, 1, 5, 5, z=-1.0),
    "at the camera": torch.zeros(1, 4, 3),
    "crossing the near plane": torch.tensor([[[0.0, 0, -1], [3, 0, 1], [3, 3, 2], [0, 3, 1e-3]]]),
    "outside": square(100, 100, 200, 200),
    "a point": square(3, 3, 3, 3),
    "a line": square(1, 3, 5, 3),
    "an upright line": square(3.0, 1, 3.0, 5),
    "a slanted line": torch.tensor([[[1.0, 1, 1], [3, 3, 1], [5, 5, 1], [2, 2, 1]]]),
    "huge": square(-1e9, -1e9, 1e9, 1e9),
    "larger than the picture": square(-1e4, -1e4, 1e4, 1e4),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scene", SCENES)
def test_bad_scenes_give_finite_pictures_and_gradients(scene, backend):
    vertices = SCENES[scene].clone().requires_grad_()
    K = torch.eye(3).requires_grad_()
    outputs = ("silhouette", "depth", "normals", "rgb")
    out = render(
        vertices, SQUARE_FACES, PinholeCamera(K), 8, outputs, surface=Surface(torch.rand(4, 3)), backend=backend
    )
    assert all(picture.isfinite().all() for picture in out.values())
    sum(picture.sum() for picture in out.values()).backward()
    assert vertices.grad.isfinite().all() and K.grad.isfinite().all()
    covered = out["silhouette"].sum().item()
    if scene in ("huge", "larger than the picture"):
        assert covered == 64
    else:
        # both triangles of the one that crosses have a vertex nearer than 1 cm
        assert covered == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_triangle_with_a_near_vertex_is_culled_and_its_neighbour_has_a_rim(backend):
    vertices = square(1.3, 1.5, 6.6, 5.5)
    vertices[0, 3] = torch.tensor([0.0, 0.0, 0.001])
    picture = render(vertices, SQUARE_FACES, unit_camera(), 9, backend=backend)["silhouette"]
    alone = render(vertices[:, :3], SQUARE_FACES[:1], unit_camera(), 9, backend=backend)["silhouette"]
    assert alone.sum() > 5 and torch.equal(picture, alone)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_faces_and_no_pictures(backend):
    outputs = ("silhouette", "depth", "parts", "normals", "rgb")
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    for vertices, faces in ((torch.rand(2, 4, 3), nothing), (torch.zeros(0, 4, 3), SQUARE_FACES)):
        labels = torch.ones(len(faces), dtype=torch.uint8)
        vertices.requires_grad_()
        out = render(
            vertices, faces, unit_camera(), (5, 6), outputs, part_of_face=labels, surface=Surface(torch.rand(4, 3)),
            backend=backend,
        )  # fmt: skip
        for name, channels in (("silhouette", 1), ("depth", 1), ("normals", 3), ("rgb", 3)):
            assert out[name].shape == (len(vertices), channels, 5, 6) and (out[name] == 0).all()
        assert out["parts"].shape == (len(vertices), 5, 6)
        sum(out[name].sum() for name in ("silhouette", "depth", "normals", "rgb")).backward()
        assert vertices.grad.shape == vertices.shape and (vertices.grad == 0).all()


def test_edges_know_their_faces():
    topology = topology_of(SQUARE_FACES, 4)
    rows = {tuple(edge[:2]): (tuple(edge[2:]), side) for edge, side in zip(
        topology.edges.tolist(), topology.sides.tolist(), strict=True
    )}  # fmt: skip
    assert len(rows) == 5
    assert rows[(0, 1)] == ((2, -1), [1, 0])  # face 0 runs 0 -> 1
    assert rows[(0, 3)] == ((2, -1), [-2, 0])  # face 1 runs 3 -> 0
    assert set(rows[(0, 2)][0]) == {1, 3} and set(rows[(0, 2)][1]) == {-1, 2}


def test_an_edge_of_three_faces_is_a_rim_of_each():
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [1, 0, 4]])
    edges = topology_of(faces, 5).edges.tolist()
    assert sorted(edge[2] for edge in edges if edge[:2] == [0, 1]) == [2, 3, 4]
    assert all(edge[3] == -1 for edge in edges)


def test_topology_is_kept_until_the_faces_change():
    faces = SQUARE_FACES.clone()
    first = topology_of(faces, 4)
    assert topology_of(faces, 4) is first
    faces[0, 2] = 3
    assert topology_of(faces, 4).faces.tolist() == [[0, 1, 3], [0, 2, 3]]


GOOD = {"vertices": square(1, 1, 5, 5), "faces": SQUARE_FACES, "camera": unit_camera(), "size": 8}
BAD = [
    ({"vertices": torch.zeros(4, 3)}, ValueError, "vertices: expected shape"),
    ({"vertices": torch.zeros(1, 4, 3, dtype=torch.int64)}, TypeError, "vertices: expected a floating-point"),
    ({"vertices": np.zeros((1, 4, 3))}, TypeError, "vertices: expected a torch.Tensor"),
    ({"vertices": torch.full((1, 4, 3), torch.nan)}, ValueError, "vertices: expected finite numbers, got 12"),
    ({"faces": torch.zeros(2, 4, dtype=torch.int64)}, ValueError, "faces: expected shape"),
    ({"faces": torch.zeros(2, 3)}, TypeError, "faces: expected integers"),
    ({"faces": torch.tensor([[0, 1, 4]])}, ValueError, r"faces: expected indices in 0..3 for 4 vertices, got 4"),
    ({"faces": torch.tensor([[0, 1, -1]])}, ValueError, "faces: expected indices from 0"),
    ({"camera": torch.eye(3)}, TypeError, "camera: expected a PinholeCamera or WeakPerspectiveCamera, got Tensor"),
    ({"camera": PinholeCamera(torch.eye(3).expand(2, 3, 3))}, ValueError, r"camera.K: expected shape \(1, 3, 3\)"),
    ({"camera": PinholeCamera(torch.eye(3).double())}, TypeError, "camera.K: expected the vertices' dtype"),
    (
        {"camera": WeakPerspectiveCamera(torch.zeros(1), torch.zeros(1, 2))},
        ValueError,
        "camera.scale: expected positive",
    ),
    ({"size": 0}, ValueError, "size: expected a positive integer"),
    ({"size": (8, 8, 3)}, ValueError, "size: expected a positive integer"),
    ({"near": 0.0}, ValueError, "near: expected a positive distance"),
    ({"backend": "opengl"}, ValueError, "backend: expected one of 'auto', 'cpu'"),
    ({"outputs": ("mask",)}, ValueError, "outputs: expected one of 'silhouette'"),
    ({"outputs": ("parts",)}, ValueError, "part_of_face: expected the label of each face"),
    ({"outputs": ("rgb",)}, ValueError, "surface: expected colours or textures"),
    ({"outputs": ("rgb",), "surface": Surface(torch.rand(5, 3))}, ValueError, "surface.colours: expected shape"),
    ({"vertices": square(1, 1, 5, 5).double(), "backend": "cpu"}, TypeError, "backend 'cpu': expected float32"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_says_what_and_how(change, error, message):
    with pytest.raises(error, match=message):
        render(**{**GOOD, **change})


def test_zero_focal_length_is_refused():
    with pytest.raises(ValueError, match="K: expected positive focal lengths"):
        PinholeCamera(torch.zeros(3, 3))


def test_float64_takes_the_torch_backend_by_itself():
    camera = PinholeCamera(torch.eye(3, dtype=torch.float64))
    assert render(square(1, 1, 5, 5).double(), SQUARE_FACES, camera, 8)["silhouette"].dtype == torch.float64


def test_light_without_gradients_equals_light_with():
    scene = hand_scene(2, 32)
    light = Light(torch.tensor([[0.2, -0.4, -1.0], [3.0, 0.0, 0.1]]), 0.3, torch.tensor([0.5, 0.6, 0.7]))
    fast = vertex_light(scene.vertices, scene.faces, light)
    twin = vertex_light(scene.vertices.clone().requires_grad_(), scene.faces, light)
    assert twin.requires_grad and not fast.requires_grad and fast.amax() > 0.8
    torch.testing.assert_close(fast, twin.detach(), atol=1e-6, rtol=0)
