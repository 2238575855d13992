"""Differentiable rendering of triangle meshes: triangle ids, silhouette, depth, parts, normals, RGB.

Public: `render` and `rasterize` (api.py) with every gradient; `render_labels` and `render_labels_rgb` (labels.py), the
fused rasteriser without gradients that data generation uses (labels on CUDA as well).

Conventions (ops/camera.py): OpenCV camera, metres, pixel (u, v) integer = pixel centre, row 0 on top.

Which pixels a triangle covers. Its pixel centres under the scan-line rule: row y when y_min <= y < y_max, column x when
x_left <= x < x_right, where x_left and x_right are the edges' crossings of that row; so triangles that share an edge
share no pixel and leave no gap. The nearest surface wins, at equal depth the lower face index. Both sides of a face are
seen. Under a pinhole camera a triangle with any vertex nearer than `near` (1 cm) is culled whole, and with it its
edges; a weak-perspective camera has no near plane.

Silhouette. Coverage of the hard mask, corrected where an edge of the outline passes between a covered pixel p and an
uncovered neighbour q: with s in [0, 1] the edge's place on the way from p to q, p gets s - 1/2 if s < 1/2, else q does;
then the sum is clamped to [0, 1]. This is the analytic antialiasing of Laine et al., "Modular Primitives for
High-Performance Differentiable Rendering", SIGGRAPH Asia 2020, with one change: outline edges are found from the mesh
(a static table of edges and the vertices opposite them), not from the triangles that pixels happen to show. At hand
meshes' density triangles at the rim are smaller than a pixel and cover no pixel's centre, so looking from the pixels
misses most of the outline and its gradient. An edge is part of the outline if its faces lie on one side of it on the
screen: folds, rims (one face) and edges with a face seen exactly edge-on. Every outline edge is walked along rows and
along columns; of several between p and q only the outermost counts; and it counts where it crosses steeply: edges with
|dy| >= |dx| on rows, the others on columns. (An edge that crosses the other way still hides what lies behind it:
without that, edges just inside the outline are counted twice, and the gradient at 48 px is 3 % too large.)

A backend is a module with these four functions. `pixels` (B, V, 2) and `z` (B, V) are the projected vertices, finite
everywhere; a vertex with z < near is culled (near is -inf under weak perspective); `topology` holds faces (F, 3),
edges (E, 4) and sides (E, 2) as int32 on the vertices' device (topology.py); all pictures have size (H, W).

- `rasterize_ids(pixels, z, topology, size, near, perspective) -> (B, H, W) int32`: the face seen, -1 none; no gradient.
- `interpolate(pixels, z, topology, ids, perspective) -> barycentrics (B, H, W, 3), depth (B, H, W)`: perspective-
  correct barycentrics and metres, 0 where ids is -1; gradients towards pixels and z.
- `silhouette(pixels, z, topology, size, near) -> (B, 1, H, W)` as above; gradient towards pixels.
- `antialias(image, ids, depth, pixels, z, topology, near, perspective, fold_tolerance) -> (B, C, H, W)`: the same
  correction for any image (B, C, H, W), (s - 1/2) (image[p] - image[q]), at the outline and at folds over farther
  surfaces: p shows the edge's surface, |depth[p] - z_edge| <= fold_tolerance, and q shows something behind the edge,
  depth[q] > z_edge, or nothing (ids[q] = -1); gradients towards image and pixels.

`reference.py` is the plain torch twin of all four and says what they mean; `cpu.py` is numba, parallel over the batch;
`triton_backend.py` is for CUDA, without compiled extensions; `nvdiffrast_backend.py` takes the faces from nvdiffrast's
rasteriser and `nvdiffrast_native.py` its antialiasing as well (its own rule, not the one above), to compare with.
"""

from ops.render.api import FOLD_TOLERANCE, Fragments, rasterize, render
from ops.render.labels import Texture, face_parts, render_labels, render_labels_rgb
from ops.render.shading import Light, Surface, vertex_light, vertex_normals
from ops.render.topology import NEAR

__all__ = [
    "FOLD_TOLERANCE",
    "NEAR",
    "Fragments",
    "Light",
    "Surface",
    "Texture",
    "face_parts",
    "rasterize",
    "render",
    "render_labels",
    "render_labels_rgb",
    "vertex_light",
    "vertex_normals",
]
