"""The wheel holds every package, under the one name lhcc, and importing lhcc stays light."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
# What takes long to import, and what a user of one feature may not have installed.
HEAVY = ("tvm", "tvm_ffi", "torch", "onnx", "onnxruntime", "openvino", "scipy", "sklearn", "matplotlib", "rich", "h5py")


def setuptools_table() -> dict[str, object]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert isinstance(table, dict)
    return table


def package_folders() -> set[str]:
    """Dotted names of all folders that hold Python files, under lhcc/ and behind its two symlinks."""
    found = set()
    for name, folder in (("lhcc", "lhcc"), ("lhcc.passes", "passes"), ("lhcc.targets", "targets")):
        for file in (ROOT / folder).rglob("*.py"):
            inside = file.parent.relative_to(ROOT / folder).parts
            if folder != "lhcc" or inside[:1] not in {("passes",), ("targets",)}:
                found.add(".".join((name, *inside)))
    return found


def test_every_package_folder_is_listed() -> None:
    listed = setuptools_table()["packages"]
    assert isinstance(listed, list)
    assert sorted(listed) == sorted(package_folders())


def test_symlinks_resolve_to_the_top_level_folders() -> None:
    for name in ("passes", "targets"):
        assert (ROOT / "lhcc" / name).is_symlink()
        assert (ROOT / "lhcc" / name).resolve() == ROOT / name


def test_the_wheels_only_top_level_name_is_lhcc(tmp_path: Path) -> None:
    # A copy without build/: setuptools would reuse whatever an earlier build left there.
    subprocess.run(
        [sys.executable, "-c", "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])", str(tmp_path)],
        cwd=copy_of_sources(tmp_path / "src"),
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"lhcc"}
    held = {str(Path(name).parent).replace("/", ".") for name in names if name.endswith(".py")}
    assert package_folders() <= held


def copy_of_sources(to: Path) -> Path:
    import shutil

    to.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, to / name)
    for name in ("lhcc", "passes", "targets"):
        shutil.copytree(ROOT / name, to / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def test_importing_lhcc_imports_nothing_heavy() -> None:
    code = "import sys, lhcc; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not set(HEAVY) & set(done.stdout.split())
