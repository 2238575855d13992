"""A trained method from its checkpoint or its file of weights, without a configuration.

Such a file is one that others may have made: its tensors and plain values are read, and of the class it names only
one that a module of this project defines itself is built. What a module merely imports is not built: handed the
arguments of a checkpoint's choice, it could run anything.
"""

import importlib
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from lightning_modules.callbacks.checkpoints import check_facts
from lightning_modules.run_folder import resumable
from lightning_modules.weights import SUFFIX, read_weights

# Only methods in these packages are built from what a checkpoint says.
METHODS = ("lightning_modules.",)


def restore_method(path: str | Path) -> LightningModule:
    """The module of a checkpoint or of weights, in evaluation mode on the CPU.

    Args:
        path: a file that train.py or `lightning_modules.weights` (.safetensors) wrote; tensors and plain types only are
            read from it.
    """
    checkpoint = read_checkpoint(path)
    facts = check_facts(checkpoint, path)
    cls = _method_class(facts["class_path"], path)
    arguments = dict(facts["init_args"])
    if "pretrained" in arguments:  # weights that training began with: its own take their place, theirs may be elsewhere
        arguments["pretrained"] = None
    try:
        method = cls(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint {path}: its arguments do not fit {facts['class_path']} as it is now ({error}); "
            "use the code it was trained with, or train again"
        ) from error
    check_facts(checkpoint, path, method.hand_model_id)
    try:
        method.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint {path}: its weights do not fit {facts['class_path']} as it is now ({error}); train again"
        ) from error
    return method.eval()


def newest_readable(folder: Path) -> Path | None:
    """The checkpoint from which the run in `folder` goes on: the newest that is whole; None where it has none yet."""
    found = resumable(folder)
    for path in found:
        try:
            read_checkpoint(path)
        except ValueError as error:
            rank_zero_warn(f"{error}; the run goes on from an older one")
        else:
            return path
    if found:
        raise ValueError(
            f"run folder {folder}: none of its checkpoints can be read ({', '.join(path.name for path in found)}); "
            "move the folder away to start anew, or name a checkpoint by --ckpt_path"
        )
    return None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint or a file of weights holds: at least the facts of its method and a state_dict."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder, expected a file" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"checkpoint {path}: {what}; train one (make train) or name another")
    if path.suffix == SUFFIX:
        weights = read_weights(path)
        check_facts(weights, path)
        return weights
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a file that is no checkpoint torch's reader raises nearly everything
        # torch's own words recommend to run what is in the file
        foreign = isinstance(error, pickle.UnpicklingError)
        reason = (
            "it holds more than tensors and plain values"
            if foreign
            else (str(error) or type(error).__name__).splitlines()[0]
        )
        raise ValueError(f"checkpoint {path}: cannot be read ({reason}); name one that train.py wrote") from error
    check_facts(checkpoint if isinstance(checkpoint, dict) else {}, path)
    if not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(f"checkpoint {path}: expected weights under 'state_dict'; name one that train.py wrote")
    return checkpoint


def _method_class(class_path: str, path: str | Path) -> type[LightningModule]:
    module, _, name = class_path.rpartition(".")
    if not class_path.startswith(METHODS):
        raise ValueError(
            f"checkpoint {path}: '{class_path}' is not a method of this project; name one that train.py wrote"
        )
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"checkpoint {path}: there is no method '{class_path}' ({error}); use the code it was trained with, "
            "or train again"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, LightningModule) and cls.__module__ == module):
        raise ValueError(
            f"checkpoint {path}: '{class_path}' is not a method of this project, a LightningModule that "
            f"'{module}' defines; name one that train.py wrote"
        )
    return cls
