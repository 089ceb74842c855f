"""Jobs are done a few at a time, one crew to a folder, and a failure costs the others nothing."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from analysis.jobs import Crew, Job
from core.errors import InputError


@pytest.fixture
def crew(tmp_path) -> Crew:
    return Crew(tmp_path / "place", 2, Console(file=io.StringIO()))


def module(folder, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def test_every_job_is_done_and_told(crew, tmp_path, monkeypatch):
    module(tmp_path, "touch", "import sys, pathlib; pathlib.Path(sys.argv[1]).touch()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    crew.do([Job(f"j{i}", lambda i=i: ["touch", tmp_path / f"done{i}"]) for i in range(3)], "work")
    assert all((tmp_path / f"done{i}").exists() for i in range(3))
    assert not crew.failures
    assert "work: 3 of 3" in crew.console.file.getvalue()


def test_a_failure_is_kept_in_its_last_words_and_the_others_go_on(crew, tmp_path, monkeypatch):
    module(tmp_path, "fails", "import sys; print('\\x1b[31mno disk', file=sys.stderr); sys.exit(4)")
    module(tmp_path, "touch", "import sys, pathlib; pathlib.Path(sys.argv[1]).touch()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    crew.do([Job("bad", lambda: ["fails"]), Job("good", lambda: ["touch", tmp_path / "done"])], "work")
    assert crew.failures == {"bad": "exit status 4:  [31mno disk"}
    assert (tmp_path / "done").exists()


def test_a_folder_has_one_crew_at_a_time(crew):
    crew.folder.mkdir()
    with (crew.folder / "study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another study, or a run that one has started, still works there"):
            crew.do([Job("j", lambda: ["this"])], "work")


def test_work_that_outlives_its_crew_keeps_the_folder(crew, tmp_path, monkeypatch):
    module(tmp_path, "slow", "import sys, pathlib, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)")
    script = (
        "import sys, pathlib; from rich.console import Console; from analysis.jobs import Crew, Job;"
        "Crew(pathlib.Path(sys.argv[1]), 1, Console()).do([Job('j', lambda: ['slow', sys.argv[2]])], 'work')"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    started = tmp_path / "started"
    arguments = [sys.executable, "-c", script, str(crew.folder), str(started)]
    first = subprocess.Popen(arguments, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not started.exists():
            assert time.monotonic() < deadline, "the job never started"
            time.sleep(0.05)
        first.kill()  # the crew alone, as kill -9 does; its job lives on
        first.wait()
        with pytest.raises(InputError, match="still works there"):
            crew.do([Job("j", lambda: ["this"])], "work")
    finally:
        os.killpg(first.pid, signal.SIGKILL)
