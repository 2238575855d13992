"""A trained method on your own pictures: overlay, named joints, mesh if it has one, prediction file of each.

python predict.py photo.jpg --box 210,140,300,340        (or --detect, after `make detector`)
python predict.py frame.png --camera nyu
python predict.py frames/ clip.mp4 --camera 475,475,320,240 --unit 0.000125 --side both --html page.html
python predict.py frame.png --camera nyu --dictionary patches.safetensors    (part maps, predicted and restored)
python predict.py export --onnx hand.onnx                                    (the network, for other programs)

A file that cannot be read, or whose depth shows no hand, is named and skipped; the exit code is then 1, and 2 where
none is left. Of a photograph that probably shows no hand a line says so, and so do its results (`hand_seen`).
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.installed import require_install

if TYPE_CHECKING:
    from datamodules.sights import Sight
    from lightning_modules.predicting import Predicted

KINDS = ("overlay.png", "joints.json", "mesh.obj", "mesh.glb", "prediction.npz")
ON_REQUEST = ("refinement.png",)  # of a method that refines at test time
THREADS = 4  # that read, and that write
PAGE_MOST = 60  # hands of a page, iterations of a refinement counted: each is in it with its picture, twice


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy, Ctrl-C with 130 as programs do."""
    if sys.argv[1:2] == ["export"]:
        require_install()
        from lightning_modules.export import main as export

        export(sys.argv[2:])
        return
    arguments = parse()
    try:
        require_install()
        skipped = run(arguments)
    except (ValueError, OSError) as error:
        print(f"predict.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if skipped:
        raise SystemExit(1)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options, of the command line where no words are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "inputs", type=Path, nargs="+",
        help="photographs (PNG, JPEG), depth (16-bit PNG, NYU's or HO-3D's colour packing, .npy), videos, folders",
    )  # fmt: skip
    add("--camera", help="nyu, icvl, msra, sr300, sr305, realsense-d435, ... or fx,fy,cx,cy[,width,height] in pixels")
    add("--focal", type=float, help="of photographs: focal length in pixels (default: a phone's main camera)")
    add("--unit", type=float, help="metres per stored step (default: the camera's, 0.001; 1 for floating-point .npy)")
    add("--ckpt", type=Path, help="checkpoint or weights (default: the newest best under runs/, else weights/)")
    add("--box", help="u,v,width,height of the hand, pixels (default: the nearest blob; of a photograph, all of it)")
    add("--detect", action="store_true", help="find hands in photographs by MediaPipe's detector: box and side")
    add("--dictionary", type=Path, help="patch dictionary: draws the part map restored from it, too")
    add(
        "--side", choices=("right", "left", "both"),
        help="which hand it is; both: compares (default: right; with --detect what it says)",
    )  # fmt: skip
    add("--refine", type=int, help="iterations of refinement at test time, by DHPE (default: the checkpoint's)")
    add("--every", type=int, default=1, help="of a video, each n-th frame")
    add("--out", type=Path, help="folder for the results (default: predictions/ of the checkpoint's run)")
    all_kinds = (*KINDS, *ON_REQUEST)
    add(
        "--write", nargs="+", choices=all_kinds, metavar="KIND",
        help=f"of {' '.join(all_kinds)} (default: all; the last of a single picture that is refined)",
    )  # fmt: skip
    add("--html", type=Path, help="a page to look at, one file: pictures, overlays, hands to turn")
    add("--overwrite", action="store_true", help="replace results that are there")
    add("--batch", type=int, default=16, help="pictures that the network sees at once (default: 16)")
    add("--labels", type=Path, help="true joints as text, u v d (mm) per joint, a frame a line; prints the errors")
    add("--label-layout", default="nyu-14", help="joints of a line: nyu-14 or canonical-21 (default: nyu-14)")
    add(
        "--label-line", type=int, help="the frame's line of the labels, from 1 (default: the only one, or NYU's number)"
    )
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Read pictures, find hands, predict, write; how many pictures were skipped."""
    from datamodules.hand_detector import HandDetector
    from datamodules.sights import VIDEOS, Asked, count_inputs, each_input, list_inputs, read_sight
    from lightning_modules.pipeline import in_order

    files = list_inputs(arguments.inputs)
    alone = len(files) == 1 and files[0].suffix.lower() not in VIDEOS
    count = count_inputs(files, arguments.every)
    check(arguments, alone, count)
    with HandDetector() if arguments.detect else nullcontext() as detector:
        asked = Asked(arguments.camera, arguments.focal, arguments.unit, arguments.box, detector, arguments.side)
        pictures = each_input(files, arguments.every)
        reading = in_order(partial(read_sight, asked=asked), pictures, THREADS, 2 * arguments.batch + THREADS)
        sights = (checked_alone(arguments, sight) for sight in reading) if alone else reading
        predicted = predict(arguments, sights, alone, slides=PAGE_MOST // count if arguments.html else 0)
        first = list(islice(predicted, 1))  # raises the only picture's error, before the methods' import is paid

        from lightning_modules.predicting import Report

        with Report(alone, count, arguments.html) as report:
            for item in in_order(partial(write, arguments), chain(first, predicted), THREADS, 2 * arguments.batch):
                report.add(item)
        return report.close()


def check(arguments: argparse.Namespace, alone: bool, count: int) -> None:
    """Raise where options contradict each other or the inputs."""
    for name in ("every", "batch"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(arguments, name)}")
    if arguments.detect and arguments.box:
        raise ValueError("box: says where the hand is, and --detect looks for it; leave one of them out")
    if arguments.refine is not None and arguments.refine < 0:
        raise ValueError(f"refine: expected at least 0 iterations, got {arguments.refine}")
    if arguments.labels is not None and not alone:
        raise ValueError("labels: belong to one frame; name that frame alone, or judge many with evaluate")
    if arguments.html and count > PAGE_MOST:
        raise ValueError(f"html: a page holds at most {PAGE_MOST} pictures, got {count}; name fewer, or give --every")
    if arguments.html and arguments.html.is_dir():
        raise IsADirectoryError(f"html: expected a file to write, got the folder {arguments.html}; name one in it")
    if arguments.html and arguments.html.exists() and not arguments.overwrite:
        raise FileExistsError(f"{arguments.html}: there already; give --overwrite or another --html")


def checked_alone(arguments: argparse.Namespace, sight: "Sight | Exception") -> "Sight | Exception":
    """The only picture; raise where an option is for pictures of the other kind. Among many, options go where they fit.

    Its label is read now: nothing is predicted for a label that is not there.
    """
    if isinstance(sight, Exception):
        return sight
    foreign = ("focal", "refine", "detect") if sight.modality == "depth" else ("unit", "dictionary", "labels")
    for name in foreign:
        value = getattr(arguments, name)
        if value is not None and value is not False:
            kinds = {"depth": ("photographs", "a depth frame"), "rgb": ("depth frames", "a photograph")}
            meant, got = kinds[sight.modality]
            raise ValueError(f"{name}: is for {meant}, and {sight.path} is {got}; leave --{name} out")
    if arguments.labels is not None:
        from lightning_modules.label_errors import read_label

        layout, line = arguments.label_layout, arguments.label_line
        sight.notes["label"] = label = read_label(arguments.labels, layout, line, sight.path, sight.K)
        print(f"labels      line {label.line} of {arguments.labels}")
    return sight


def predict(
    arguments: argparse.Namespace, sights: "Iterator[Sight | Exception]", alone: bool, slides: int
) -> "Iterator[Predicted | Exception]":
    """Predictions of pictures, batch by batch of a kind; errors in their place."""
    from datamodules.batch import LEFT, RIGHT

    waiting: dict[tuple[str, str], list[Sight]] = {}
    sides = {"left": [LEFT], "right": [RIGHT], "both": [RIGHT, LEFT]}
    predictor = None
    for sight in sights:
        if isinstance(sight, Exception):
            if alone:
                raise sight
            yield sight
            continue
        if predictor is None:  # the methods' import is paid once the input is known to be good
            from lightning_modules.predicting import Predictor

            predictor = Predictor(
                arguments.ckpt, arguments.out, arguments.write or KINDS, arguments.overwrite, arguments.dictionary,
                arguments.refine, slides, alone, show_refinement=alone and not arguments.write,
            )  # fmt: skip
        refusal = predictor.refusal(sight)
        if refusal is not None:
            if alone:
                raise refusal
            yield refusal
            continue
        side = arguments.side or sight.side or "right"
        group = waiting.setdefault((sight.modality, side), [])
        group.append(sight)
        if len(group) == arguments.batch:
            yield from predictor.predict(group, sides[side])
            group.clear()
    for (_, side), group in waiting.items():
        if group:
            yield from predictor.predict(group, sides[side])


def write(arguments: argparse.Namespace, predicted: "Predicted") -> "Predicted":
    """Write the results of one picture."""
    from lightning_modules.predicting import write_predicted

    return write_predicted(predicted, with_page=arguments.html is not None)


if __name__ == "__main__":
    main()
