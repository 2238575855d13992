"""What predict.py does between reading and the end: methods by what pictures show, predictions, results, the report."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from lightning_modules import weights
from lightning_modules.dhpe_pictures import shown_steps, write_refinement
from lightning_modules.frame_prediction import (
    SIDES,
    Hand,
    Sight,
    predict_hands,
    refining_hands,
    refuse_overwriting,
    restored_parts,
    result_files,
    write_results,
)
from lightning_modules.method import HandMethod
from lightning_modules.page import PageEntry, write_page
from lightning_modules.page_entries import entry_of, stepped_entry
from lightning_modules.restore import restore_method
from lightning_modules.run_folder import best_by_age, folder_of_checkpoint
from ops.patch_restoration import PatchDictionary

_PICTURES = {"depth": "a depth frame", "rgb": "a photograph (8 bits are too few for depth)"}


class NoMethodError(ValueError):
    """No checkpoint takes such pictures."""


@dataclass
class Predicted:
    """A predicted hand on its way to files."""

    sight: Sight
    hand: Hand
    facts: dict[str, object]
    files: dict[str, Path]
    parts: dict[str, np.ndarray]
    on_the_way: dict[int, Hand] = field(default_factory=dict)  # by iterations of refinement, for a page's slider
    written: list[Path] = field(default_factory=list)
    entry: PageEntry | None = None


class Predictor:
    """Methods and where their results go, by what pictures show; each is restored when the first picture needs it.

    Args:
        checkpoint: the user's; None takes the newest best under runs/ that takes such pictures, else weights/.
        out: the user's folder for results.
        kinds: of results.
        overwrite: replace results.
        dictionary: of patches, for depth.
        refine: iterations of refinement at test time; None takes the checkpoint's.
        slides: steps that a page has room for, of each picture; 0: there is no page.
        alone: one picture; of many, results that a method cannot give are left out.
        show_refinement: write refinement.png, too, of hands that are refined.
    """

    def __init__(
        self,
        checkpoint: Path | None,
        out: Path | None,
        kinds: Sequence[str],
        overwrite: bool,
        dictionary: Path | None = None,
        refine: int | None = None,
        slides: int = 0,
        alone: bool = False,
        show_refinement: bool = False,
    ) -> None:
        self.checkpoint, self.out, self.kinds, self.overwrite = checkpoint, out, kinds, overwrite
        self.dictionary, self.refine, self.slides, self.alone = dictionary, refine, slides, alone
        self._show_refinement = show_refinement
        self._refined: set[str] = set()  # what pictures show whose refinement is drawn unasked
        self._left_out: set[str] = set()  # what pictures show whose method draws no refinement
        self._methods: dict[str, tuple[HandMethod, Path] | NoMethodError] = {}
        self._patches: PatchDictionary | None = None

    def refusal(self, sight: Sight) -> Exception | None:
        """Why a picture cannot be predicted; None where it can."""
        try:
            if self.checkpoint is not None and not self.overwrite:  # before anything heavy is read
                refuse_overwriting(self._files(sight, self.checkpoint))
            _, checkpoint = self.method(sight)
            if not self.overwrite:
                refuse_overwriting(self._files(sight, checkpoint))
        except (NoMethodError, FileExistsError) as error:
            return error
        return None

    def method(self, sight: Sight) -> tuple[HandMethod, Path]:
        """The method for a picture, and the file it was restored from."""
        if sight.modality not in self._methods:
            try:
                self._methods[sight.modality] = self._restored(sight)
            except NoMethodError as error:
                self._methods[sight.modality] = error
        found = self._methods[sight.modality]
        if isinstance(found, NoMethodError):
            raise NoMethodError(f"{sight.path}: {found}")
        return found

    def _restored(self, sight: Sight) -> tuple[HandMethod, Path]:
        foreign = []
        for checkpoint in [self.checkpoint] if self.checkpoint else default_checkpoints():
            method = restore_method(checkpoint)
            if sight.modality in method.source_needs["every"]:
                print(f"checkpoint  {checkpoint}")
                self._set_refining(method, checkpoint, sight.modality)
                return method, checkpoint
            foreign.append(f"{checkpoint} ({type(method).__name__} takes {', '.join(method.source_needs['every'])})")
        raise NoMethodError(
            f"{_PICTURES[sight.modality]}, but no checkpoint takes these: {'; '.join(foreign)}; train a method that "
            "does, or name its checkpoint with --ckpt"
        )

    def predict(self, sights: Sequence[Sight], sides: Sequence[int]) -> Iterator[Predicted]:
        """The hands of pictures of one kind; of several `sides` the one that fits better."""
        method, checkpoint = self.method(sights[0])
        facts = {"method": type(method).__name__, "checkpoint": str(checkpoint)}
        steps = method.hparams.refinement_steps if hasattr(method, "refine") else 0
        if steps:
            facts["refinement_steps"] = steps
        if hasattr(method, "said_of_distance"):
            for sight in sights:
                sight.notes["distance"] = method.said_of_distance()
        for sight, hand in zip(sights, predict_hands(method, sights, sides), strict=True):
            files = self._files(sight, checkpoint)
            if "refinement.png" in files:
                crop = sight.crops([sight], int(hand.prediction.side), method.crop_size)
                write_refinement(method, crop, files["refinement.png"])
            predicted = Predicted(sight, hand, facts, files, self._parts(method, hand))
            if steps and self.slides > 1 and sight.frame is None:  # a video's slider goes through its frames
                predicted.on_the_way = refining_hands(method, sight, hand, shown_steps(steps, self.slides))
            yield predicted

    def _set_refining(self, method: HandMethod, checkpoint: Path, modality: str) -> None:
        """Take the user's iterations; without a refinement refuse them, and refuse its picture or leave it out."""
        if hasattr(method, "refine"):
            if self.refine is not None:
                method.hparams.refinement_steps = self.refine
            if self._show_refinement and method.hparams.refinement_steps:
                self._refined.add(modality)
            return
        asked = "refine" if self.refine is not None and modality == "rgb" else None
        if "refinement.png" in self.kinds:
            if self.alone or set(self.kinds) == {"refinement.png"}:
                asked = "write: refinement.png"
            else:
                print(f"left out    refinement.png of {checkpoint}: {type(method).__name__} does not refine")
                self._left_out.add(modality)
        if asked:
            raise NoMethodError(
                f"{asked} is of methods that refine at test time, and {checkpoint} is {type(method).__name__}; leave "
                "it out, or name a checkpoint of DHPE with --ckpt"
            )

    def _parts(self, method: HandMethod, hand: Hand) -> dict[str, np.ndarray]:
        parts = {} if hand.prediction.parts is None else {"parts": hand.prediction.parts[0].numpy()}
        if self.dictionary is not None and "depth" in hand.seen:
            self._patches = self._patches or PatchDictionary.load(self.dictionary, method.hand_model_id)
            parts["parts, restored"] = restored_parts(hand.prediction, self._patches)
        return parts

    def _files(self, sight: Sight, checkpoint: Path) -> dict[str, Path]:
        folder = self.out or (folder_of_checkpoint(checkpoint) or Path.cwd()) / "predictions"
        kinds = [kind for kind in self.kinds if kind != "refinement.png" or sight.modality not in self._left_out]
        return result_files(folder, sight.name, kinds + (["refinement.png"] if sight.modality in self._refined else []))


