"""Fingerprints of the rendered domains' test splits: a change of hands, poses, views, noise, renderer or labels shows.

python -m datamodules.fingerprint writes them to `fingerprints.json`; a result on a test split is stored with its own.
"""

import hashlib
import json
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from datamodules.domains import DOMAINS, Domain
from datamodules.hand_sampler import HandSampler
from datamodules.rendering import HandRenderer
from ops.hand_model import open_hand
from ops.hand_model.conventions import joint_convention

FILE = Path(__file__).parent / "fingerprints.json"
_PICTURES = 256  # frames that are rendered
_STEP = 1e-3  # parameters are compared in steps of this: mathematical libraries differ in the last bits


class Fingerprint(TypedDict):
    """Of one domain's test split."""

    parameters: str  # hash of the hand model and of all frames' parameters
    convention: str  # name and hash of the default convention, in which the joints are labelled
    pictures: list[float]  # mean pixels per frame of each of the 20 parts, then mean depth on the hand in metres


def fingerprint(domain: Domain) -> Fingerprint:
    """Fingerprint of a domain's test split; pictures are alike to a thousandth, parameters exactly."""
    model = open_hand()
    sampler = HandSampler(domain, model)
    parameters = sampler.sample(0, "test", 0, np.arange(domain.test.frames))
    digest = hashlib.sha256(f"{domain.label} {model.id}".encode())
    for name, value in parameters._asdict().items():
        if name == "photo":  # a fact of the domain, not of the hands
            continue
        for part in value if isinstance(value, tuple) else (value,):
            steps = torch.round(part.double() / _STEP).long()
            digest.update(name.encode() + steps.numpy().astype("<i8").tobytes())
    renderer = HandRenderer(model)
    batch = renderer(sampler.sample(0, "test", 0, np.arange(_PICTURES)))
    parts, depth = batch["parts"], batch["depth"]
    pictures = torch.bincount(parts.flatten().long(), minlength=21)[1:].double() / _PICTURES
    mean_depth = depth[depth > 0].double().mean()
    return Fingerprint(
        parameters=digest.hexdigest()[:16],
        convention=joint_convention(renderer.convention).id,
        pictures=[round(float(x), 4) for x in (*pictures, mean_depth)],
    )


def stored_fingerprints() -> dict[str, Fingerprint]:
    """Those of the repository, by `name/version`."""
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    FILE.write_text(json.dumps({domain.label: fingerprint(domain) for domain in DOMAINS.values()}, indent=1) + "\n")
    print(f"written: {FILE}")
