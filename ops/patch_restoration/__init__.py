"""Patch-wise restoration of part maps from a dictionary of rendered ones.

Neverova, Wolf, Nebout, Taylor: Hand pose estimation through semi-supervised and weakly-supervised learning, CVIU 2017,
section 4.2: a predicted map is noisy where a rendered one has structure, so each pixel's 27x27 patch is replaced by the
rendered patch nearest in Hamming distance of its labels (equation 1), and patches that overlap vote (equation 2).

Distance is over all 21 labels, background among them: codes of the 20 parts alone would count part against background
half. Patches are those around foreground pixels; what lies outside a map is background.

The fast searches rank pairs of a dictionary map and a displacement and search the best pairs exactly, for all pixels of
the query at once: neighbouring pixels mostly find their patches in the same pair, and box sums of equal labels give the
distances of all of them. `numba_ranking` (no index) or FAISS rank, `numba_refine` searches.
"""

from ops.patch_restoration.api import BACKENDS, INTEGRATIONS, WINDOW, Restored, restore
from ops.patch_restoration.dictionary import LABELS, PATCH_SIZE, PatchDictionary
from ops.patch_restoration.faiss_index import PatchIndex, index_path

__all__ = [
    "BACKENDS",
    "INTEGRATIONS",
    "LABELS",
    "PATCH_SIZE",
    "WINDOW",
    "PatchDictionary",
    "PatchIndex",
    "Restored",
    "index_path",
    "restore",
]
