"""How far a prediction can be trusted, in [0, 1], by what the picture itself says; no labels.

- Depth, of a method with a mesh: pixels where the rendered mesh and the seen surface agree to 15 mm, over pixels of
  either. Of a method with joints alone: joints that lie on or behind the seen surface, no deeper than a hand is thick,
  over all joints.
- Colours: what the method says itself (DHPE: mean height of its heat maps' peaks; 1 where it learnt a peak), else of a
  method that decodes the picture from its latent hand (VAE), the share of the picture's variance that comes back.

Below `LEAST` there is probably no hand, or not where it was looked for. Letters: B batch, S picture's side.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.latent_space import reject_scores
from lightning_modules.prediction import HandPrediction
from ops.camera import project
from ops.hand_model import open_hand
from ops.render.labels import face_parts, render_labels

SURFACE = 0.015  # metres between surfaces that count as one
BEFORE, BEHIND = 0.01, 0.08  # metres before and behind the seen surface where a joint may lie
LEAST = {"depth": 0.35, "joints in depth": 0.5, "heat maps": 0.3, "latent": 0.3}


def confidence_of(
    method: LightningModule, prediction: HandPrediction, batch: HandBatch, seen: HandBatch
) -> tuple[Tensor | None, str]:
    """Confidences (B,), and the rule by which they were found, a key of `LEAST`; None: the method allows no rule.

    Args:
        method: that predicted.
        prediction: absolute, as pictured.
        batch: what the method saw, left hands mirrored.
        seen: the same crops as pictured.
    """
    if "depth" in seen:
        return depth_agreement(prediction, seen), "joints in depth" if prediction.vertices is None else "depth"
    if prediction.confidence is not None:
        return prediction.confidence, "heat maps"
    if "rgb" in getattr(method, "decoders", {}) and "rgb" in getattr(method, "encoders", {}):
        return (1 - reject_scores(method, batch, "rgb")["relative"]).clamp(0, 1), "latent"
    return None, ""


def depth_agreement(prediction: HandPrediction, seen: HandBatch) -> Tensor:
    """Agreement (B,) of predicted hands with the depth pictures (B, 1, S, S) that they were made of.

    Args:
        prediction: absolute, as pictured.
        seen: crops as pictured, without what is not the hand's.
    """
    depth = seen["depth"]
    if prediction.vertices is None:
        return _joints_on_surface(prediction.joints_3d, depth, seen["K"])
    model = open_hand()
    faces = torch.from_numpy(model.faces)
    parts = face_parts(torch.from_numpy(model.part_labels), faces)
    size = tuple(depth.shape[-2:])
    rendered, _ = render_labels(prediction.vertices.float().contiguous(), faces, seen["K"].contiguous(), size, parts)
    agree = (rendered > 0) & (depth > 0) & ((rendered - depth).abs() < SURFACE)
    either = (rendered > 0) | (depth > 0)
    return agree.flatten(1).sum(1) / either.flatten(1).sum(1).clamp_min(1)


def _joints_on_surface(joints: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    size = depth.shape[-1]
    pixels = project(joints, K)
    # the nearest surface within two pixels: fingertips and the wrist lie at outlines
    nearest = -F.max_pool2d(torch.where(depth > 0, -depth, -torch.inf), 5, 1, padding=2)
    grid = (pixels + 0.5) * (2 / size) - 1
    there = F.grid_sample(
        torch.where(nearest.isfinite(), nearest, 0), grid[:, None], "nearest", "zeros", align_corners=False
    )[:, 0, 0]
    behind = joints[..., 2] - there
    return ((there > 0) & (behind > -BEFORE) & (behind < BEHIND)).float().mean(1)
