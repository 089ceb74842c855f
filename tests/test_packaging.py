"""What is installed is this repository, and a wheel of it is complete."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "app", "analysis", "eval")
DATA = (".jinja", ".yaml", ".json", ".safetensors", ".csv", ".js", ".css", ".png", ".duckdb", ".parquet")


def data_files() -> set[str]:
    """What the packages need besides their modules, relative to the repository."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.suffix in DATA)
    return {file.relative_to(ROOT).as_posix() for file in files}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_imported_from_this_repository_wherever_one_stands(package: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import {package} as package; print(package.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(ROOT)


def test_nothing_in_the_app_shadows_a_package() -> None:
    # `streamlit run app/main.py` puts app/ in front of everything else on the path
    names = {path.stem for path in (ROOT / "app").iterdir()} - {"__init__", "__pycache__"}
    taken = {*PACKAGES, "pages", *sys.stdlib_module_names, *packages_distributions()}
    assert not names & taken


def test_tests_are_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_what_the_packages_read_is_in_the_repository() -> None:
    files = data_files()
    assert {Path(file).suffix for file in files} == set(DATA)
    git = shutil.which("git")
    assert git, "expected git, to ask which files it ignores"
    command = [git, "-C", str(ROOT), "check-ignore", "--no-index", "--stdin"]
    ignored = subprocess.run(command, input="\n".join(files), capture_output=True, text=True, check=False)
    assert (ignored.returncode, ignored.stdout) == (1, ""), "an ignored file is neither in a clone nor in a wheel"


def test_a_wheel_holds_the_modules_and_what_they_read(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    built = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        inside = set(wheel.namelist())
    modules = {file.relative_to(ROOT).as_posix() for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert data_files() | modules <= inside
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == set(PACKAGES)
