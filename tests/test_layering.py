"""Who may import whom: the house rule, kept by reading the imports."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHODS = {"deephps", "neverova", "dhpe", "cross_modal_vae"}
# package -> what it must not import
FORBIDDEN = {
    "ops": {"lightning", "pytorch_lightning", "wandb", "kornia", "torchmetrics", "datamodules", "lightning_modules"},
    "datamodules": {"lightning_modules", "wandb"},
    "lightning_modules": {"benchmarks"},
}
GPU_PACKAGES = {"nvdiffrast", "triton", "faiss"}
# triton kernels must be defined at a module's top level; such modules are imported inside calls only
KERNEL_MODULES = {path.relative_to(ROOT) for path in (ROOT / "ops").rglob("triton_*.py")}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_what_lies_below_them(package):
    for path in files(package):
        roots = {name.split(".")[0] for name in imports(path)}
        wrong = roots & FORBIDDEN[package]
        if package == "lightning_modules":
            # of the datamodules, a method knows the batch contract alone
            wrong |= {n for n in imports(path) if n.startswith("datamodules.") and n.split(".")[1] != "batch"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_method_imports_another_method_and_no_callback_imports_a_method():
    for path in files("lightning_modules"):
        own = path.stem if path.parent.name == "lightning_modules" else None
        others = {f"lightning_modules.{method}" for method in METHODS - {own}}
        found = {name for name in imports(path) if any(name == o or name.startswith(o + ".") for o in others)}
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_gpu_packages_are_imported_inside_calls_only():
    for package in ("ops", "datamodules", "lightning_modules"):
        for path in files(package):
            if path.relative_to(ROOT) in KERNEL_MODULES:
                continue
            found = imports(path, top_level_only=True)
            roots = {name.split(".")[0] for name in found} & GPU_PACKAGES
            kernels = {n for n in found if n.split(".")[-1].startswith("triton_")}
            assert not roots | kernels, f"{path.relative_to(ROOT)} imports {roots | kernels} at its top"


def test_the_house_imports_without_gpu_packages():
    import ops.hand_model
    import ops.render  # noqa: F401

    assert "nvdiffrast" not in sys.modules
