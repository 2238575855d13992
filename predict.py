"""A trained method on your own depth frame: overlay picture, named joints, prediction file, and the mesh if it has one.

python predict.py frame.png --camera nyu
python predict.py frame.png --camera 475,475,320,240 --unit 0.000125 --side left
python predict.py frame.png --camera nyu --dictionary patches.safetensors    (part maps, predicted and restored)
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from lightning_modules.run_folder import folder_of_checkpoint, newest_best

ROUNDS = 3  # each crops anew around the hand just predicted
REACH = 0.13  # metres from the centre: a forearm beyond is left out, rendered hands have none


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    arguments = parse()
    try:
        run(arguments)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"predict.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("frame", type=Path, help="16-bit PNG, NYU's or HO-3D's colour packing, or .npy")
    add("--camera", help="nyu, icvl, msra, sr305, ... or fx,fy,cx,cy in pixels; NYU's packing implies nyu")
    add("--unit", type=float, help="metres per stored step (default: 0.001; HO-3D's own; 1 for floating-point .npy)")
    add("--ckpt", type=Path, help="checkpoint (default: the newest best under runs/)")
    add("--box", help="u,v,width,height of a rectangle with the hand, pixels (default: the nearest blob is searched)")
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
    """Read the frame, find the hand, predict, write the results."""
    from datamodules.batch import LEFT, RIGHT
    from datamodules.depth_frames import crop_frame, frame_camera, parse_box, read_depth_frame
    from datamodules.hand_finder import find_hand

    frame = read_depth_frame(arguments.frame, arguments.unit)
    K, camera = frame_camera(arguments.camera, frame)
    centre = find_hand(frame.depth, K, parse_box(arguments.box))
    label = None
    if arguments.labels is not None:
        from lightning_modules.label_errors import label_errors, print_errors, read_label

        label = read_label(arguments.labels, arguments.label_layout, arguments.label_line, arguments.frame, K)
        print(f"labels      line {label.line} of {arguments.labels}")
    checkpoint = arguments.ckpt or newest_best()
    files = result_files(arguments, checkpoint)

    # torch's and Lightning's import is paid once the input is known to be good
    from lightning_modules.frame_prediction import predict_refined, restored_parts, write_results
    from lightning_modules.restore import restore_method
    from ops.patch_restoration import PatchDictionary

    print(f"checkpoint  {checkpoint}")
    method = restore_method(checkpoint)
    dictionary = arguments.dictionary and PatchDictionary.load(arguments.dictionary, method.hand_model_id)
    side = LEFT if arguments.side == "left" else RIGHT
    crop = partial(crop_frame, frame, K, image_size=method.crop_size, reach=REACH)
    prediction, centre = predict_refined(method, partial(crop, side=side), centre, ROUNDS)
    parts = {} if prediction.parts is None else {"parts": prediction.parts[0].numpy()}
    if dictionary is not None:
        parts["parts, restored"] = restored_parts(prediction, dictionary)
    facts = {
        "picture": str(frame.path),
        "camera": camera,
        "K": K.tolist(),
        "side": arguments.side,
        "method": type(method).__name__,
        "checkpoint": str(checkpoint),
    }
    write_results(files, facts, frame.depth, K, crop(centre, side=RIGHT), prediction, parts)  # not mirrored
    if label is not None:
        print_errors(label_errors(prediction.joints_3d[0], label), label, prediction.convention)


def result_files(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, Path]:
    """Where the results go; nothing that is there is replaced unasked."""
    folder = arguments.out or (folder_of_checkpoint(checkpoint) or Path.cwd()) / "predictions"
    kinds = ("overlay.png", "joints.json", "mesh.obj", "prediction.npz")
    files = {kind: folder / f"{arguments.frame.stem}_{kind}" for kind in kinds}
    if (there := [str(path) for path in files.values() if path.exists()]) and not arguments.overwrite:
        raise FileExistsError(f"{', '.join(there)}: there already; give --overwrite or another --out")
    return files


if __name__ == "__main__":
    main()