def default_checkpoints() -> list[Path]:
    """Best checkpoints under runs/, the newest first, then the weights that come along: methods with a mesh first."""
    along = sorted(weights.FOLDER.glob(f"*{weights.SUFFIX}"))  # by name: deephps, dhpe, neverova, vae
    try:
        return best_by_age() + along
    except FileNotFoundError:
        if along:
            return along
        raise


def write_predicted(predicted: Predicted, with_page: bool) -> Predicted:
    """Write the results of one picture; its share of a page, if there is to be one."""
    facts = dict(predicted.facts)
    label = predicted.sight.notes.pop("label", None)
    if label is not None:
        from lightning_modules.label_errors import label_errors, print_errors

        errors = label_errors(predicted.hand.prediction.joints_3d[0], label)
        print_errors(errors, label, predicted.hand.prediction.convention)
        facts["errors_mm"] = {alignment: round(error, 3) for alignment, error in errors.items()}
    predicted.written = write_results(predicted.files, facts, predicted.sight, predicted.hand, predicted.parts)
    if with_page:
        hands = predicted.on_the_way or {0: predicted.hand}
        entries = {step: entry_of(predicted.sight, hand, facts) for step, hand in hands.items()}
        predicted.entry = stepped_entry(entries, "iteration")
    return predicted


