"""Integration by a conditional random field over each pixel's nearest patches, Neverova et al., section 5.1.

E(x) = sum_i u(x_i) + alpha sum_ij b(x_i, x_j) over foreground pixels i and 4-neighbours ij; x_i is one of the pixel's N
nearest patches, u its Hamming distance. b is 1 where the labels in the middle of two patches differ ("potts"), or the
number of different labels where the two patches overlap ("overlap").

The minimum is sought by sequential tree-reweighted messages (Kolmogorov, PAMI 2006): exact where the pixels form a
tree. The best labelling of all passes is kept, and improved pixel by pixel until nothing changes.
"""

import numpy as np
from numba import njit
from numpy import ndarray as Array

from ops.patch_restoration.dictionary import PATCH_SIZE
from ops.patch_restoration.numba_search import INNER, REACH

NEIGHBOURS = 10
ALPHA = {"potts": 3.0, "overlap": 0.1}  # best of 0 to 100, and of 0.03 to 1, on held-out rendered maps with errors
PASSES = 30  # each from first pixel to last and back
_MISSING = 1e6  # cost of a neighbour that was not found
_LEFT, _ABOVE, _RIGHT, _BELOW = 0, 1, 2, 3  # where a message comes from


def integrate(numbers: np.ndarray, distances: np.ndarray, maps: np.ndarray, kind: str, alpha: float) -> np.ndarray:
    """Label in the middle of the patch that each pixel takes, (H, W) uint8; 0 where none was looked up.

    Args:
        numbers: (H, W, N) int64 patches of each pixel, -1 none.
        distances: (H, W, N) their Hamming distances.
        maps: (M, H, W) uint8, the dictionary's.
        kind: of the pairwise term, "potts" or "overlap".
        alpha: its weight.
    """
    nodes = numbers[..., 0] >= 0
    unary = np.where(numbers >= 0, distances, _MISSING).astype(np.float64)
    pairwise = pairwise_terms(numbers, maps, kind, alpha)
    taken, _ = minimise(nodes, unary, *pairwise)
    chosen = np.take_along_axis(numbers, taken[..., None], -1)[..., 0]
    return np.where(nodes, maps.reshape(-1)[np.maximum(chosen, 0)], 0).astype(np.uint8)


