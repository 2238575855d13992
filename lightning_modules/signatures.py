"""What a class's constructor takes, read from source: importing it would cost seconds."""

import ast
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_OWN = ("ops", "datamodules", "lightning_modules")


class Signature(NamedTuple):
    """What a class's constructor takes."""

    name: str
    parameters: dict[str, ast.expr | None]
    open: bool  # takes **kwargs
    fields: dict[str, tuple[str, ...]]  # parameters whose values are dataclasses, and the names of their fields


def read_signature(class_path: str) -> Signature | None:
    """The constructor's signature; None where the source cannot tell.

    Raises:
        LookupError: there is no such module, or it has no such class (with the name and those it has).
    """
    module, _, name = class_path.rpartition(".")
    if not module:
        return None
    if (source := _source(module)) is None:
        root = _source(module.partition(".")[0])
        if root is not None and root.name == "__init__.py":
            raise LookupError(f"there is no module '{module}' (class_path '{class_path}')")
        return None
    tree = _parsed(source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        if name not in _imported(tree):
            raise LookupError(f"module '{module}' has no class '{name}'", name, list(classes))
        return None
    for node in classes[name].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
            parameters = {a.arg: a.annotation and _Aliases(tree).visit(a.annotation) for a in arguments}
            fields = {a.arg: found for a in arguments if (found := _fields(a.annotation, tree))}
            return Signature(name, parameters, node.args.kwarg is not None, fields)
    return None


class _Aliases(ast.NodeTransformer):
    """Puts what an alias stands for, such as a Literal, in its place."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = _definition(node.id, self.tree)
        known = isinstance(found, ast.Assign) and isinstance(found.value, ast.Subscript)
        return found.value if known and ast.unparse(found.value.value) == "Literal" else node


def _fields(annotation: ast.expr | None, tree: ast.Module) -> tuple[str, ...]:
    """Field names of the dataclass in an annotation such as `CropRule | None`."""
    for node in ast.walk(annotation) if annotation is not None else ():
        found = _definition(node.id, tree) if isinstance(node, ast.Name) else None
        if isinstance(found, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in found.decorator_list):
            return tuple(each.target.id for each in found.body if isinstance(each, ast.AnnAssign))
    return ()


def _definition(name: str, tree: ast.Module) -> ast.stmt | None:
    """Where a module-level name is given its meaning, in the module or in the one that it is imported from."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node
    module = _imported(tree).get(name, "")
    # reading what others wrote takes seconds and tells nothing that is checked
    source = _source(module) if module.partition(".")[0] in _OWN else None
    # a package's __init__ passes names on: one step is enough for what this project writes
    return _definition(name, _parsed(source)) if source and source.name != "__init__.py" else None


@lru_cache(maxsize=64)
def _imported(tree: ast.Module) -> dict[str, str]:
    """Imported names and the modules that they are from; "" for modules themselves."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node.module or "" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: "" for alias in node.names}
    return found


@lru_cache(maxsize=64)
def _parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_text())


def _source(module: str) -> Path | None:
    relative = module.replace(".", "/")
    for folder in sys.path:
        for candidate in (Path(folder, f"{relative}.py"), Path(folder, relative, "__init__.py")):
            if candidate.is_file():
                return candidate
    return None
