"""What the latent space of a trained cross-modal VAE holds, as pictures.

python latent.py sample --ckpt runs/vae_rendered/<run>/checkpoints/best.ckpt --out samples.png
python latent.py translate --from rgb --out translated.png      every modality, of test hands' colours
python latent.py interpolate --from rgb --out strip.png         between two hands, and strip.gif beside it
python latent.py reject --from rgb                              how unlike a hand pictures look: hands, noise, blank
python latent.py agree                                          whether all modalities of a point say the same hand

--pictures takes photographs or depth frames of your own instead of test hands, cropped as predict.py does: two of them
to interpolate between, any to translate or to reject.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from datamodules.batch import HandBatch
    from lightning_modules.cross_modal_vae import CrossModalVAE

STEPS = 8  # cells of a row
POINTS = 512  # of the prior that modalities are compared at


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=("sample", "translate", "interpolate", "reject", "agree"))
    add("--ckpt", type=Path, help="checkpoint (default: the newest best under runs/)")
    add(
        "--from", dest="source", default="rgb", choices=("rgb", "depth", "2d", "3d"),
        help="modality to encode (default: rgb; of --pictures what they show)",
    )  # fmt: skip
    add("--domain", default="clean", help="rendered domain whose test hands are shown (default: clean)")
    add("--pictures", type=Path, nargs="+", help="photographs or depth frames of your own, or folders of them")
    add("--camera", help="of --pictures, as predict.py takes it")
    add("--unit", type=float, help="of depth frames, metres per stored step, as predict.py takes it")
    add("--focal", type=float, help="of photographs: focal length in pixels (default: a phone's main camera)")
    add("--box", help="u,v,width,height of the hand in each of them, pixels (default: as predict.py)")
    add("--side", choices=("right", "left"), default="right", help="which hands --pictures show (default: right)")
    add("--out", type=Path, default=Path("latent.png"), help="picture to write (default: latent.png)")
    add("--seed", type=int, default=0, help="of points of the prior (default: 0)")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"latent.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run(arguments: argparse.Namespace) -> None:
    """Read the checkpoint and do what was asked for."""
    import cv2
    import torch

    from lightning_modules.callbacks.latent_samples import decoded_sheet
    from lightning_modules.latent_space import latent_points
    from lightning_modules.restore import restore_method
    from lightning_modules.run_folder import newest_best

    method = restore_method(arguments.ckpt or newest_best())
    if not hasattr(method, "encoders"):
        raise ValueError(
            f"checkpoint: of {type(method).__name__}, which has no latent space; name one of CrossModalVAE"
        )
    own = None
    if arguments.pictures:
        if arguments.what in ("sample", "agree"):
            raise ValueError(f"--pictures: {arguments.what} shows points of the prior, no pictures; leave it out")
        own, arguments.source = own_hands(arguments, method)
    if arguments.what == "agree":
        print_agreement(method, arguments.seed)
        return
    if arguments.what == "sample":
        z = torch.randn(STEPS, method.hparams.latent, generator=torch.Generator().manual_seed(arguments.seed))
        sheet = decoded_sheet(method, z)
    elif arguments.what == "reject":
        print_scores(method, test_hands(arguments.domain, method), arguments.source)
        if own is not None:
            print_own_scores(method, own, arguments.source)
        return
    else:
        hands = test_hands(arguments.domain, method) if own is None else own
        mu = latent_points(method, hands, arguments.source)
        if arguments.what == "interpolate":
            if own is not None and len(mu) != 2:
                raise ValueError(f"--pictures: expected two to interpolate between, got {len(mu)}")
            along = torch.linspace(0, 1, STEPS)[:, None]
            mu = (1 - along) * mu[0] + along * mu[1]
        sheet = decoded_sheet(method, mu)
    if not cv2.imwrite(str(arguments.out), sheet):
        raise ValueError(f"--out {arguments.out}: cannot be written; name a PNG or JPEG in a folder that is there")
    print(f"rows: {', '.join(method.decoders)}; wrote {arguments.out}")
    if arguments.what == "interpolate":
        write_animation(sheet, arguments.out.with_suffix(".gif"))


def test_hands(domain: str, method: "CrossModalVAE") -> "HandBatch":
    """The first test hands of a rendered domain, with colours and depth."""
    from datamodules.rendered import RenderedHandsData

    data = RenderedHandsData(
        domain, batch_size=STEPS, test_size=STEPS, modalities=["depth", "rgb"], num_workers=0,
        convention=method.hparams.convention,
    )  # fmt: skip
    return next(iter(data.test_dataloader()))


def own_hands(arguments: argparse.Namespace, method: "CrossModalVAE") -> tuple["HandBatch", str]:
    """Crops of the user's pictures, and their modality."""
    from datamodules.batch import LEFT, RIGHT
    from datamodules.sights import Asked, Input, list_inputs, read_sight

    asked = Asked(arguments.camera, arguments.focal, arguments.unit, arguments.box, None, arguments.side)
    sights = [read_sight(Input(path, path.stem), asked) for path in list_inputs(arguments.pictures)]
    kinds = {sight.modality for sight in sights}
    if len(kinds) > 1:
        raise ValueError("--pictures: expected all of depth or all of colours, got both; give them one kind at a time")
    return sights[0].crops(sights, RIGHT if arguments.side == "right" else LEFT, method.crop_size), kinds.pop()


