"""Asking a run again with the answer shown: all but the prompt is as in its own validation, and nothing is lost."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from core import told
from core.algorithm import Encode, Trainer
from core.batch import collate
from core.config import default_config, write_config
from core.console import PlainConsole
from core.errors import InputError
from core.hints import Hints
from core.prompts import TeacherStyle
from core.rollouts import Group, Rollout
from core.run import build_trainer, run
from core.runfile import reading
from core.schema import ValidationRow
from core.told import StepAccuracy, ToldRow, TrainedRun, main
from core.verifier import Verdict, Verifier

N = 6
"""Held-out problems; a pass takes 4."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of OPSD, validated before, after the second and not after the first."""
    config = default_config("opsd")
    rollouts = dataclasses.replace(config.rollouts, problems_per_step=2, group_size=2)
    validation = dataclasses.replace(config.validation, problems=N, every=2)
    used = dataclasses.replace(config.record, evidence="used")
    small = {"rollouts": rollouts, "validation": validation, "record": used, "steps": 2, "checkpoint_every": 1}
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(dataclasses.replace(config, **small), folder, PlainConsole(), resume=False)
    return folder


@pytest.fixture(scope="module")
def asked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after the command."""
    folder = tmp_path_factory.mktemp("asked") / "run"
    shutil.copytree(trained, folder)
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def change(folder: Path, **changes) -> None:
    config = told.opened(folder).config
    write_config(dataclasses.replace(config, **changes), folder / "config.yaml")


def test_without_the_hint_a_checkpoint_answers_as_validation_recorded(trained: Path) -> None:
    with reading(trained / "run.duckdb") as connection:
        query = "SELECT problem_id, response, is_correct FROM validation WHERE step = 2 ORDER BY problem_id"
        recorded = connection.execute(query).fetchall()
    opened = told.opened(trained)
    with Verifier() as verifier:
        trainer = build_trainer(opened.config, verifier)
        untrained = {name: weight.detach().clone() for name, weight in trainer.policy.trainable.items()}
        told.restore(opened, 2, trainer)
        answers = [(row.problem_id, row.response, row.is_correct) for row in trainer.validate(2)]
    assert sorted(answers) == recorded
    assert len(recorded) == N
    assert any(not torch.equal(weight, untrained[name]) for name, weight in trainer.policy.trainable.items())


def test_every_step_asks_the_same_problems_in_their_order(asked: Path) -> None:
    rows = told.read_rows(asked / "told.csv")
    ids = [f"pocket/validation/0/{number}" for number in range(N)]
    assert [(row.step, row.problem_id) for row in rows] == [(step, i) for step in (0, 1, 2) for i in ids]
    assert (asked / "told.csv").read_text().startswith("step,problem_id,is_correct\n0,pocket/validation/0/0,")


def test_the_accuracy_without_is_the_one_that_validation_recorded(asked: Path) -> None:
    with reading(asked / "run.duckdb") as connection:
        query = "SELECT step, sum(is_correct::INTEGER) FROM validation GROUP BY step"
        right = dict(connection.execute(query).fetchall())
    found = told.accuracies(told.opened(asked), told.read_rows(asked / "told.csv"))
    assert [(line.step, line.n) for line in found] == [(0, N), (1, N), (2, N)]
    assert [line.without for line in found] == [right[0] / N, None, right[2] / N]  # step 1 was not validated


def test_a_run_that_was_asked_is_not_asked_again(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "validate", None)
    before = (asked / "told.csv").read_bytes()
    assert main([str(asked)]) == 0
    assert (asked / "told.csv").read_bytes() == before


def test_an_interrupted_command_keeps_its_answers_and_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def stops_once(self: Trainer, step: int, encode: Encode) -> list[ValidationRow]:
        steps.append(step)
        if steps == [0, 1]:
            raise KeyboardInterrupt
        return [
            ValidationRow(step=step, problem_id=name, response="", is_correct=step == 1, answer=None) for name in "ba"
        ]

    monkeypatch.setattr(Trainer, "validate", stops_once)
    assert main([str(folder)]) == 130
    assert told.read_rows(folder / "told.csv") == [ToldRow(0, "b", 0), ToldRow(0, "a", 0)]
    assert main([str(folder)]) == 0
    assert steps == [0, 1, 1, 2]
    answers = [(row.step, row.problem_id, row.is_correct) for row in told.read_rows(folder / "told.csv")]
    assert answers == [(0, "b", 0), (0, "a", 0), (1, "b", 1), (1, "a", 1), (2, "b", 0), (2, "a", 0)]


def test_answers_of_a_checkpoint_that_is_gone_are_kept(folder: Path, asked: Path) -> None:
    shutil.copy(asked / "told.csv", folder)
    shutil.rmtree(folder / "checkpoints" / "step-000001")
    shutil.copytree(folder / "checkpoints" / "step-000002", folder / "checkpoints" / "step-000002 copy")
    assert main([str(folder)]) == 0
    assert (folder / "told.csv").read_bytes() == (asked / "told.csv").read_bytes()


@pytest.mark.parametrize("sees_image", [True, False])
@pytest.mark.parametrize(
    "style", ["sample_answer", "reference_solution", "correct_solution", "after_generation_prompt"]
)
def test_the_prompt_is_the_one_the_runs_teachers_read(style: TeacherStyle, sees_image: bool) -> None:
    config = default_config("opsd")
    method = dataclasses.replace(config.method, teacher_style=style, teacher_sees_image=sees_image)
    # the student's limit is none for teachers, in training or here
    limited = dataclasses.replace(config.problems, max_prompt_tokens=1)
    with Verifier() as verifier:
        trainer = build_trainer(dataclasses.replace(config, method=method, problems=limited), verifier)
    problems = trainer.problems.validation(2)
    features = trainer.policy.look([problem.images for problem in problems])
    response = Rollout(torch.tensor([trainer.policy.end_token_id]), torch.zeros(1), "", is_truncated=False)
    groups = [Group(p, (response,), (Verdict(False, False, None),), (0.0,)) for p in problems]
    hints = [Hints((p.answer,), (None,), p.answer, None, None, False) for p in problems]
    batch = collate(trainer.policy, groups, features, hints)
    for group, prompt in enumerate(told.told(trainer, problems, features)):
        (owned,) = batch.teacher_sheaves(trainer.policy, group, "correct", trainer.prompting)
        assert torch.equal(prompt.token_ids, owned.sheaf.prompt.token_ids)
        assert torch.equal(prompt.positions, owned.sheaf.prompt.positions)
        assert (prompt.features is not None) == sees_image
        shown = trainer.policy.detokenise(prompt.token_ids.tolist())
        asked_plainly = trainer.policy.detokenise(batch.prompts[group].token_ids.tolist())
        assert shown.count(problems[group].answer) > asked_plainly.count(problems[group].answer)


def test_accuracies_are_shares_of_each_step() -> None:
    rows = [ToldRow(0, "a", 1), ToldRow(0, "b", 0), ToldRow(5, "a", 1), ToldRow(5, "b", 1)]
    found = told.accuracies(TrainedRun(Path(), default_config("sdpo"), {}, {0: 0.25}), rows)
    assert found == [StepAccuracy(0, 2, 0.5, 0.25), StepAccuracy(5, 2, 1.0, None)]


def test_json_is_the_last_line_and_alone_on_stdout(asked: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(asked), "--json"]) == 0
    printed, shown = capsys.readouterr()
    (report,) = json.loads(printed)["runs"]
    assert (report["method"], report["seed"], [s["step"] for s in report["steps"]]) == ("opsd", 0, [0, 1, 2])
    assert [s["n"] for s in report["steps"]] == [N] * 3
    assert f"{report['steps'][2]['with_hint']:.1%}" in shown
    assert "seed 0" in shown


def test_any_problem_id_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [ToldRow(0, hostile, 1) for hostile in ('a,"b"', "=1+1", "two\nlines", "", "\x1b[31m")]
    told.write_rows(rows, tmp_path / "told.csv")
    assert told.read_rows(tmp_path / "told.csv") == rows


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    told.write_rows([ToldRow(0, "a", 1)], tmp_path / "told.csv")
    (tmp_path / "told.csv.new").mkdir()
    with pytest.raises(InputError, match=r"told\.csv: cannot be written"):
        told.write_rows([], tmp_path / "told.csv")
    assert told.read_rows(tmp_path / "told.csv") == [ToldRow(0, "a", 1)]


def spoil_nothing_there(folder: Path) -> None:
    shutil.rmtree(folder)


def spoil_config(folder: Path) -> None:
    (folder / "config.yaml").unlink()


def spoil_checkpoints(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")


def spoil_run_file(folder: Path) -> None:
    (folder / "run.duckdb").unlink()


def spoil_weights(folder: Path) -> None:
    weights = folder / "checkpoints" / "step-000001" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def spoil_state(folder: Path) -> None:
    (folder / "checkpoints" / "step-000001" / "state.json").write_text("[]")


def spoil_method(folder: Path) -> None:
    change(folder, method=default_config("sdpo").method)


def spoil_model(folder: Path) -> None:
    change(folder, model=dataclasses.replace(told.opened(folder).config.model, path="/not/there"))


def spoil_answers(folder: Path) -> None:
    (folder / "told.csv").write_text("step,problem_id,is_correct\n0,a,yes\n")


def spoil_columns(folder: Path) -> None:
    (folder / "told.csv").write_text("")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_nothing_there, "holds no config.yaml; give the folder of a training run"),
        (spoil_config, "holds no config.yaml; give the folder of a training run"),
        (spoil_checkpoints, "holds no checkpoint; train the run here, or copy its whole folder"),
        (spoil_run_file, "run.duckdb cannot be read as a run file"),
        (spoil_weights, "step-000001: cannot be read"),
        (spoil_state, "step-000001: cannot be read"),
        (spoil_method, "is of method 'opsd', the run's configuration says 'sdpo'"),
        (spoil_model, "model.path '/not/there': expected a model folder or a hub id"),
        (spoil_answers, "told.csv: expected step, problem_id, is_correct on every line"),
        (spoil_columns, "told.csv: expected step, problem_id, is_correct on every line"),
    ],
)
def test_bad_input_costs_one_line(spoil, said: str, folder: Path, asked: Path, capsys: pytest.CaptureFixture) -> None:
    # step 0 is answered already, for speed: what is wrong is met after it
    answers = [row for row in told.read_rows(asked / "told.csv") if row.step == 0]
    told.write_rows(answers, folder / "told.csv")
    spoil(folder)
    assert main([str(folder)]) == 2
    printed, errors = capsys.readouterr()
    assert (printed, len(errors.splitlines())) == ("", 1)
    assert said in errors
    assert str(folder) in errors or "model.path" in errors
