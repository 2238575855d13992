"""A trained method on your own depth frame or photograph: overlay, named joints, prediction file, mesh if it has one.

python predict.py photo.jpg --box 210,140,300,340
python predict.py frame.png --camera nyu
python predict.py frame.png --camera 475,475,320,240 --unit 0.000125 --side left
python predict.py frame.png --camera nyu --dictionary patches.safetensors    (part maps, predicted and restored)
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.installed import require_install
from lightning_modules.run_folder import best_by_age, folder_of_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_modules.method import HandMethod

ROUNDS = 3  # each crops anew around the hand just predicted
REACH = 0.13  # metres from the centre: a forearm beyond is left out, rendered hands have none


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    arguments = parse()
    require_install()
    try:
        run(arguments)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"predict.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("frame", type=Path, help="depth: 16-bit PNG, NYU's or HO-3D's colour packing, .npy; or a photograph: PNG, JPEG")
    add("--camera", help="nyu, icvl, msra, sr305, ... or fx,fy,cx,cy in pixels; NYU's packing implies nyu")
    add("--focal", type=float, help="of a photograph: focal length in pixels (default: a phone's main camera)")
    add("--unit", type=float, help="metres per stored step (default: the camera's, 0.001; 1 for floating-point .npy)")
    add("--ckpt", type=Path, help="checkpoint (default: the newest best under runs/ that takes such a picture)")
    add("--box", help="u,v,width,height of the hand, pixels (default: the nearest blob; of a photograph, all of it)")
    add("--dictionary", type=Path, help="patch dictionary: draws the part map restored from it, too")
    add("--side", choices=("right", "left"), default="right", help="which hand it is (default: right)")
    add("--out", type=Path, help="folder for the results (default: predictions/ of the checkpoint's run)")
    add("--overwrite", action="store_true", help="replace results that are there")
    add("--labels", type=Path, help="true joints as text, u v d (mm) per joint, a frame a line; prints the errors")
    add("--label-layout", default="nyu-14", help="joints of a line: nyu-14 or canonical-21 (default: nyu-14)")
    add(
        "--label-line", type=int, help="the frame's line of the labels, from 1 (default: the only one, or NYU's number)"
    )
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Read the picture, find the hand, predict, write the results."""
    from datamodules.colour_pictures import is_colour_picture

    if is_colour_picture(arguments.frame):
        run_on_colours(arguments)
    else:
        run_on_depth(arguments)


def run_on_depth(arguments: argparse.Namespace) -> None:
    """The nearest hand of a depth frame."""
    from datamodules.batch import LEFT, RIGHT
    from datamodules.depth_frames import CAMERA_UNITS, crop_frame, frame_camera, parse_box, read_depth_frame
    from datamodules.hand_finder import find_hand

    if arguments.focal is not None:
        raise ValueError("focal: is for photographs; say a depth camera's fx,fy,cx,cy with --camera")
    frame = read_depth_frame(arguments.frame, arguments.unit or CAMERA_UNITS.get(arguments.camera))
    K, camera = frame_camera(arguments.camera, frame)
    centre = find_hand(frame.depth, K, parse_box(arguments.box))
    label = None
    if arguments.labels is not None:
        from lightning_modules.label_errors import label_errors, print_errors, read_label

        label = read_label(arguments.labels, arguments.label_layout, arguments.label_line, arguments.frame, K)
        print(f"labels      line {label.line} of {arguments.labels}")
    method, checkpoint, files = restored(arguments, "depth")

    # the methods' import is paid once the input is known to be good
    from lightning_modules.frame_prediction import predict_refined, restored_parts, write_results
    from ops.drawing import shade_depth
    from ops.patch_restoration import PatchDictionary

    dictionary = arguments.dictionary and PatchDictionary.load(arguments.dictionary, method.hand_model_id)
    side = LEFT if arguments.side == "left" else RIGHT
    crop = partial(crop_frame, frame, K, image_size=method.crop_size, reach=REACH)
    prediction, centre = predict_refined(method, partial(crop, side=side), centre, ROUNDS)
    parts = {} if prediction.parts is None else {"parts": prediction.parts[0].numpy()}
    if dictionary is not None:
        parts["parts, restored"] = restored_parts(prediction, dictionary)
    seen = crop(centre, side=RIGHT)  # not mirrored
    near = float(seen["cube_centre"][0, 2] - seen["cube_side"][0] / 2)
    far = near + float(seen["cube_side"][0])
    pictures = shade_depth(frame.depth, near, far + 0.5), shade_depth(seen["depth"][0, 0].numpy(), near, far)
    facts = said(arguments, camera, K, method, checkpoint)
    write_results(files, facts, *pictures, K, seen, prediction, parts)  # half a metre more, so that the person shows
    if label is not None:
        print_errors(label_errors(prediction.joints_3d[0], label), label, prediction.convention)


