"""docs/conventions.png: joints by number and name, parts, and how camera and pixels are counted, on the open hand.

python -m benchmarks.draw_conventions [--out docs/conventions.png]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ops.camera import PinholeCamera, intrinsics, project
from ops.drawing import part_colours
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.skin import skin_albedo
from ops.joints import BONES, CANONICAL_JOINTS, PART_NAMES
from ops.render import Light, Surface, face_parts, render

SIZE, FOCAL, DISTANCE = 900, 1500.0, 0.42  # pixels, pixels, metres
SKIN = 3  # of the ten tones


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The open hand, palm towards the camera: colours (S, S, 3), part labels (S, S), joints (21, 2) in pixels."""
    model = open_hand()
    vertices, joints = upright(model)
    K = intrinsics(FOCAL, FOCAL, (SIZE - 1) / 2, (SIZE - 1) / 2)[None]
    faces = torch.from_numpy(model.faces)
    drawn = render(
        vertices[None],
        faces,
        PinholeCamera(K),
        SIZE,
        ("rgb", "parts"),
        part_of_face=face_parts(torch.from_numpy(model.part_labels), faces),
        surface=Surface(colours=skin_albedo(model, SKIN)),
        light=Light(torch.tensor([-0.4, -0.6, -1.0])),
        background=torch.ones(3),
    )
    rgb = drawn["rgb"][0].permute(1, 2, 0).clamp(0, 1).numpy()
    return rgb, drawn["parts"][0].numpy(), project(joints[None], K)[0].numpy()


def upright(model) -> tuple[Tensor, Tensor]:  # noqa: ANN001 - a HandModel
    """Vertices (V, 3) and joints (21, 3), metres, camera frame: fingers up, palm towards the camera."""
    layer = HandLayer(model)
    flat = layer(torch.zeros(1, 45), torch.zeros(1, 10))
    joints = flat.joints[0]
    wrist, middle, index, little = (
        joints[CANONICAL_JOINTS.index(f"{f}_mcp") if f else 0] for f in ("", "middle", "index", "little")
    )
    up = torch.nn.functional.normalize(middle - wrist, dim=0)
    across = index - little
    across = torch.nn.functional.normalize(across - (across @ up) * up, dim=0)
    # camera: x right, y down; the palm of a right hand has the thumb, hence the index finger, on the picture's right
    turn = torch.stack([across, -up, torch.linalg.cross(across, -up)])
    place = torch.tensor([0.0, 0.0, DISTANCE])
    centre = flat.vertices[0].mean(0)
    return (flat.vertices[0] - centre) @ turn.T + place, (joints - centre) @ turn.T + place


def draw(path: Path) -> None:
    """Three panels in one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rgb, parts, joints = pictures()
    figure, (named, labelled, camera) = pyplot.subplots(1, 3, figsize=(17, 6.2), dpi=100, layout="constrained")
    _joints(named, rgb, joints)
    _parts(labelled, parts)
    _camera(camera)
    figure.savefig(path)
    pyplot.close(figure)


def _joints(axes, rgb: np.ndarray, joints: np.ndarray) -> None:  # noqa: ANN001 - matplotlib's
    axes.imshow(rgb)
    for parent, child in BONES:
        axes.plot(*joints[[parent, child]].T, color="black", linewidth=1.5)
    axes.scatter(*joints.T, s=26, color="black", zorder=3)
    for number, (u, v) in enumerate(joints):
        axes.annotate(
            f"{number} {CANONICAL_JOINTS[number].replace('_', ' ')}",
            (u, v),
            (7, -3),
            textcoords="offset points",
            fontsize=8.5,
        )
    axes.set_title("21 joints in canonical order (right hand, palm side)", fontsize=11)
    axes.axis("off")


def _parts(axes, parts: np.ndarray) -> None:  # noqa: ANN001 - matplotlib's
    colours = part_colours()[..., ::-1].copy()
    colours[0] = 255
    axes.imshow(colours[parts])
    for label, name in enumerate(PART_NAMES, start=1):
        v, u = np.nonzero(parts == label)
        if len(u):
            axes.annotate(f"{label} {name.replace('_', ' ')}", (u.mean(), v.mean()), ha="center", fontsize=7.5)
    axes.set_title("labels of parts: 0 background, 1 palm, 2-20 fingers, 255 unlabelled", fontsize=11)
    axes.axis("off")


def _camera(axes) -> None:  # noqa: ANN001 - matplotlib's
    for u in range(-1, 4):
        axes.plot([u + 0.5, u + 0.5], [-0.5, 3.5], color="grey", linewidth=0.8)
        axes.plot([-0.5, 3.5], [u + 0.5, u + 0.5], color="grey", linewidth=0.8)
    for u, v in ((0, 0), (1, 0), (0, 1), (3, 2)):
        axes.scatter(u, v, color="black", s=22)
        axes.annotate(f"({u}, {v})", (u, v), (4, 5), textcoords="offset points", fontsize=8)
    arrow = {"arrowstyle": "->", "linewidth": 1.6}
    for words, tip, tail in (("u, x right", (4.3, -0.5), (-0.5, -0.5)), ("v, y down", (-0.5, 4.3), (-0.5, -0.5))):
        axes.annotate("", tip, tail, arrowprops=arrow)
        axes.annotate(words, tip, (6, 2), textcoords="offset points", fontsize=10)
    axes.annotate("z forward, into the picture", (1.0, 4.2), fontsize=10)
    axes.annotate(
        "whole numbers are pixel centres; the corner of the picture is (-0.5, -0.5)", (-0.5, -1.1), fontsize=9
    )
    axes.set(xlim=(-1.2, 6), ylim=(4.8, -1.6), aspect="equal")
    axes.set_title("camera (OpenCV's) and pixels; metres", fontsize=11)
    axes.axis("off")


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/conventions.png"))
    draw(parser.parse_args().out)


if __name__ == "__main__":
    main()