def pairwise_terms(numbers: np.ndarray, maps: np.ndarray, kind: str, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Terms (H, W, N, N) float64 of a pixel and its right, and its lower neighbour; 0 where there is none."""
    centres = np.where(numbers >= 0, maps.reshape(-1)[np.maximum(numbers, 0)], 255)
    terms = []
    for dy, dx in ((0, 1), (1, 0)):
        term = np.zeros((*numbers.shape, numbers.shape[-1]))
        inside = slice(None, -dy or None), slice(None, -dx or None)
        if kind == "potts":
            term[inside] = centres[inside][..., :, None] != centres[dy:, dx:][..., None, :]
        else:
            _count_overlap(numbers, maps, dy, dx, term)
        term[numbers[..., 0] < 0] = 0
        term[inside][numbers[dy:, dx:, 0] < 0] = 0
        terms.append(alpha * term)
    return terms[0], terms[1]


def minimise(
    nodes: np.ndarray, unary: np.ndarray, right: np.ndarray, down: np.ndarray, passes: int = PASSES
) -> tuple[np.ndarray, float]:
    """Labelling (H, W) int64 of low energy, 0 where there is no node, and its energy.

    Args:
        nodes: (H, W) bool.
        unary: (H, W, N) float64.
        right: (H, W, N, N) float64, of a node's label and its right neighbour's.
        down: (H, W, N, N) float64, of a node's label and its lower neighbour's.
        passes: of messages; 0 improves the labels of lowest unary cost pixel by pixel.
    """
    best = np.where(nodes, unary.argmin(-1), 0)
    least = energy(nodes, unary, right, down, best)
    messages = np.zeros((4, *unary.shape))
    for _ in range(passes):
        send_messages(nodes, unary, right, down, messages)
        labels = _decoded(nodes, unary, right, down, messages)
        reached = energy(nodes, unary, right, down, labels)
        if reached < least:
            best, least = labels, reached
    while _improve(nodes, unary, right, down, best):
        pass
    return best, energy(nodes, unary, right, down, best)


def energy(nodes: np.ndarray, unary: np.ndarray, right: np.ndarray, down: np.ndarray, labels: np.ndarray) -> float:
    """E of labels (H, W)."""
    y, x = nodes.nonzero()
    total = unary[y, x, labels[y, x]].sum()
    y, x = (nodes[:, :-1] & nodes[:, 1:]).nonzero()
    total += right[y, x, labels[y, x], labels[y, x + 1]].sum()
    y, x = (nodes[:-1] & nodes[1:]).nonzero()
    return float(total + down[y, x, labels[y, x], labels[y + 1, x]].sum())


@njit(cache=True, nogil=True, error_model="numpy")
def _count_overlap(numbers: Array, maps: Array, dy: int, dx: int, term: Array) -> None:
    # different labels of the patches of pixels (y, x) and (y + dy, x + dx) at the places that both cover
    height, width, count = numbers.shape
    patches = np.zeros((height, width, count, PATCH_SIZE, PATCH_SIZE), np.uint8)
    for y in range(height):
        for x in range(width):
            for k in range(count):
                if numbers[y, x, k] >= 0:
                    number, centre = divmod(numbers[y, x, k], height * width)
                    top, left = centre // width - REACH, centre % width - REACH
                    for row in range(max(0, -top), min(PATCH_SIZE, height - top)):
                        for column in range(max(0, -left), min(PATCH_SIZE, width - left)):
                            patches[y, x, k, row, column] = maps[number, top + row, left + column]
    for y in range(height - dy):
        for x in range(width - dx):
            if numbers[y, x, 0] < 0 or numbers[y + dy, x + dx, 0] < 0:
                continue
            for i in range(count):
                for j in range(count):
                    one, other = patches[y, x, i, dy:, dx:], patches[y + dy, x + dx, j]
                    different = 0
                    for row in range(PATCH_SIZE - dy):
                        for column in range(PATCH_SIZE - dx):
                            different += one[row, column] != other[row, column]
                    term[y, x, i, j] = different


@njit(**INNER)
def _send(belief: Array, share: float, back: Array, term: Array, message: Array) -> None:
    # term (N, N) of the sender's label and the receiver's; back: what the receiver has sent to the sender
    least = np.inf
    for j in range(len(message)):
        lowest = np.inf
        for i in range(len(belief)):
            lowest = min(lowest, share * belief[i] - back[i] + term[i, j])
        message[j] = lowest
        least = min(least, lowest)
    for j in range(len(message)):
        message[j] -= least


@njit(cache=True, nogil=True, error_model="numpy")
def send_messages(nodes: Array, unary: Array, right: Array, down: Array, messages: Array) -> None:
    """One pass, from the first pixel to the last and back, changing messages (4, H, W, N)."""
    height, width = nodes.shape
    for backward in (False, True):
        for step in range(height * width):
            y, x = divmod(height * width - 1 - step if backward else step, width)
            if not nodes[y, x]:
                continue
            before = (x > 0 and nodes[y, x - 1]) + (y > 0 and nodes[y - 1, x])
            after = (x + 1 < width and nodes[y, x + 1]) + (y + 1 < height and nodes[y + 1, x])
            share = 1 / max(1, before, after)
            belief = unary[y, x] + messages[_LEFT, y, x] + messages[_ABOVE, y, x]
            belief += messages[_RIGHT, y, x] + messages[_BELOW, y, x]
            if backward:
                if x > 0 and nodes[y, x - 1]:
                    _send(belief, share, messages[_LEFT, y, x], right[y, x - 1].T, messages[_RIGHT, y, x - 1])
                if y > 0 and nodes[y - 1, x]:
                    _send(belief, share, messages[_ABOVE, y, x], down[y - 1, x].T, messages[_BELOW, y - 1, x])
            else:
                if x + 1 < width and nodes[y, x + 1]:
                    _send(belief, share, messages[_RIGHT, y, x], right[y, x], messages[_LEFT, y, x + 1])
                if y + 1 < height and nodes[y + 1, x]:
                    _send(belief, share, messages[_BELOW, y, x], down[y, x], messages[_ABOVE, y + 1, x])


@njit(cache=True, nogil=True, error_model="numpy")
def _decoded(nodes: Array, unary: Array, right: Array, down: Array, messages: Array) -> Array:
    # pixel by pixel, given the labels of those before and messages of those after it
    height, width = nodes.shape
    labels = np.zeros((height, width), np.int64)
    for y in range(height):
        for x in range(width):
            if nodes[y, x]:
                cost = unary[y, x] + messages[_RIGHT, y, x] + messages[_BELOW, y, x]
                if x > 0 and nodes[y, x - 1]:
                    cost += right[y, x - 1, labels[y, x - 1]]
                if y > 0 and nodes[y - 1, x]:
                    cost += down[y - 1, x, labels[y - 1, x]]
                labels[y, x] = cost.argmin()
    return labels


@njit(cache=True, nogil=True, error_model="numpy")
def _improve(nodes: Array, unary: Array, right: Array, down: Array, labels: Array) -> bool:
    # gives every pixel the best label given its neighbours'; says whether one changed. The energy never rises.
    height, width = nodes.shape
    changed = False
    for y in range(height):
        for x in range(width):
            if not nodes[y, x]:
                continue
            cost = unary[y, x].copy()
            if x > 0 and nodes[y, x - 1]:
                cost += right[y, x - 1, labels[y, x - 1]]
            if y > 0 and nodes[y - 1, x]:
                cost += down[y - 1, x, labels[y - 1, x]]
            if x + 1 < width and nodes[y, x + 1]:
                cost += right[y, x, :, labels[y, x + 1]]
            if y + 1 < height and nodes[y + 1, x]:
                cost += down[y, x, :, labels[y + 1, x]]
            best = cost.argmin()
            if cost[best] < cost[labels[y, x]] - 1e-9:
                labels[y, x] = best
                changed = True
    return changed
