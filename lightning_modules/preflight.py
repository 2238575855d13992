"""Refuses a mistyped option at once: a sweep's typo should not cost the import of torch and Lightning.

Signatures are read from source, not imported. What cannot be judged so is let through: LightningCLI's parser has the
last word, with the same rules.
"""

import ast
import difflib
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal, NoReturn, get_args, get_origin

import yaml

from lightning_modules.run_options import RUN_OPTIONS, SUBCOMMANDS
from lightning_modules.signatures import Signature, read_signature

TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
# Options of LightningCLI and jsonargparse themselves.
OTHER_OPTIONS = {"config", "c", "help", "h", "print_config", "seed_everything", "ckpt_path", "trainer", "model", "data"}
SIMPLE_TYPES = {"int": (int,), "float": (int, float), "bool": (bool,), "None": (type(None),)}


def preflight(arguments: list[str]) -> None:
    """Exit with code 2 and a message that names the option if `arguments` cannot be right."""
    if not arguments or arguments[0].startswith("-"):
        return
    if arguments[0] not in SUBCOMMANDS:
        _refuse(f"unknown subcommand '{arguments[0]}'; it is one of {', '.join(SUBCOMMANDS)}")
    _refuse_strays(arguments[1:])
    settings: list[tuple[str, object]] = []
    for key, value in _options(arguments[1:]):
        if key in ("config", "c"):
            settings += _flatten(_read_config(value))
        settings.append((key, _read_value(value)))
    classes = {"trainer": TRAINER} | {
        key.removesuffix(".class_path"): value
        for key, value in settings
        if key in ("model", "data", "model.class_path", "data.class_path") and isinstance(value, str)
    }
    signatures = {group: _read_signature(path, group) for group, path in classes.items()}
    for key, value in settings:
        _check(key, value, signatures)
    asked = {key for key, _ in settings}
    if not asked & {"config", "c", "model", "model.class_path", "help", "h"} and not any(
        "help" in key for key in asked
    ):
        _refuse("no --config given: name an experiment's file (configs/*.yaml)")


def experiment_name(arguments: list[str]) -> str:
    """The name of the first configuration file, without its ending."""
    files = [value for key, value in _options(arguments) if key in ("config", "c")]
    if not files:
        _refuse("no --config given: name an experiment's file (configs/*.yaml), or the run with --experiment")
    return Path(files[0]).stem


def _check(key: str, value: object, signatures: dict[str, Signature | None]) -> None:
    group, _, rest = key.partition(".")
    if not rest:
        _check_run_option(key, value)
        return
    if group not in ("trainer", "model", "data"):
        _refuse(f"unknown option '{key}'{_nearest(group, OTHER_OPTIONS | set(RUN_OPTIONS))}")
    name, _, deeper = rest.removeprefix("init_args.").rstrip("+").partition(".")
    signature = signatures.get(group)
    if signature is None or name in ("class_path", "init_args", "help", "dict_kwargs"):
        return
    if name not in signature.parameters:
        if not signature.open:
            takes = ", ".join(signature.parameters)
            _refuse(
                f"unknown option '{key}': {signature.name} does not take '{name}'"
                f"{_nearest(name, signature.parameters)}; it takes {takes}"
            )
    elif not deeper and not _fits(value, annotation := signature.parameters[name]):
        _refuse(f"option '{key}': expected {ast.unparse(annotation)}, got {value!r}")
    elif deeper and (fields := signature.fields.get(name)) is not None:
        field = deeper.removeprefix("init_args.").partition(".")[0]
        if field not in (*fields, "class_path", "init_args", "help"):
            _refuse(f"unknown option '{key}'{_nearest(field, fields)}; '{name}' takes {', '.join(fields)}")


def _check_run_option(key: str, value: object) -> None:
    known = OTHER_OPTIONS | set(RUN_OPTIONS)
    if key not in known:
        _refuse(f"unknown option '{key}'{_nearest(key, known)}")
    kind = RUN_OPTIONS[key].type if key in RUN_OPTIONS else None
    if isinstance(kind, type) and not _fits(value, ast.Name(kind.__name__)):
        _refuse(f"option '{key}': expected {kind.__name__}, got {value!r}")
    if (choices := get_args(kind)) and get_origin(kind) is Literal and value not in choices:
        _refuse(f"option '{key}': expected one of {', '.join(choices)}, got {value!r}")
    if key == "seed_everything" and not isinstance(value, bool | int):
        _refuse(f"option '{key}': expected a whole number, or false, got {value!r}")
    if key == "ckpt_path" and value not in (None, "last", "best") and not Path(str(value)).is_file():
        _refuse(f"option 'ckpt_path': no such file {value}; name a checkpoint, or leave it out")


def _refuse_strays(arguments: list[str]) -> None:
    """Words that are neither an option nor the value of the option before."""
    for before, word in pairwise(["", *arguments]):
        option = before.startswith("-") and "=" not in before and not _is_number(before)
        if not word.startswith("-") and not option:
            _refuse(f"'{word}' is no option; options are --key=value")


def _read_signature(class_path: str, group: str) -> Signature | None:
    try:
        return read_signature(class_path)
    except LookupError as error:
        _refuse(f"{group}: {error.args[0]}{_nearest(*error.args[1:]) if error.args[1:] else ''}")


def _options(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """`--key=value` and `--key value` alike; a flag without a value gives an empty one."""
    for i, argument in enumerate(arguments):
        if argument.startswith("-") and not _is_number(argument):
            key, equals, value = argument.lstrip("-").partition("=")
            follows = arguments[i + 1] if i + 1 < len(arguments) else ""
            yield key, value if equals or (follows.startswith("-") and not _is_number(follows)) else follows


def _read_config(path: str) -> dict[str, object]:
    try:
        config = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        _refuse(f"configuration '{path}' cannot be read ({error.strerror}); experiments are configs/*.yaml")
    except yaml.YAMLError as error:
        _refuse(f"configuration '{path}' is not YAML: {error}")
    if not isinstance(config, dict):
        _refuse(f"configuration '{path}': expected keys such as model, data and trainer, got {type(config).__name__}")
    return config


def _flatten(config: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        # below init_args a dictionary is an argument's value
        if isinstance(value, dict) and (not prefix or key == "init_args"):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _fits(value: object, annotation: ast.expr | None) -> bool:
    """Whether `value` may be of a type written as `annotation`; True where that is beyond simple types."""
    if annotation is None or (isinstance(value, str) and "${" in value):
        return True
    if isinstance(annotation, ast.BinOp):
        return _fits(value, annotation.left) or _fits(value, annotation.right)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        choices = ast.literal_eval(annotation.slice)
        return value in (choices if isinstance(choices, tuple) else (choices,))
    name = ast.unparse(annotation)
    if name == "float" and isinstance(value, str):
        return _is_number(value)  # YAML reads 1e-3 as a string
    if name in ("int", "float") and isinstance(value, bool):
        return False
    if name == "str":
        return not isinstance(value, dict | list)
    return name not in SIMPLE_TYPES or isinstance(value, SIMPLE_TYPES[name])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nearest(name: str, known: object) -> str:
    found = difflib.get_close_matches(name, [str(k) for k in known], n=1)
    return f"; did you mean '{found[0]}'" if found else ""


def _refuse(message: str) -> NoReturn:
    print(f"train.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)
