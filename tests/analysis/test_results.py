"""RESULTS.md is what its command writes from the recorded study, and says whatever is missing."""

import runpy
from pathlib import Path
from types import SimpleNamespace

from analysis import results
from analysis.claims import VERDICTS, claims
from analysis.notebook import sources
from analysis.recorded import read_study, write_study

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))
ROOT = Path(__file__).parents[2]


def test_what_stands_in_the_repository_is_what_the_command_writes_today():
    text, pictures = results.written(sources())
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == text
    folder = ROOT / results.PICTURES
    assert {path.name for path in folder.iterdir()} == set(pictures)
    assert all(f"({results.PICTURES.as_posix()}/{name})" in text for name in pictures)


def test_every_claim_has_a_line_and_every_verdict_its_count(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SECTIONS", {"λ and ε_w": ("figure-3", "table-4")})
    write_study(made_up.made_up_study(), tmp_path / "study")
    assert results.main(["--study", str(tmp_path / "study"), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert all(text.count(f" {verdict}") for verdict in VERDICTS)
    lines = [line for line in text.splitlines() if line.startswith("| ") and line.rstrip(" |").endswith(VERDICTS)]
    assert len(lines) == len(claims())
    assert "commit abcdef012" in text
    assert (tmp_path / results.PICTURES / "figure-3.svg").exists()


def test_a_folder_without_a_study_is_told_in_one_line(tmp_path, capsys):
    assert results.main(["--study", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "holds no recorded study; python -m analysis.study --out" in " ".join(capsys.readouterr().err.split())


def test_a_study_is_read_back_as_it_was_written(tmp_path):
    study = made_up.made_up_study()
    write_study(study, tmp_path)
    again = read_study(tmp_path)
    assert again.about == study.about
    assert again.runs.equals(study.runs)
    assert again.validation.reset_index(drop=True).equals(study.validation.reset_index(drop=True))


def test_the_recorded_study_names_no_machine_and_is_small():
    study = read_study()
    texts = [str(value) for table in (study.runs, study.evaluations) for value in table.to_numpy().ravel()]
    assert not [text for text in texts if "/tmp/" in text or "/root" in text or "/home" in text or "/work" in text]
    size = sum(path.stat().st_size for path in results.FOLDER.iterdir())
    assert size < 20e6
