"""The floor of DeepHPS: how well its 26 + 6 + 7 parameters describe hands of the general layer, no picture involved.

    python -m benchmarks.deephps_floor [--hands 128] [--save]

Rendered hands have 45 pose and 10 shape parameters; HPSL's fewer cannot follow them exactly. Levenberg-Marquardt fits
HPSL to joints and vertices of the clean domain's test hands; what is left is an error no training can remove.
"""

import argparse

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.report import emit
from datamodules.rendered import RenderedHandsData
from lightning_modules.metrics import ALIGNMENTS, PointError
from ops.hand_model import open_hand
from ops.hand_model.layer import HandOutput
from ops.hand_model.pose_shape_layer import (
    ARTICULATION,
    POSE_SIZE,
    ROTATION,
    SCALE_SIZE,
    SHAPE_SIZE,
    TRANSLATION,
    HandPoseShapeLayer,
    articulation_limits,
)
from ops.rotation import axis_angle_to_matrix

SIZES = [POSE_SIZE, SCALE_SIZE, SHAPE_SIZE]
_LARGEST_STEP = 1.0  # of any parameter
_PALM = [0, 5, 9, 13, 17]  # wrist and knuckles hardly move against one another: they show the hand's rotation


class HandFit:
    """Levenberg-Marquardt of HPSL's parameters to meshes and joints of B hands, all at once.

    Args:
        layer: HPSL with backend "torch" (forward-mode derivatives pass through it).
        vertices: (B, V, 3) metres.
        joints: (B, 21, 3) metres.
    """

    def __init__(self, layer: HandPoseShapeLayer, vertices: Tensor, joints: Tensor) -> None:
        self.layer, self.vertices, self.joints = layer, vertices, joints
        reference = torch.cat([joints.new_zeros(len(joints), POSE_SIZE), joints.new_ones(len(joints), SCALE_SIZE)], 1)
        self.parameters = torch.cat([reference, joints.new_zeros(len(joints), SHAPE_SIZE)], 1)
        self.rotation = _palm_rotation(layer, joints)
        self.parameters[:, TRANSLATION] = joints[:, 0]
        low, high = articulation_limits(layer.model)
        self.parameters[:, ARTICULATION] = ((low + high) / 2).to(joints.dtype)  # half bent: no finger is far off

    def hands(self, parameters: Tensor) -> HandOutput:
        """HPSL of (B, 39); the rotation's three numbers turn the rotation found from the palm."""
        pose, scales, shape = parameters.split(SIZES, 1)
        return self.layer(pose, scales, shape, axis_angle_to_matrix(pose[:, ROTATION]) @ self.rotation)

    def run(self, steps: int = 30) -> HandOutput:
        """Best hands after at most `steps` steps."""
        damping = self.joints.new_full((len(self.joints),), 1e-2)
        residual = self._residual(self.parameters)
        for _ in range(steps):
            normal, slope = self._normal_equations(residual)
            scale = normal.diagonal(dim1=1, dim2=2).clamp_min(1e-6)
            step = torch.linalg.solve(normal + torch.diag_embed(damping[:, None] * scale), -slope)
            # without a bound an angle runs round the circle, or into another finger's minimum
            step = step * (_LARGEST_STEP / step.abs().amax(1, keepdim=True)).clamp(max=1)
            proposal = self.parameters + step
            new_residual = self._residual(proposal)
            better = new_residual.square().sum(1) < residual.square().sum(1)
            self.parameters = torch.where(better[:, None], proposal, self.parameters)
            residual = torch.where(better[:, None], new_residual, residual)
            damping = torch.where(better, damping / 5, damping * 5).clamp(1e-7, 1e7)
        return self.hands(self.parameters)

    def _residual(self, parameters: Tensor) -> Tensor:
        """(B, 3 V + 63) millimetres; the mean joint weighs as much as the mean vertex."""
        hands = self.hands(parameters)
        vertices = (hands.vertices - self.vertices).flatten(1) / self.vertices.shape[1] ** 0.5
        joints = (hands.joints - self.joints).flatten(1) / self.joints.shape[1] ** 0.5
        return 1000 * torch.cat([vertices, joints], 1)

    def _normal_equations(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        def column(direction: Tensor) -> Tensor:
            tangent = direction.expand_as(self.parameters)
            return torch.func.jvp(self._residual, (self.parameters,), (tangent,))[1]

        directions = torch.eye(self.parameters.shape[1], dtype=residual.dtype)
        jacobian = torch.func.vmap(column)(directions).permute(1, 2, 0)  # (B, R, 39)
        return jacobian.transpose(1, 2) @ jacobian, (jacobian.transpose(1, 2) @ residual[..., None]).squeeze(-1)


def _palm_rotation(layer: HandPoseShapeLayer, joints: Tensor) -> Tensor:
    """(B, 3, 3) rotation of the reference hand's palm onto that of `joints` (Kabsch 1976)."""
    rest = layer.joint_template.view(16, 3)[[0, 1, 4, 10, 7]]  # model order of the same five joints
    source, target = rest - rest[:1], joints[:, _PALM] - joints[:, :1]
    u, _, vt = torch.linalg.svd(target.transpose(1, 2) @ source)
    signs = torch.ones_like(u[:, 0])
    signs[:, 2] = torch.linalg.det(u @ vt).sign()
    return (u * signs[:, None]) @ vt


def measure(hands: int, batch_size: int = 32) -> dict[str, float]:
    """Mean errors, mm, of the best fits to `hands` test hands of the clean domain."""
    data = RenderedHandsData("clean", batch_size, test_size=hands, num_workers=0, modalities=["depth"])
    layer = HandPoseShapeLayer(open_hand(), backend="torch")
    metrics = {(what, how): PointError(how) for what in ("joints", "vertices") for how in ALIGNMENTS}
    for batch in data.test_dataloader():
        vertices, joints = batch["vertices"], batch["joints_3d"]
        fitted = HandFit(layer, vertices, joints).run()
        for (what, _), metric in metrics.items():
            predicted, target = (fitted.joints, joints) if what == "joints" else (fitted.vertices, vertices)
            valid = torch.ones_like(target[..., 0], dtype=torch.bool)
            metric.update(predicted, target, valid, (fitted.joints[:, 0], joints[:, 0], valid[:, 0]))
    return {f"floor_{what}_{how}_mm": round(metric.compute().item(), 3) for (what, how), metric in metrics.items()}


def main() -> None:
    """Fit, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hands", type=int, default=128, help="test hands of the clean domain")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/deephps_floor.json")
    arguments = parser.parse_args()
    figures = measure(arguments.hands)
    table = Table("best fit of 26 + 6 + 7 parameters, mm", *ALIGNMENTS, title=f"{arguments.hands} rendered hands")
    for what in ("joints", "vertices"):
        table.add_row(what, *(f"{figures[f'floor_{what}_{how}_mm']:.2f}" for how in ALIGNMENTS))
    emit("deephps_floor", figures, table, arguments.save)


if __name__ == "__main__":
    main()
