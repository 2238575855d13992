"""The solver of `ops.hand_model.joint_problem` as plain loops, one hand after another, compiled by numba.

It takes the steps of `ops.hand_model.fitting_reference`. A step of one hand is some 30,000 multiplications: a finger's
points depend on its own nine angles and on what all points share, so the normal equations are five small blocks with a
border, and so is their Cholesky factor. Angles come first here; then rotation, translation, shape, scale.

Kernels work on hands start..stop-1, on one thread, without the GIL, in float64. Slices are copied by loops: numba takes
seconds to compile such an assignment. All is in one file: numba's cache notices changes of a kernel's own file only.

Letters: P points, S shape components, N parameters, D dimensions of a label.
"""

import math

from numba import njit
from numpy import ndarray as Array

from ops.hand_model.fitting_arrays import ANGLES, PLACE, SHAPE, TURN, Labels, Tables, Work

MAX_SHAPE = 3.0  # the open hand's shape space is made for |beta| <= 3
LARGEST_TURN = 0.5  # radians in one step: beyond it the linear model means nothing
CONVERGED = 1e-6  # share by which an accepted step must lower the sum to go on
NEAREST = 0.01  # metres: what comes closer to the camera, or behind it, is projected as if it were here
FIRST_DAMPING, DAMPING_FACTOR, LEAST_DAMPING, GIVEN_UP = 1e-2, 5.0, 1e-9, 1e6
LEAST_CURVATURE = 1e-6  # what is damped where the sum does not depend on a parameter

