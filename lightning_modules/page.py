"""A page to look at: pictures with their overlays, hands to turn, step by step; one HTML file without network.

Letters: T steps (iterations of a refinement, or frames of a video), V vertices, F faces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np

from lightning_modules.hand_figure import hand_figure
from lightning_modules.html_document import picture_url, slot, write_document
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS

LONGEST, LONGEST_OF_MANY = 1280, 640  # pixels of an embedded picture's longer side, and of one among several


@dataclass(frozen=True, eq=False)
class PageEntry:
    """One input of a page."""

    name: str
    picture: np.ndarray  # (H, W, 3) uint8 RGB, or (T, H, W, 3): one for each step
    overlay: np.ndarray  # like `picture`, with what was predicted drawn over it
    joints: np.ndarray  # (21, 3) metres, camera frame, canonical order, or (T, 21, 3)
    vertices: np.ndarray | None = None  # (V, 3) metres, camera frame, or (T, V, 3); None: no mesh
    faces: np.ndarray | None = None  # (F, 3), with vertices
    colours: np.ndarray | None = None  # (V, 3) or (F, 3) uint8 RGB of the mesh, of its parts for instance
    facts: Mapping[str, str] = field(default_factory=dict)  # camera, method, what the distance rests on ...
    steps_name: Literal["iteration", "frame"] = "iteration"  # what a step is
    numbers: Sequence[int] = ()  # (T,) of the iterations or frames; none: from 0 on

    def __post_init__(self) -> None:
        check_choice("steps_name", self.steps_name, ("iteration", "frame"))
        shapes = {"picture": ("H", "W", 3), "joints": (len(CANONICAL_JOINTS), 3), "vertices": ("V", 3)}
        for name, shape in (shapes | {"overlay": shapes["picture"]}).items():
            if getattr(self, name) is not None:
                _check_shape(f"{name} of '{self.name}'", getattr(self, name), shape)
        for name in ("picture", "overlay"):
            if getattr(self, name).dtype != np.uint8:
                raise TypeError(f"{name} of '{self.name}': expected uint8, got {getattr(self, name).dtype}")
        if self.overlay.shape[-3:] != self.picture.shape[-3:]:
            raise ValueError(
                f"overlay of '{self.name}': expected the picture's size {self.picture.shape[-3:]}, got "
                f"{self.overlay.shape[-3:]}; draw it on a copy of the picture"
            )
        if (self.faces is None) != (self.vertices is None):
            raise ValueError(f"faces of '{self.name}': expected with vertices, and only with these; give both or none")
        sizes = [] if self.vertices is None else [self.vertices.shape[-2], len(self.faces)]
        if self.colours is not None and len(self.colours) not in sizes:
            raise ValueError(
                f"colours of '{self.name}': expected as many as vertices or faces ({sizes}), got {len(self.colours)}"
            )
        if len(counts := {len(values) for values in self.by_step().values()} - {1}) > 1:
            raise ValueError(f"steps of '{self.name}': expected one number throughout, got {sorted(counts)}")
        if self.numbers and len(self.numbers) != self.steps:
            raise ValueError(
                f"numbers of '{self.name}': expected one of each of {self.steps} steps, got {self.numbers}"
            )

    def by_step(self) -> dict[str, np.ndarray]:
        """What may have steps, with a leading axis of T, or of 1 where all steps share it."""
        values = {name: getattr(self, name) for name in ("picture", "overlay", "joints", "vertices")}
        ndims = {"picture": 4, "overlay": 4}
        return {
            name: value if value.ndim == ndims.get(name, 3) else value[None]
            for name, value in values.items()
            if value is not None
        }

    @property
    def steps(self) -> int:
        """T, at least 1."""
        return max(map(len, self.by_step().values()))

    @property
    def step_numbers(self) -> list[int]:
        """The number of each step."""
        return list(self.numbers or range(self.steps))


def write_page(path: Path, entries: Sequence[PageEntry], title: str) -> None:
    """Write the page of `entries`, in their order, side by side where the window is wide.

    Args:
        path: the HTML file; replaced where it exists.
        entries: at least one.
        title: above them.
    """
    if not entries:
        raise ValueError("entries: expected at least one to show, got none")
    cards = "\n".join(_card(i, entry) for i, entry in enumerate(entries))
    body = f'<header><h1>{escape(title)}</h1></header>\n<main class="cards">\n{cards}\n</main>'
    write_document(path, title, body, [_figure(entry) for entry in entries])


def _figure(entry: PageEntry) -> dict:
    """The hand's figure, with the pictures of every step where these differ."""
    values = entry.by_step()
    figure = hand_figure(values["joints"], values.get("vertices"), entry.faces, entry.colours)
    figure["layers"] = {
        kind: [picture_url(picture, LONGEST_OF_MANY) for picture in values[kind]]
        for kind in ("picture", "overlay")
        if len(values[kind]) > 1
    }
    figure["steps"] *= entry.steps if len(figure["steps"]) == 1 else 1  # pictures alone may change
    figure["numbers"] = entry.step_numbers
    return figure


def _card(number: int, entry: PageEntry) -> str:
    height, width = entry.picture.shape[-3:-1]
    layers = "".join(
        f'<img class="{kind}" alt="{kind} of {escape(entry.name)}" width="{width}" height="{height}" '
        f'src="{picture_url(entry.by_step()[kind][-1], LONGEST)}">'
        for kind in ("picture", "overlay")
    )
    facts = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in entry.facts.items())
    return f"""<article class="card">
<h2>{escape(entry.name)}</h2>
<div class="views">
<div class="stack">{layers}</div>
{slot(number, f"hand of {entry.name} in 3D")}
</div>
<div class="controls">
<label><input type="checkbox" class="show-overlay" checked>overlay</label>
{_mesh_choice(number, entry)}{_slider(entry)}
</div>
<dl class="facts">{facts}</dl>
</article>"""


def _mesh_choice(number: int, entry: PageEntry) -> str:
    if entry.vertices is None:
        return ""
    choices = "".join(
        f'<label><input type="radio" name="shown-{number}" value="{value}"{" checked" * (value == "mesh")}>{value}'
        "</label>"
        for value in ("mesh", "both", "joints")
    )
    return f'<span class="choice" role="radiogroup" aria-label="shown in 3D">{choices}</span>'


def _slider(entry: PageEntry) -> str:
    if (last := entry.steps - 1) == 0:
        return ""
    return (
        f'<label class="steps">{entry.steps_name}<input type="range" min="0" max="{last}" value="{last}">'
        f"<output>{entry.step_numbers[-1]} of {entry.step_numbers[-1]}</output></label>"
    )


def _check_shape(name: str, values: np.ndarray, shape: tuple[int | str, ...]) -> None:
    """Raise unless `values` are finite and of `shape`, or have steps before it; a letter stands for any size."""
    tail = values.shape[values.ndim - len(shape) :]
    if values.ndim - len(shape) not in (0, 1) or any(
        isinstance(want, int) and got != want for got, want in zip(tail, shape, strict=True)
    ):
        raise ValueError(f"{name}: expected {shape}, or steps of it, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinite ones; leave the hand out")