def _taken_as(predicted: Predicted) -> str:
    """What a picture was taken for, of which much is assumed unless it is said, in a line."""
    hand, sight = predicted.hand, predicted.sight
    side = f"{SIDES[int(hand.prediction.side)]} hand"
    if hand.sides:
        side += f" ({', '.join(f'{name} {confidence:.2f}' for name, confidence in hand.sides.items())})"
    looked_at = sight.notes.get("looked_at")
    where = [] if looked_at is None else [looked_at["box"] if isinstance(looked_at["box"], str) else "in its box"]
    return "; ".join([side, *where, f"camera {sight.camera}"])


class Report:
    """Says what was written, skipped and not sure; a bar over many pictures; the page at the end.

    Args:
        alone: one picture, whose every file is named.
        count: of pictures, about.
        page: the page's file.
    """

    def __init__(self, alone: bool, count: int, page: Path | None) -> None:
        self._alone, self._page = alone, page
        self._written, self._skipped, self._folders = 0, 0, set()
        # a video's left and right hands apart: their meshes differ; each by the frame's number
        self._entries: dict[tuple[Path, int], dict[int, PageEntry]] = {}
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, disable=alone or not sys.stderr.isatty())
        self._task = self._bar.add_task("hands", total=count)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()  # whatever happened: it hides the cursor

    def add(self, item: Predicted | Exception) -> None:
        """One picture is done."""
        self._bar.start()  # once; not in `__enter__`, after which alone `__exit__` is sure to come
        self._bar.advance(self._task)
        if isinstance(item, Exception):
            if self._alone:
                raise item
            self._skipped += 1
            print(f"skipped     {item}", file=sys.stderr)
            return
        self._written += 1
        self._folders |= {path.parent for path in item.written}
        if item.entry is not None:
            key = item.sight.path, int(item.hand.prediction.side)
            self._entries.setdefault(key, {})[item.sight.frame or 0] = item.entry
        if not item.hand.is_sure:
            print(
                f"not sure    {item.sight.name}: probably no hand, or not there (confidence {item.hand.confidence:.2f} "
                f"by {item.hand.rule}); check --box and --side"
            )
        if self._alone:
            print(f"taken as    {_taken_as(item)}")
            for path in item.written:
                print(f"wrote       {path}")

    def close(self) -> int:
        """Write the page and the last lines, once the bar is gone; how many pictures were skipped."""
        if not self._alone:
            folders = ", ".join(sorted(map(str, self._folders))) or "nowhere"
            print(f"wrote       results of {self._written} pictures to {folders}; skipped {self._skipped}")
        if self._page is not None and self._entries:
            write_page(self._page, [stepped_entry(each, "frame") for each in self._entries.values()], "Hands")
            print(f"wrote       {self._page}")
        if self._skipped and not self._written:
            raise ValueError("none of the inputs could be predicted; see the reasons above")
        return self._skipped
