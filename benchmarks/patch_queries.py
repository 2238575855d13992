"""What the benchmark of patch restoration looks up, and the paper's way of looking up, beside which it measures."""

import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from datamodules.domains import DOMAINS
from datamodules.hand_sampler import HandSampler
from datamodules.patch_dictionary import MAP_SIZE
from datamodules.rendering import HandRenderer
from ops.hand_model import open_hand
from ops.patch_restoration import LABELS, PatchDictionary, PatchIndex
from ops.patch_restoration.cells import CELL, SPAN
from ops.patch_restoration.reference import patches_at

BLOBS, SALT, WARP = 4, 0.02, 0.6  # discs of a wrong part, share of wrong pixels, pixels by which parts are shifted
TREES, CHECKS, TOP = 4, 512, 50  # of FLANN's KD-trees; patches that are compared exactly afterwards


def held_out_maps(maps: int, crop_size: int) -> np.ndarray:
    """Part maps (maps, 48, 48) of the clean domain's test split: no hand of the dictionary's."""
    model = open_hand()
    parameters = HandSampler(DOMAINS["clean"], model).sample(0, "test", 0, np.arange(2 * maps))
    edge = (crop_size - MAP_SIZE) // 2
    drawn = HandRenderer(model, crop_size, ("parts",))(parameters)["parts"].numpy()
    drawn = drawn[:, edge : edge + MAP_SIZE, edge : edge + MAP_SIZE]
    return drawn[drawn.any((1, 2))][:maps].copy()


def with_errors(maps: np.ndarray, seed: int = 0) -> np.ndarray:
    """Maps as a segmentation errs: borders between parts shift smoothly, discs and single pixels take a wrong part.

    Which pixels are foreground stays: a depth picture shows it.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: maps.shape[1], : maps.shape[2]].astype(np.float32)
    made = []
    for clean in maps:
        shifts = [cv2.GaussianBlur(rng.normal(size=clean.shape).astype(np.float32), (0, 0), 4) for _ in "xy"]
        along, down = (shift * (WARP / shift.std()) for shift in shifts)
        noisy = cv2.remap(clean, x + along, y + down, cv2.INTER_NEAREST)
        foreground = np.argwhere(clean > 0)
        for _ in range(BLOBS):
            centre, radius = foreground[rng.integers(len(foreground))], rng.uniform(1.5, 5)
            noisy[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = rng.integers(1, len(LABELS))
        salt = rng.random(noisy.shape) < SALT
        noisy[salt] = rng.integers(1, len(LABELS), salt.sum())
        made.append(np.where(clean == 0, 0, np.where(noisy == 0, clean, noisy)))
    return np.stack(made).astype(np.uint8)


class KdTrees:
    """FLANN's randomised KD-trees (OpenCV's copy) over the index's 64 components of every patch, the paper's way."""

    def __init__(self, dictionary: PatchDictionary, index: PatchIndex) -> None:
        self.maps, self.index = torch.from_numpy(dictionary.maps), index
        self.places = self.maps.nonzero()
        start = time.process_time()
        self.codes = np.concatenate([self._codes(self.maps, places) for places in self.places.split(100_000)])
        self.trees = cv2.flann.Index(self.codes, {"algorithm": 1, "trees": TREES})
        self.build_s = time.process_time() - start

    def _codes(self, maps: torch.Tensor, places: torch.Tensor) -> np.ndarray:
        reach = SPAN // 2 * CELL
        padded = F.pad(maps, (reach,) * 4)
        steps = torch.arange(SPAN) * CELL
        rows, columns = places[:, 1, None, None] + steps[:, None], places[:, 2, None, None] + steps
        samples = padded[places[:, 0, None, None], rows, columns].flatten(1).long()
        samples += torch.arange(SPAN * SPAN) * len(LABELS)
        codes = F.embedding_bag(samples, torch.from_numpy(self.index.projection), mode="sum")
        return codes.numpy() + self.index.offset

    def distances(self, query: np.ndarray) -> np.ndarray:
        """Hamming distance of the best of the TOP patches found, for each foreground pixel in order."""
        maps = torch.from_numpy(query)[None]
        places = maps.nonzero()
        found, _ = self.trees.knnSearch(self._codes(maps, places), TOP, params={"checks": CHECKS})
        entries = patches_at(self.maps, self.places[torch.from_numpy(found).long().flatten()])
        own = patches_at(maps, places)
        return (entries.view(len(own), -1, own.shape[1]) != own[:, None]).sum(-1).min(1).values.numpy()
