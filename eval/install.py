"""Whether what an evaluation needs is installed, and the command that installs it."""

from importlib.metadata import PackageNotFoundError, version

from core.errors import InputError

INSTALL = "pip install -e '.[eval]' && pip install --no-deps lmms-eval==0.7.3 latex2sympy2==1.9.1"
"""The second half goes in without its dependencies: resolved normally it replaces torch by a CUDA build and math-verify
by a version from before verification worked."""

NEEDED = {
    "lmms-eval": "0.7.3",
    "latex2sympy2": "1.9.1",
    "math-verify": "0.9",
    "antlr4-python3-runtime": "4.9.3",
    "datasets": "",
    "evaluate": "",
    "loguru": "",
    "openai": "",
    "pytablewriter": "",
    "pytz": "",
    "sacrebleu": "",
    "tenacity": "",
}
"""Packages and how their versions must begin; another one scores otherwise, or not at all."""


def check_installed() -> None:
    """Refuse to start without what lmms-eval needs, in one line with the command that helps."""
    for package, expected in NEEDED.items():
        found = _version(package)
        if found is None:
            raise InputError(f"{package} is not installed; install the benchmarks' part of Credence: {INSTALL}")
        if not f"{found}.".startswith(f"{expected}." if expected else ""):
            raise InputError(f"{package} is {found}, expected {expected}; install it anew: {INSTALL}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
