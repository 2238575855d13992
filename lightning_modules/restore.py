"""A trained method from its checkpoint file, without a configuration."""

import pickle
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import instantiate_class

from lightning_modules.callbacks.checkpoints import check_facts

# A checkpoint names the class to build; only the project's own methods are built.
METHODS = ("lightning_modules.",)


def restore_method(path: str | Path) -> LightningModule:
    """The module of a checkpoint, in evaluation mode on the CPU.

    Args:
        path: a file that train.py wrote; tensors and plain types only are read from it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path}: no such file; train one (make train) or name one with --ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {path}: cannot be read ({reason}); name one that train.py wrote") from error
    facts = check_facts(checkpoint if isinstance(checkpoint, dict) else {}, path)
    if not facts["class_path"].startswith(METHODS):
        raise ValueError(f"checkpoint {path}: '{facts['class_path']}' is not a method of this project")
    method = instantiate_class((), {"class_path": facts["class_path"], "init_args": facts["init_args"]})
    check_facts(checkpoint, path, method.hand_model_id)
    try:
        method.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint {path}: its weights do not fit {facts['class_path']} as it is now ({error}); train again"
        ) from error
    return method.eval()
