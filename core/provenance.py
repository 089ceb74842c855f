"""Which code made a file: its commit, and the versions of the libraries it ran on."""

import json
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path


def git_commit() -> str:
    """Commit of the code that runs; empty where it is not a git checkout."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def versions(libraries: Iterable[str]) -> str:
    """Versions of libraries and of Python, as a JSON object."""
    return json.dumps({name: version(name) for name in libraries} | {"python": platform.python_version()})