def run_on_colours(arguments: argparse.Namespace) -> None:
    """The hand of a photograph, in the box or the whole picture."""
    from datamodules.batch import LEFT, RIGHT
    from datamodules.colour_pictures import crop_square, picture_camera, read_colour_picture, square_around
    from datamodules.depth_frames import parse_box

    for name in ("unit", "dictionary", "labels"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"{name}: is for depth frames, and {arguments.frame} is a photograph; leave --{name} out")
    picture = read_colour_picture(arguments.frame)
    K, camera = picture_camera(arguments.camera, arguments.focal, picture)
    square = square_around(parse_box(arguments.box), picture)
    method, checkpoint, files = restored(arguments, "rgb")

    from lightning_modules.frame_prediction import predict_once, write_results
    from ops.drawing import bgr_bytes

    side = LEFT if arguments.side == "left" else RIGHT
    crop = partial(crop_square, picture, K, square, image_size=method.crop_size)
    prediction = predict_once(method, crop(side=side))
    seen = crop(side=RIGHT)
    facts = said(arguments, camera, K, method, checkpoint)
    # a colour picture does not say how large a hand is
    facts["distance"] = "from focal length and an assumed bone length; the hand's size is not measured"
    pictures = picture.rgb[..., ::-1].copy(), bgr_bytes(seen["rgb"][0])
    write_results(files, facts, *pictures, K, seen, prediction, {})


def restored(arguments: argparse.Namespace, modality: str) -> tuple["HandMethod", Path, dict[str, Path]]:
    """The method of the checkpoint named, or of the newest best one that takes the modality; where results go."""
    checkpoints = [arguments.ckpt] if arguments.ckpt else best_by_age()
    if arguments.ckpt:
        result_files(arguments, arguments.ckpt)  # refuses before anything heavy is imported
    from lightning_modules.restore import restore_method

    foreign = []
    for checkpoint in checkpoints:
        method = restore_method(checkpoint)
        if modality in method.source_needs["every"]:
            files = result_files(arguments, checkpoint)
            print(f"checkpoint  {checkpoint}")
            return method, checkpoint, files
        foreign.append(f"{checkpoint} ({type(method).__name__} takes {', '.join(method.source_needs['every'])})")
    what = {"depth": "a depth frame", "rgb": "a photograph (8 bits are too few for depth)"}[modality]
    raise ValueError(
        f"{arguments.frame}: {what}, but no checkpoint takes these: {'; '.join(foreign)}; train a method that does, or "
        "name its checkpoint with --ckpt"
    )


def said(
    arguments: argparse.Namespace, camera: str, K: "Tensor", method: "HandMethod", checkpoint: Path
) -> dict[str, object]:
    """What the joints' file says beside them."""
    return {
        "picture": str(arguments.frame),
        "camera": camera,
        "K": K.tolist(),
        "side": arguments.side,
        "method": type(method).__name__,
        "checkpoint": str(checkpoint),
    }


def result_files(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, Path]:
    """Where the results go; nothing that is there is replaced unasked."""
    folder = arguments.out or (folder_of_checkpoint(checkpoint) or Path.cwd()) / "predictions"
    kinds = ("overlay.png", "joints.json", "mesh.obj", "mesh.glb", "prediction.npz")
    files = {kind: folder / f"{arguments.frame.stem}_{kind}" for kind in kinds}
    if (there := [str(path) for path in files.values() if path.exists()]) and not arguments.overwrite:
        raise FileExistsError(f"{', '.join(there)}: there already; give --overwrite or another --out")
    return files


if __name__ == "__main__":
    main()
