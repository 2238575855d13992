"""The renderer in plain torch: readable, on any device, differentiable. The twin that says what the fast ones compute.

Works picture by picture in float64, on lists: of (face, row) and (face, row, pixel), of (edge, line). The contract is
in `ops.render`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ops.render.topology import SLIVER, Topology


@torch.no_grad()  # which face a pixel shows is not differentiable; `interpolate` and `silhouette` are
def rasterize_ids(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, perspective: bool
) -> Tensor:
    """The face that each pixel shows, (B, H, W) int32, -1 none."""
    nearness = torch.where(z < near, -math.inf, 1 / z.double() if perspective else -z.double())
    corners = torch.cat([pixels.double(), nearness[..., None]], -1)[:, topology.faces.long()]  # (B, F, 3, 3)
    pictures = [_picture_ids(picture.detach(), size) for picture in corners]
    return torch.stack(pictures) if pictures else pixels.new_zeros(0, *size, dtype=torch.int32)


def _picture_ids(corners: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) int32 from the corners (F, 3, 3) of the faces: x, y, nearness (-inf: culled)."""
    height, width = size
    live = torch.isfinite(corners[..., 2]).all(-1)
    top, middle, bottom = _by_row(corners).unbind(1)  # (F, 3) each
    first_row = _first_pixel(top[:, 1], height)
    face, line = _spread((_first_pixel(bottom[:, 1], height) - first_row) * live)
    y = (first_row[face] + line).double()
    top, middle, bottom = top[face], middle[face], bottom[face]
    long = _crossing(top, bottom, y)
    short = torch.where(y < middle[:, 1], _crossing(top, middle, y), _crossing(middle, bottom, y))
    first = _first_pixel(torch.minimum(long, short), width)
    row, column = _spread(_first_pixel(torch.maximum(long, short), width) - first)
    face, y, x = face[row], y[row], (first[row] + column).double()
    value = _nearness(corners[face], x, y).float()
    # nearest first, then lowest face: both in one integer whose order is theirs
    bits = value.view(torch.int32).long()
    key = (torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32) + (2**31 - 1 - face)
    empty = torch.iinfo(torch.int64).min
    best = torch.full((height * width,), empty, dtype=torch.int64, device=corners.device)
    best.scatter_reduce_(0, (y * width + x).long(), key, "amax")
    ids = torch.where(best == empty, -1, 2**31 - 1 - (best & 0xFFFFFFFF))
    return ids.int().reshape(size)


