"""A hand in 3D as a plotly figure: mesh in its colours, bones and named joints, step by step.

Letters: T steps, V vertices, F faces, N points.
"""

import numpy as np

from lightning_modules.html_document import array
from ops.drawing import FINGER_COLOURS
from ops.joints import CANONICAL_JOINTS, FINGERS

SKIN = (214, 178, 156)  # RGB of a mesh without colours
MARGIN = 1.1  # of the cube that the hand is turned in, beyond the hand
# each finger from the wrist on; NO_JOINT: a gap between two
NO_JOINT = -1
_LINES = [joint for i in range(len(FINGERS)) for joint in (0, *range(4 * i + 1, 4 * i + 5), NO_JOINT)]
_NAMES = np.array([name.replace("_", " ") for name in CANONICAL_JOINTS])
_HOVER = "<b>%{text}</b><br>x %{customdata[0]:.0f}, y %{customdata[1]:.0f}, z %{customdata[2]:.0f} mm<extra></extra>"
# plotly's own epsilons drop the normals of triangles as small as ours
_LIGHT = {
    "ambient": 0.5, "diffuse": 0.72, "specular": 0.12, "roughness": 0.5, "fresnel": 0.1,
    "facenormalsepsilon": 0, "vertexnormalsepsilon": 0,
}  # fmt: skip

_LAMP = {"x": -10, "y": 15, "z": 0}  # over the viewer's left shoulder: plotly means clip coordinates, whatever it says


def hand_figure(
    joints: np.ndarray, vertices: np.ndarray | None, faces: np.ndarray | None, colours: np.ndarray | None
) -> dict:
    """The figure, seen at first as the camera saw the hand; `steps` holds what changes from one step to the next.

    Traces are bones, joints and, where there are vertices, the mesh. The joint nearest to a vertex gives its name to
    the surface, too: joints lie inside.

    Args:
        joints: (T, 21, 3) metres, camera frame, canonical order; T may be 1 here and more below, or the reverse.
        vertices: (T, V, 3) metres, camera frame, or None.
        faces: (F, 3), with vertices.
        colours: (V, 3) or (F, 3) uint8 RGB; None: skin.
    """
    points, traces = [1000 * joints], [_bones(), _joints()]
    if vertices is not None:
        nearest = np.linalg.norm(vertices[-1][:, None] - joints[-1], axis=-1).argmin(1)
        traces.append(_mesh(faces, colours, vertices.shape[1], nearest))
        points.append(1000 * vertices)
    steps = max(map(len, points))
    points = [np.broadcast_to(each, (steps, *each.shape[1:])) for each in points]
    low, high = np.min([each.min((0, 1)) for each in points], 0), np.max([each.max((0, 1)) for each in points], 0)
    return {
        "data": traces,
        "layout": _layout((high - low).max()),
        "steps": [_places((low + high) / 2, *(each[step] for each in points)) for step in range(steps)],
    }


def _places(middle: np.ndarray, joints: np.ndarray, *mesh: np.ndarray) -> list[dict]:
    """Coordinates of the traces in one step, of joints (21, 3), and of vertices (V, 3) if given; millimetres.

    They stand around `middle` (3,): plotly's light falls as it should near the origin alone. What is said of a joint
    is where it is.
    """
    gapped = np.concatenate([joints, np.full((1, 3), np.nan)])
    moved = [_coordinates(gapped[_LINES] - middle), _coordinates(joints - middle) | {"customdata": array(joints)}]
    return moved + [_coordinates(vertices - middle) for vertices in mesh]


def _coordinates(points: np.ndarray) -> dict:
    """Camera axes (x right, y down, z forward) as plotly's, where z points up and y away from the viewer."""
    x, y, z = points.T
    return {"x": array(x), "y": array(z), "z": array(-y)}


def _bones() -> dict:
    colours = [_css(FINGER_COLOURS[place // 6][::-1]) for place in range(len(_LINES))]
    return {
        "type": "scatter3d", "mode": "lines", "name": "bones", "hoverinfo": "skip",
        "line": {"width": 6, "color": colours},
    }  # fmt: skip


def _joints() -> dict:
    colours = ["rgb(150,150,150)"] + [_css(FINGER_COLOURS[joint // 4][::-1]) for joint in range(20)]
    return {
        "type": "scatter3d", "mode": "markers", "name": "joints", "text": _NAMES.tolist(), "hovertemplate": _HOVER,
        "marker": {"size": 5, "color": colours, "line": {"width": 1, "color": "#fff"}},
    }  # fmt: skip


def _mesh(faces: np.ndarray, colours: np.ndarray | None, vertices: int, nearest: np.ndarray) -> dict:
    i, j, k = faces.T
    if colours is None:
        painted = {"color": _css(SKIN)}
    else:
        painted = {"vertexcolor" if len(colours) == vertices else "facecolor": [_css(colour) for colour in colours]}
    return {
        "type": "mesh3d", "name": "mesh", "i": array(i), "j": array(j), "k": array(k), **painted,
        "text": _NAMES[nearest].tolist(), "hovertemplate": "<b>%{text}</b><extra></extra>",
        "lighting": _LIGHT, "lightposition": _LAMP,
    }  # fmt: skip


def _layout(extent: float) -> dict:
    """A cube around hands of that extent, millimetres, seen from where the camera stands."""
    half = float(MARGIN * extent / 2)
    axis = {"visible": False, "showspikes": False, "range": [-half, half]}
    camera = {"eye": {"x": 0, "y": -1.3, "z": 0}, "up": {"x": 0, "y": 0, "z": 1}}
    axes = dict.fromkeys(("xaxis", "yaxis", "zaxis"), axis)
    scene = {"aspectmode": "cube", "dragmode": "turntable", "camera": camera, **axes}
    return {"scene": scene, "margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "showlegend": False, "uirevision": "kept"}


def _css(colour: np.ndarray | tuple[int, int, int]) -> str:
    return "rgb({},{},{})".format(*map(int, colour))
