"""Refuses a mistyped option at once: a sweep's typo should not cost the import of torch and Lightning.

Signatures are read from source, not imported. What cannot be judged so is let through: LightningCLI's parser has the
last word, with the same rules.
"""

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import yaml

from lightning_modules.run_options import RUN_OPTIONS, SUBCOMMANDS

TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
# Options of LightningCLI and jsonargparse themselves.
OTHER_OPTIONS = {"config", "c", "help", "h", "print_config", "seed_everything", "ckpt_path", "trainer", "model", "data"}
SIMPLE_TYPES = {"int": (int,), "float": (int, float), "bool": (bool,), "None": (type(None),)}


class Signature(NamedTuple):
    """What a class's constructor takes."""

    name: str
    parameters: dict[str, ast.expr | None]
    open: bool  # takes **kwargs


def preflight(arguments: list[str]) -> None:
    """Exit with code 2 and a message that names the option if `arguments` cannot be right."""
    if not arguments or arguments[0].startswith("-"):
        return
    if arguments[0] not in SUBCOMMANDS:
        _refuse(f"unknown subcommand '{arguments[0]}'; it is one of {', '.join(SUBCOMMANDS)}")
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
    signatures = {group: _signature(path, group) for group, path in classes.items()}
    for key, value in settings:
        _check(key, value, signatures)


def experiment_name(arguments: list[str]) -> str:
    """The name of the first configuration file, without its ending."""
    files = [value for key, value in _options(arguments) if key in ("config", "c")]
    if not files:
        _refuse("no --config given: name an experiment's file (configs/*.yaml), or the run with --experiment")
    return Path(files[0]).stem


def _check(key: str, value: object, signatures: dict[str, Signature | None]) -> None:
    group, _, rest = key.partition(".")
    if not rest:
        known = OTHER_OPTIONS | set(RUN_OPTIONS)
        if group not in known:
            _refuse(f"unknown option '{key}'{_nearest(group, known)}")
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


def _signature(class_path: str, group: str) -> Signature | None:
    """The constructor's signature read from source; None where the source cannot tell."""
    module, _, name = class_path.rpartition(".")
    if not module:
        return None
    if (source := _source(module)) is None:
        root = _source(module.partition(".")[0])
        if root is not None and root.name == "__init__.py":
            _refuse(f"{group}: there is no module '{module}' (class_path '{class_path}')")
        return None
    tree = ast.parse(source.read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            for alias in getattr(node, "names", [])
            if isinstance(alias, ast.alias)
        }
        if name not in imported:
            _refuse(f"{group}: module '{module}' has no class '{name}'{_nearest(name, classes)}")
        return None
    for node in classes[name].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
            return Signature(name, {a.arg: a.annotation for a in arguments}, node.args.kwarg is not None)
    return None


def _source(module: str) -> Path | None:
    relative = module.replace(".", "/")
    for folder in sys.path:
        for candidate in (Path(folder, f"{relative}.py"), Path(folder, relative, "__init__.py")):
            if candidate.is_file():
                return candidate
    return None


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