def interpolate(pixels: Tensor, z: Tensor, topology: Topology, ids: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics (B, H, W, 3) and depth (B, H, W), metres, of the faces seen; 0 where none is."""
    batch, y, x = torch.nonzero(ids >= 0, as_tuple=True)
    face = topology.faces.long()[ids[batch, y, x].long()]  # (N, 3)
    from_pixel = pixels[batch[:, None], face].double() - torch.stack([x, y], -1)[:, None].double()  # (N, 3, 2)
    a, b, c = from_pixel.unbind(1)
    areas = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], -1)  # (N, 3)
    total = areas.sum(-1, keepdim=True)
    sliver = total.abs() < SLIVER
    weights = torch.where(sliver, 1 / 3, areas / torch.where(sliver, 1.0, total))
    corner_z = z[batch[:, None], face].double()
    if perspective:
        nearness = (weights / corner_z).sum(-1, keepdim=True)
        weights, distance = weights / corner_z / nearness, 1 / nearness[:, 0]
    else:
        distance = (weights * corner_z).sum(-1)
    barycentrics = pixels.new_zeros(*ids.shape, 3).index_put((batch, y, x), weights.to(pixels.dtype))
    depth = z.new_zeros(ids.shape).index_put((batch, y, x), distance.to(z.dtype))
    return barycentrics, depth


def silhouette(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Antialiased coverage (B, 1, H, W) in [0, 1]."""
    covered = rasterize_ids(pixels, z, topology, size, near, perspective=False) >= 0
    mask = covered[:, None].to(pixels.dtype)
    # nothing but coverage counts: all surfaces at one level, the background behind it
    level = torch.where(covered, 0.0, -math.inf).double()
    flat = torch.where(z < near, -math.inf, 0.0).double()
    return _blend(mask, level, flat, pixels, topology, False, math.inf).clamp(0, 1)


def antialias(
    image: Tensor,
    ids: Tensor,
    depth: Tensor,
    pixels: Tensor,
    z: Tensor,
    topology: Topology,
    near: float,
    perspective: bool,
    fold_tolerance: float,
) -> Tensor:
    """The image (B, C, H, W), blended along outlines and folds."""
    level = torch.where(ids >= 0, -depth.detach().double(), -math.inf)
    vertex_level = torch.where(z < near, -math.inf, -z.detach().double())
    return _blend(image, level, vertex_level, pixels, topology, perspective, fold_tolerance)


class _Crossings(NamedTuple):
    """Where outline edges pass between pixels p and q, N of them."""

    p: Tensor  # (N,) pixel y * W + x on the edge's own side
    q: Tensor  # (N,) its neighbour on the other side
    s: Tensor  # (N,) in [0, 1], the edge's place on the way from p to q; carries the gradient


def _blend(
    image: Tensor,
    level: Tensor,
    vertex_level: Tensor,
    pixels: Tensor,
    topology: Topology,
    perspective: bool,
    tolerance: float,
) -> Tensor:
    """Adds (s - 1/2) (image[p] - image[q]) to p where s < 1/2, else to q.

    Args:
        image: (B, C, H, W).
        level: (B, H, W) height of the surface towards the camera, metres, -inf where there is none.
        vertex_level: (B, V) the same of the vertices, -inf where culled.
    """
    size = level.shape[1:]
    pictures = []
    for b in range(len(image)):
        p, q, s = _crossings(pixels[b].double(), vertex_level[b], level[b], topology, perspective, tolerance)
        flat = image[b].reshape(len(image[b]), -1)
        change = ((s - 0.5) * (flat[:, p] - flat[:, q])).to(image.dtype)
        pictures.append(flat.index_add(1, torch.where(s < 0.5, p, q), change).reshape(-1, *size))
    return torch.stack(pictures) if pictures else image


def _crossings(
    pixels: Tensor, vertex_level: Tensor, level: Tensor, topology: Topology, perspective: bool, tolerance: float
) -> _Crossings:
    """The crossings of one picture that count: visible, over something farther, the outermost between two pixels."""
    height, width = level.shape
    ends, side = _outline(pixels, vertex_level, topology)
    steep = _is_steep(pixels[ends])
    found = []
    for along_rows in (True, False):
        frame = pixels if along_rows else pixels.flip(-1)
        lines, places = (height, width) if along_rows else (width, height)
        edge, line, v, edge_level = _walk(frame, vertex_level, ends, lines, perspective)
        falling = frame[ends[:, 1], 1] < frame[ends[:, 0], 1]
        upwards = (falling ^ (side < 0) ^ (not along_rows))[edge]  # the surface lies at larger v
        near_side = torch.where(upwards, v.detach().ceil(), v.detach().ceil() - 1)
        far_side = torch.where(upwards, near_side - 1, near_side + 1)
        s = torch.where(upwards, near_side - v, v - near_side)
        kept = (torch.minimum(near_side, far_side) >= 0) & (torch.maximum(near_side, far_side) < places)
        edge, line, s, edge_level = edge[kept], line[kept], s[kept], edge_level[kept]
        near_side, far_side = near_side[kept].long(), far_side[kept].long()
        strides = (width, 1) if along_rows else (1, width)
        p, q = line * strides[0] + near_side * strides[1], line * strides[0] + far_side * strides[1]
        at_p, at_q = level.flatten()[p], level.flatten()[q]
        visible = ((at_p - edge_level).abs() <= tolerance) & (at_q < edge_level) & (at_q < at_p)
        crossings, edge = _Crossings(p[visible], q[visible], s[visible]), edge[visible]
        best = _outermost(crossings, height * width)
        # steep edges count on rows, the others on columns, but hide what lies behind them on both
        best = best[steep[edge[best]] == along_rows]
        found.append(_Crossings(*(column[best] for column in crossings)))
    return _Crossings(*(torch.cat(columns) for columns in zip(*found, strict=True)))


def _outline(pixels: Tensor, vertex_level: Tensor, topology: Topology) -> tuple[Tensor, Tensor]:
    """Ends a, b (N, 2) of the edges with all faces on one side, and which: (N,) positive for a's right, seen from b."""
    a, b, *opposite = topology.edges.long().unbind(1)
    live = torch.isfinite(vertex_level)
    along = pixels[b] - pixels[a]
    sides = []
    for o in opposite:
        exists = (o >= 0) & live[o] & live[a] & live[b]
        sides.append(torch.where(exists, _cross(along, pixels[o] - pixels[a]), 0.0))
    # a face seen edge-on has side 0 and decides nothing
    side = (sides[0] + sides[1]).detach()
    outline = (sides[0] * sides[1] >= 0) & (side != 0)
    return torch.stack([a, b], -1)[outline], side[outline]


def _walk(
    frame: Tensor, vertex_level: Tensor, ends: Tensor, lines: int, perspective: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges (N, 2) against lines of constant second coordinate: edge, line, first coordinate and level there."""
    swap = frame[ends[:, 0], 1] > frame[ends[:, 1], 1]
    ends = torch.where(swap[:, None], ends.flip(1), ends)
    low, high = frame[ends].unbind(1)
    first = _first_pixel(low[:, 1], lines)
    edge, offset = _spread(_first_pixel(high[:, 1], lines) - first)
    line = first[edge] + offset
    low, high = low[edge], high[edge]
    v = _crossing(low, high, line.double())
    t = ((line - low[:, 1]) / (high[:, 1] - low[:, 1])).detach()
    start, stop = vertex_level[ends[edge]].unbind(1)
    if perspective:
        return edge, line, v, 1 / ((1 - t) / start + t / stop)
    return edge, line, v, (1 - t) * start + t * stop


def _outermost(crossings: _Crossings, pixels: int) -> Tensor:
    """Rows of the crossings that lie farthest out between their two pixels, the first of equals."""
    pair = torch.minimum(crossings.p, crossings.q)  # p is nearer than q, so a pair has one orientation
    s = crossings.s.detach()
    farthest = s.new_full((pixels,), -1.0).scatter_reduce_(0, pair, s, "amax")
    rows = torch.nonzero(s == farthest[pair])[:, 0]
    first = torch.full((pixels,), len(s), device=s.device).scatter_reduce_(0, pair[rows], rows, "amin")
    return rows[first[pair[rows]] == rows]


def _by_row(corners: Tensor) -> Tensor:
    order = corners[..., 1].argsort(dim=-1, stable=True)
    return corners.gather(1, order[..., None].expand_as(corners))


def _crossing(low: Tensor, high: Tensor, line: Tensor) -> Tensor:
    """First coordinate where an edge from low to high (N, 2+) meets a line of constant second coordinate."""
    return low[:, 0] + (line - low[:, 1]) * ((high[:, 0] - low[:, 0]) / (high[:, 1] - low[:, 1]))


def _nearness(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Nearness at a pixel from the plane through the corners (N, 3, 3), clamped to their range: slivers are steep."""
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    inverse = 1 / _cross(b, c)
    along_x = (b[:, 2] * c[:, 1] - c[:, 2] * b[:, 1]) * inverse
    along_y = (c[:, 2] * b[:, 0] - b[:, 2] * c[:, 0]) * inverse
    value = (a[:, 2] - along_x * a[:, 0] - along_y * a[:, 1]) + along_y * y + along_x * x
    least, most = corners[..., 2].amin(-1), corners[..., 2].amax(-1)
    value = torch.where(value > least, value, least)  # also for a NaN: a triangle without area
    return torch.where(value < most, value, most)


def _first_pixel(coordinate: Tensor, limit: int) -> Tensor:
    return coordinate.detach().ceil().clamp(0, limit).long()


def _spread(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts (2, 0, 3): owners 0 0 2 2 2 and places 0 1 0 1 2."""
    counts = counts.clamp(min=0)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start[owner]


def _is_steep(edges: Tensor) -> Tensor:
    """Whether edges (N, 2, 2) rise more than they run."""
    along = (edges[:, 1] - edges[:, 0]).abs()
    return along[:, 1] >= along[:, 0]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