_ROTATION, _TRANSLATION, _SHAPE = ANGLES, ANGLES + 3, ANGLES + 6  # first columns of the parameters
_INNER = {
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


# -- the hand


@njit(**_INNER)
def _turn(matrix: Array, x: float, y: float, z: float, angle: float) -> None:
    # matrix R, with the rotation R about a unit axis (Rodrigues): its rows v become R^T v
    sine, half = math.sin(angle), math.sin(angle / 2)
    rest = 2 * half * half  # 1 - cos, which cancels for small angles
    for r in range(3):
        a, b, c = matrix[r, 0], matrix[r, 1], matrix[r, 2]
        along = x * a + y * b + z * c
        matrix[r, 0] = a + sine * (z * b - y * c) + rest * (x * along - a)
        matrix[r, 1] = b + sine * (x * c - z * a) + rest * (y * along - b)
        matrix[r, 2] = c + sine * (y * a - x * b) + rest * (z * along - c)


@njit(**_INNER)
def _way(rest: Array, joint: int, hand: Array) -> tuple[float, float, float]:
    # to a joint from the one before it, in the frame of the bone that carries it
    shapes = rest.shape[2] - 1
    x, y, z = rest[joint, 0, shapes], rest[joint, 1, shapes], rest[joint, 2, shapes]
    for s in range(shapes):
        x += rest[joint, 0, s] * hand[SHAPE + s]
        y += rest[joint, 1, s] * hand[SHAPE + s]
        z += rest[joint, 2, s] * hand[SHAPE + s]
    return x, y, z


@njit(**_INNER)
def _correct_tips(correctives: Array, bones: Array, places: Array, moves: Array) -> None:
    # pose correctives of the tips are linear in the finger joints' rotations less the identity
    for i in range(15):
        moves[i] = 0
    for feature in range(135):
        bone, r, c = 4 * (feature // 27) + feature % 27 // 9, feature % 9 // 3, feature % 3
        local = -1.0 if r == c else 0.0
        for k in range(3):
            local += bones[bone, k, r] * bones[bone + 1, k, c]
        for i in range(15):
            moves[i] += local * correctives[feature, i]
    for finger in range(5):
        for r in range(3):
            for c in range(3):
                places[4 * finger + 4, r] += bones[4 * finger + 3, r, c] * moves[3 * finger + c]


@njit(**_INNER)
def _pose(tables: Tables, hand: Array, work: Work) -> None:
    # bones, axes and joints of a hand, then its points; bone b carries joint b + 1
    bones, places, hinges = work.bones, work.places, tables.hinges
    places[0, 0], places[0, 1], places[0, 2] = _way(tables.rest, 0, hand)
    for bone in range(20):
        level, before = bone % 4, bone if bone % 4 else 0
        if level == 0:
            for i in range(9):
                bones[bone, i // 3, i % 3] = hand[TURN + i]
        x, y, z = _way(tables.rest, bone + 1, hand)
        for r in range(3):
            places[bone + 1, r] = (
                places[before, r] + bones[bone, r, 0] * x + bones[bone, r, 1] * y + bones[bone, r, 2] * z
            )
        if level < 3:
            first = 9 * (bone // 4) + 3 * level
            for i in range(9):
                bones[bone + 1, i // 3, i % 3] = bones[bone, i // 3, i % 3]
            for a in range(first + 2, first - 1, -1):
                x, y, z = hinges[a, 0], hinges[a, 1], hinges[a, 2]
                for r in range(3):
                    work.axes[a, r] = bones[bone + 1, r, 0] * x + bones[bone + 1, r, 1] * y + bones[bone + 1, r, 2] * z
                _turn(bones[bone + 1], x, y, z, hand[a])
    _correct_tips(tables.correctives, bones, places, work.moves)
    _place_points(tables.offsets, tables.bones, tables.weights, hand, work)


@njit(**_INNER)
def _place_points(offsets: Array, carriers: Array, weights: Array, hand: Array, work: Work) -> None:
    scale, bones = math.exp(hand[-1]), work.bones
    for p in range(len(offsets)):
        bone = carriers[p]
        for c in range(3):
            lever = 0.0
            for k in range(3):
                lever += bones[bone, c, k] * offsets[p, k]
            work.levers[p, c] = work.points[p, c] = lever
        for joint in range(21):
            if weights[p, joint] != 0:
                for c in range(3):
                    work.points[p, c] += weights[p, joint] * work.places[joint, c]
        for c in range(3):
            work.placed[p, c] = scale * work.points[p, c] + hand[PLACE + c]


# -- its slopes


@njit(**_INNER)
def _grow(rest: Array, bones: Array, growth: Array) -> None:
    # slopes of joints to shape
    shapes = growth.shape[2]
    for r in range(3):
        for s in range(shapes):
            growth[0, r, s] = rest[0, r, s]
    for bone in range(20):
        before = bone if bone % 4 else 0
        for r in range(3):
            x, y, z = bones[bone, r, 0], bones[bone, r, 1], bones[bone, r, 2]
            for s in range(shapes):
                way = x * rest[bone + 1, 0, s] + y * rest[bone + 1, 1, s] + z * rest[bone + 1, 2, s]
                growth[bone + 1, r, s] = growth[before, r, s] + way


@njit(**_INNER)
def _reach(carrier: int, weights: Array, p: int, places: Array, levers: Array, arms: Array) -> None:
    # from finger joints to point p, weighted by how much of the point they turn
    for i in range(15):
        for c in range(3):
            arms[i, c] = 0
    for joint in range(1, 21):
        finger, level = (joint - 1) // 4, (joint - 1) % 4
        if weights[p, joint] != 0:
            for i in range(level):
                for c in range(3):
                    arm = places[joint, c] - places[4 * finger + 1 + i, c]
                    arms[3 * finger + i, c] += weights[p, joint] * arm
    for i in range(carrier % 4):
        for c in range(3):
            arms[3 * (carrier // 4) + i, c] += levers[p, c]


@njit(**_INNER)
def _slopes(tables: Tables, p: int, scale: float, work: Work) -> None:
    # of point p in space: the columns of the angles that move it, and those that all points share
    rows, growth, arms, axes, points = work.rows, work.growth, work.arms, work.axes, work.points
    shapes = growth.shape[2]
    _reach(tables.bones[p], tables.weights, p, work.places, work.levers, arms)
    for c in range(3):
        u, v = (c + 1) % 3, (c + 2) % 3
        for a in range(tables.moved[p, 0], tables.moved[p, 1]):
            rows[c, a] = scale * (axes[a, u] * arms[a // 3, v] - axes[a, v] * arms[a // 3, u])
        rows[c, _ROTATION + c] = 0
        rows[c, _ROTATION + u] = scale * (points[p, v] - work.places[0, v])
        rows[c, _ROTATION + v] = -scale * (points[p, u] - work.places[0, u])
        for i in range(3):
            rows[c, _TRANSLATION + i] = i == c
        for s in range(shapes):
            rows[c, _SHAPE + s] = 0
        if rows.shape[1] > _SHAPE + shapes:
            rows[c, -1] = scale * points[p, c]
    for joint in range(21):
        weight = scale * tables.weights[p, joint]
        if weight != 0:
            for c in range(3):
                for s in range(shapes):
                    rows[c, _SHAPE + s] += weight * growth[joint, c, s]


# -- what it costs


@njit(**_INNER)
def _prior(beliefs: Array, limit: float, scale: float, hand: Array) -> float:
    total = hand[-1] ** 2 * scale
    for a in range(ANGLES):
        excess = hand[a] - min(max(hand[a], beliefs[a, 0]), beliefs[a, 1])
        total += (hand[a] - beliefs[a, 2]) ** 2 * beliefs[a, 3] + excess**2 * limit
    for s in range(SHAPE, len(hand) - 1):
        total += hand[s] ** 2
    return total


@njit(**_INNER)
def _misfit(target: Array, weight: Array, camera: Array, placed: Array, residuals: Array) -> float:
    # residuals in standard deviations, and the sum of their squares
    total, dimensions = 0.0, target.shape[1]
    for p in range(len(target)):
        depth = max(placed[p, 2], NEAREST)
        for d in range(dimensions):
            seen = placed[p, d]
            if dimensions == 2:
                seen = seen / depth * camera[d] + camera[2 + d]
            residuals[p, d] = (seen - target[p, d]) * weight[p]
            total += residuals[p, d] ** 2
    return total


@njit(**_INNER)
def _weigh(dimensions: int, weight: float, camera: Array, place: Array, first: int, stop: int, rows: Array) -> None:
    # slopes of a point in space, some columns, become those of its residuals
    if dimensions == 3:
        for d in range(3):
            for i in range(first, stop):
                rows[d, i] *= weight
        return
    depth = max(place[2], NEAREST)
    across, down = weight * camera[0] / depth, weight * camera[1] / depth
    x, y = -across * place[0] / depth, -down * place[1] / depth
    for i in range(first, stop):
        rows[0, i] = across * rows[0, i] + x * rows[2, i]
        rows[1, i] = down * rows[1, i] + y * rows[2, i]
        rows[2, i] = 0


# -- the step


@njit(**_INNER)
def _add_products(rows: Array, i: int, first: int, stop: int, normal: Array) -> None:
    # J^T J of one point: row i, some columns
    a, b, c = rows[0, i], rows[1, i], rows[2, i]
    for j in range(first, stop):
        normal[i, j] += a * rows[0, j] + b * rows[1, j] + c * rows[2, j]


@njit(**_INNER)
def _add_point(first: int, stop: int, rows: Array, residuals: Array, normal: Array, slope: Array) -> None:
    # J^T J, from the diagonal on, and J^T r of a point that angles first..stop-1 move
    last = len(slope)
    for i in range(first, stop):
        slope[i] += rows[0, i] * residuals[0] + rows[1, i] * residuals[1] + rows[2, i] * residuals[2]
        _add_products(rows, i, i, stop, normal)
        _add_products(rows, i, ANGLES, last, normal)
    for i in range(ANGLES, last):
        slope[i] += rows[0, i] * residuals[0] + rows[1, i] * residuals[1] + rows[2, i] * residuals[2]
        _add_products(rows, i, i, last, normal)


@njit(**_INNER)
def _begin_with_priors(beliefs: Array, limit: float, scale: float, hand: Array, normal: Array, slope: Array) -> None:
    for i in range(len(slope)):
        slope[i] = 0
        for j in range(i, len(slope)):
            normal[i, j] = 0
    for a in range(ANGLES):
        excess = hand[a] - min(max(hand[a], beliefs[a, 0]), beliefs[a, 1])
        normal[a, a] = beliefs[a, 3] + (limit if excess != 0 else 0.0)
        slope[a] = (hand[a] - beliefs[a, 2]) * beliefs[a, 3] + excess * limit
    shapes = len(hand) - 1 - SHAPE
    for s in range(shapes):
        normal[_SHAPE + s, _SHAPE + s] = 1
        slope[_SHAPE + s] = hand[SHAPE + s]
    if len(slope) > _SHAPE + shapes:
        normal[-1, -1] = scale
        slope[-1] = hand[-1] * scale


@njit(**_INNER)
def _linearise(tables: Tables, hand: Array, weight: Array, camera: Array, dimensions: int, work: Work) -> None:
    # the normal equations of the hand that was posed last
    rows, scale, last = work.rows, math.exp(hand[-1]), work.rows.shape[1]
    _begin_with_priors(tables.beliefs, tables.limit, tables.scale, hand, work.normal, work.slope)
    _grow(tables.rest, work.bones, work.growth)
    for p in range(len(weight)):
        if weight[p] > 0:
            first, stop, place = tables.moved[p, 0], tables.moved[p, 1], work.placed[p]
            _slopes(tables, p, scale, work)
            _weigh(dimensions, weight[p], camera, place, first, stop, rows)
            _weigh(dimensions, weight[p], camera, place, ANGLES, last, rows)
            _add_point(first, stop, rows, work.residuals[p], work.normal, work.slope)


@njit(**_INNER)
def _eliminate(factor: Array, k: int, i: int, first: int, stop: int) -> None:
    # row k from row i, some columns
    share = factor[k, i]
    for j in range(first, stop):
        factor[i, j] -= share * factor[k, j]


@njit(**_INNER)
def _solve(lasts: Array, damping: float, normal: Array, slope: Array, factor: Array, step: Array) -> None:
    # the step by Cholesky's factor U^T U of the damped normal equations; not a number where they have none
    size = len(step)
    for i in range(size):
        step[i] = -slope[i]
        for j in range(i, size):
            factor[i, j] = normal[i, j]
        factor[i, i] += damping * max(normal[i, i], LEAST_CURVATURE)
    for k in range(size):
        border, inverse = max(ANGLES, k + 1), 1 / math.sqrt(factor[k, k])
        factor[k, k] = inverse
        step[k] *= inverse
        for j in range(k + 1, size):
            factor[k, j] *= inverse
            step[j] -= factor[k, j] * step[k]
        for i in range(k + 1, lasts[k]):
            _eliminate(factor, k, i, i, lasts[k])
            _eliminate(factor, k, i, ANGLES, size)
        for i in range(border, size):
            _eliminate(factor, k, i, i, size)
    for k in range(size - 1, -1, -1):
        total = step[k]
        for j in range(k + 1, size):
            total -= factor[k, j] * step[j]
        step[k] = total * factor[k, k]


@njit(**_INNER)
def _move(hand: Array, step: Array, matrix: Array, proposal: Array) -> None:
    # a step from a hand, turns cut to a sensible length, shapes kept in their range
    largest, shapes = 1e-12, len(hand) - 1 - SHAPE
    for i in range(_TRANSLATION):
        largest = max(largest, abs(step[i]))
    share = min(1.0, LARGEST_TURN / largest)
    for a in range(ANGLES):
        proposal[a] = hand[a] + share * step[a]
    for i in range(9):  # transposed: the turn comes from the left
        matrix[i % 3, i // 3] = hand[TURN + i]
    x, y, z = share * step[_ROTATION], share * step[_ROTATION + 1], share * step[_ROTATION + 2]
    angle = max(math.sqrt(x * x + y * y + z * z), 1e-300)
    _turn(matrix, x / angle, y / angle, z / angle, -angle)
    for i in range(9):
        proposal[TURN + i] = matrix[i % 3, i // 3]
    for c in range(3):
        proposal[PLACE + c] = hand[PLACE + c] + share * step[_TRANSLATION + c]
    for s in range(shapes):
        proposal[SHAPE + s] = min(max(hand[SHAPE + s] + share * step[_SHAPE + s], -MAX_SHAPE), MAX_SHAPE)
    proposal[-1] = hand[-1] + (share * step[-1] if len(step) > _SHAPE + shapes else 0.0)


@njit(**_INNER)
def _cost(tables: Tables, hand: Array, target: Array, weight: Array, camera: Array, work: Work) -> float:
    _pose(tables, hand, work)
    prior = _prior(tables.beliefs, tables.limit, tables.scale, hand)
    return prior + _misfit(target, weight, camera, work.placed, work.residuals)


@njit(**_INNER)
def _minimise(
    tables: Tables, hand: Array, target: Array, weight: Array, camera: Array, steps: int, work: Work
) -> float:
    damping, better, proposal = FIRST_DAMPING, True, work.proposal
    cost = _cost(tables, hand, target, weight, camera, work)
    for _ in range(steps):
        if better:  # otherwise the hand is where it was
            _linearise(tables, hand, weight, camera, target.shape[1], work)
        _solve(tables.lasts, damping, work.normal, work.slope, work.factor, work.step)
        _move(hand, work.step, work.matrix, proposal)
        new = _cost(tables, proposal, target, weight, camera, work)
        better = new < cost
        settled = better and cost - new < CONVERGED * cost
        damping = max(damping / DAMPING_FACTOR if better else damping * DAMPING_FACTOR, LEAST_DAMPING)
        if better:
            cost = new
            for i in range(len(hand)):
                hand[i] = proposal[i]
        if settled or damping > GIVEN_UP:
            break
    return cost


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def minimise_kernel(
    start: int, stop: int, tables: Tables, hands: Array, labels: Labels, steps: int, work: Work, costs: Array
) -> None:
    """Move hands (B, M) to where they cost least, in at most so many steps, and write what they cost, (B,).

    See `fitting_reference.minimise`; `work` is memory of this thread.
    """
    for n in range(start, stop):
        target, weight, camera = labels.target[n], labels.weight[n], labels.camera[n]
        costs[n] = _minimise(tables, hands[n], target, weight, camera, steps, work)