def print_own_scores(method: "CrossModalVAE", hands: "HandBatch", source: str) -> None:
    """Scores of the user's pictures, a line each."""
    from lightning_modules.latent_space import reject_scores

    scores = reject_scores(method, hands, source)
    for i, key in enumerate(hands["key"]):
        print(f"{key}: " + ", ".join(f"{what} {values[i]:.4f}" for what, values in scores.items()))


def print_scores(method: "CrossModalVAE", hands: "HandBatch", source: str) -> None:
    """Scores of hands, of noise and of blank pictures; what is no hand should score higher."""
    import torch

    from lightning_modules.latent_space import reject_scores

    if source not in ("rgb", "depth"):
        raise ValueError(f"--from {source}: expected a modality of pictures, rgb or depth, to judge")
    generator = torch.Generator().manual_seed(0)
    low, high = (0.0, 1.0) if source == "rgb" else (0.4, 1.2)
    noise = low + (high - low) * torch.rand(hands[source].shape, generator=generator)
    blank = torch.full_like(hands[source], 0.5 * (low + high))
    print("reconstruction error, as it is and over the picture's variance, and |mu|: median, least and most")
    for name, pictures in (("hands", hands[source]), ("noise", noise), ("blank", blank)):
        for what, values in reject_scores(method, {**hands, source: pictures}, source).items():
            print(f"{name:6} {what:15} {values.median():.4f} {values.min():.4f} {values.max():.4f}")


def print_agreement(method: "CrossModalVAE", seed: int) -> None:
    """How far the modalities are apart that the same points of the prior are decoded to."""
    import torch

    from lightning_modules.latent_space import agreement, picture_error

    z = torch.randn(POINTS, method.hparams.latent, generator=torch.Generator().manual_seed(seed))
    for name, value in agreement(method, z).items():
        print(f"{name:14} {value:.2f}")
    hands = test_hands("clean", method)
    print(f"{'labels_2d_px':14} {picture_error(hands['joints_3d'], hands['joints_2d']):.2f}")


def write_animation(sheet: "torch.Tensor", path: Path) -> None:
    """The columns of a strip one after another, there and back, as a GIF."""
    import numpy as np
    from PIL import Image

    columns = [Image.fromarray(np.ascontiguousarray(part[..., ::-1])) for part in np.split(sheet, STEPS, axis=1)]
    columns += columns[-2:0:-1]
    columns[0].save(path, save_all=True, append_images=columns[1:], duration=120, loop=0)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
