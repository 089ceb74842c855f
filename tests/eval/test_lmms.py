"""lmms-eval itself behind the command: what it is asked, what its scorers say, and its own files and command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from analysis.eval_store import EvalStore
from core.errors import InputError
from core.sampling import Sampling
from eval.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("eval")
pytest.importorskip("lmms_eval", reason="lmms-eval is installed apart from the rest")

PAPER = Sampling(max_new_tokens=32_000, temperature=1.0, top_p=1.0, top_k=40, presence_penalty=2.0)
SCORES = {
    "dynamath": [1, 1, 0, 0, 0],
    "logicvista": [1, 0, 1, 0, 1],
    "mathvision_mini": [1, 1, 0, 1, 0],  # its scorer reads boxes alone
    "mmmu": [1, 0, 1, None, 1],  # no box is read: an option is drawn
    "mmmu_reasoning": [1, 1, 1, 0, 0],
    "wemath": [1, 1, 1, 0, 1],
}
"""Of `conftest.SCRIPT`, by hand."""
UNREAD = {("dynamath", 3), ("logicvista", 3), ("mathvision_mini", 2), ("mmmu", 3), ("mmmu_reasoning", 4)}
"""Answers in which the scorer finds nothing."""
LMMS_TASKS = {
    "dynamath_reasoning": "dynamath_average",
    "logicvista_reasoning": "acc_score",
    "mathvision_testmini": "mathvision_standard_eval",
    "mmmu_val": "mmmu_acc",
    "mmmu_val_reasoning": "acc_score",
    "wemath_testmini_reasoning": "acc_score",
}
"""lmms-eval's names, and the headline of each."""


@pytest.fixture(scope="module")
def lmms(pocket_data):
    """What may be imported only where lmms-eval is."""
    from lmms_eval.utils import simple_parse_args_string

    from eval.lmms import model

    return SimpleNamespace(model=model, parsed=simple_parse_args_string)


@pytest.fixture(scope="module")
def items(six):
    """The items of the six benchmarks: by benchmark, in the order of the rows."""
    return {task: six[0].items(task) for task in SCORES}


def test_every_answer_gets_the_score_that_the_official_scorer_gives_it_by_hand(six, items):
    assert six[0].status == 0
    for task, expected in SCORES.items():
        found = [item.score for item in items[task]]
        assert len(found) == 5
        assert found == [score if by_hand is None else by_hand for score, by_hand in zip(found, expected, strict=True)]
        assert set(found) <= {0.0, 1.0}


def test_what_the_scorer_cannot_read_has_no_answer_and_all_else_has(items):
    unread = {(task, row) for task, rows in items.items() for row, item in enumerate(rows) if item.answer is None}
    assert unread == UNREAD
    assert items["dynamath"][0].answer == r"\frac{270}{2}"
    assert items["logicvista"][4].answer == "C"
    assert items["mmmu"][0].answer == "186.0"


def test_mmmus_drawn_options_are_told_as_a_share(six):
    shares = six[0].rows("SELECT task, score FROM scores WHERE metric = 'unparsed_share'")
    assert shares == [("mmmu", pytest.approx(1 / 3))]  # of three multiple-choice items
    assert "on MMMU lmms-eval then draws an option at random" in " ".join(six[0].out.split())


def test_a_thought_is_not_scored_but_kept_with_its_blank_lines(items):
    thoughtful = items["dynamath"][1]
    assert (thoughtful.answer, thoughtful.score) == ("80", 1.0)
    assert thoughtful.response == "<think>\n\n<answer>1</answer></think>\n<answer>80</answer>"


def test_an_item_says_what_was_asked_and_what_was_right(items):
    item = items["logicvista"][4]
    assert item.question == "Find x.\nA. 123\nB. 56\nC. 124\nD. 134"
    assert (item.target, item.cluster, item.n_tokens, item.truncated) == ("C", None, 1, False)
    assert [each.cluster for each in items["dynamath"]] == ["1"] * 5
    assert [len(json.loads(each.image_ids)) for each in items["mmmu"]] == [2, 2, 1, 1, 1]


def test_each_benchmark_has_one_headline_the_mean_of_its_items_and_lmms_evals_own(six, items):
    ended, _ = six
    rows = ended.rows("SELECT task, metric, score, n FROM scores WHERE is_headline ORDER BY task")
    assert [row[:2] for row in rows] == list(zip(SCORES, LMMS_TASKS.values(), strict=True))
    reported = {}
    for file in ended.folder.glob("lmms-eval/*/*_results.json"):
        reported |= json.loads(file.read_text())["results"]
    for (task, metric, score, n), name in zip(rows, LMMS_TASKS, strict=True):
        assert n == 5
        assert score == pytest.approx(sum(item.score for item in items[task]) / 5)
        scale = 100 if task == "mathvision_mini" else 1
        assert reported[name][f"{metric},none"] / scale == pytest.approx(score, abs=5e-5)


def test_lmms_evals_own_files_are_there_for_its_viewer(six):
    ended, _ = six
    (folder,) = ended.folder.glob("lmms-eval/*")
    for task in LMMS_TASKS:
        (file,) = folder.glob(f"*_samples_{task}.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["doc_id"] for line in lines] == [0, 1, 2, 3, 4]
        assert file.with_name(file.name.replace(f"_samples_{task}.jsonl", "_results.json")).is_file()
    raw = json.loads(next(folder.glob("*_samples_dynamath_reasoning.jsonl")).read_text().splitlines()[1])
    assert raw["filtered_resps"] == "<answer>80</answer>"
    assert raw["resps"].startswith("<think>")


def test_the_workbench_reads_the_file(six):
    ended, _ = six
    (evaluation,), unreadable = EvalStore(ended.evals).read()
    assert unreadable == []
    assert evaluation.finished_tasks == tuple(SCORES)
    about = evaluation.about
    assert (about.status, about.label, about.model, about.prompt) == (
        "finished", "Base", "pocket", "student, lmms-eval 0.7.3",
    )  # fmt: skip
    assert json.loads(about.sampling) == vars(PAPER)
    item = evaluation.file.answers("mmmu", "validation_Accounting_1")[0]
    pictures = evaluation.file.images(item)
    assert len(pictures) == 2
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_every_task_is_asked_with_the_papers_sampling_mmmu_too(six):
    _, scripted = six
    assert scripted.samplings == [PAPER] * 6  # MMMU's own settings allow 128 tokens
    assert [type(value) for value in vars(scripted.samplings[0]).values()] == [int, float, float, int, float]
    assert sorted({question.task for question in scripted.asked}) == sorted(SCORES)
    assert len(scripted.asked) == 30


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=12, temperature=0.0, top_p=0.95, top_k=0, presence_penalty=-0.5),
        Sampling(max_new_tokens=1, temperature=1e-6, top_p=1e-5, top_k=1, presence_penalty=0.0),
    ],
)
def test_sampling_comes_back_from_lmms_eval_as_it_went(sampling, lmms):
    assert lmms.model.sampling_from(lmms.parsed(lmms.model.generation_settings(sampling))) == sampling


def test_without_a_temperature_the_answer_is_greedy_and_until_cuts_nothing(lmms):
    settings = {"max_new_tokens": 128, "until": ["\n\n"], "do_sample": False, "num_beams": 1}
    assert lmms.model.sampling_from(settings) == Sampling(max_new_tokens=128, temperature=0.0)


@pytest.mark.parametrize("name", ["max_tokens", "seed", "max_gen_toks"])
def test_a_setting_that_would_be_ignored_is_refused(name, lmms):
    with pytest.raises(InputError, match=name) as caught:
        lmms.model.sampling_from({"max_new_tokens": 16_384, name: 32_000})
    assert ("the token limit is max_new_tokens" in str(caught.value)) == (name == "max_tokens")


def test_scoring_uses_no_threads_and_the_scorers_are_not_asked_for_pictures(evaluate, script, monkeypatch):
    import eval.lmms.running as running

    seen = []
    real = running.simple_evaluate
    monkeypatch.setattr(running, "simple_evaluate", lambda **given: [seen.append(given), real(**given)][1])
    script(lambda question: r"\boxed{\frac{142}{2}}")
    ended = evaluate("--tasks", "logicvista", "--limit", 1)
    assert [given["process_docs_parallel"] for given in seen] == [1]
    assert [given["cli_args"].process_with_media for given in seen] == [False]
    assert ended.rows("SELECT score FROM items") == [(1.0,)]


def test_the_official_prompt_is_the_tasks_own_and_the_students_is_trainings(evaluate, script):
    asked = {}
    for prompt in ("official", "student"):
        scripted = script(lambda question: "A")
        evaluate("--tasks", "mmmu", "--limit", 3, "--prompt", prompt)
        asked[prompt] = {question.row: question.messages for question in scripted.asked}[2]
    (official,) = asked["official"]
    texts = "".join(part.get("text", "") for part in official["content"])
    assert texts.endswith("Answer with the option's letter from the given choices directly.")
    assert [part["type"] for part in official["content"]].count("image") == 1
    assert "option's letter" not in json.dumps(asked["student"])
    assert "A. 34" in json.dumps(asked["student"])


def test_a_scorer_that_fails_names_benchmark_and_item_and_the_others_go_on(evaluate, script, monkeypatch):
    def guarded(task, score, **options):
        def broken(doc, results):
            return {}["nothing"] if task == "logicvista" and doc["question_id"] == "2" else score(doc, results)

        return Sandbox(task, broken, **options)

    scripted = script(lambda question: r"\boxed{71}")
    with monkeypatch.context() as patch:
        patch.setattr("eval.lmms.tasks.Sandbox", guarded)
        ended = evaluate("--tasks", "logicvista,wemath", "--limit", 2)
    assert ended.status == 3
    (line,) = [line for line in ended.err.splitlines() if "failed" in line]
    assert line.startswith("logicvista, seed 0, failed: ")
    assert "logicvista/2/" in line
    assert ended.rows("SELECT status FROM evaluation") == [("failed",)]
    assert ended.rows("SELECT DISTINCT task FROM items") == [("wemath",)]
    assert len(scripted.asked) == 4

    script()  # mended, nothing has to be asked again
    ended = evaluate("--tasks", "logicvista,wemath", "--limit", 2)
    assert ended.status == 0
    assert ended.rows("SELECT status, reason FROM evaluation") == [("finished", None)]
    assert ended.rows("SELECT score FROM items WHERE task = 'logicvista' ORDER BY item_id") == [(1.0,), (0.0,)]


def test_an_answer_of_200_kilobytes_is_scored_and_kept(evaluate, script):
    long = "so it goes " * 20_000 + r"\boxed{71}"
    script(lambda question: long if question.row == 0 else "")
    ended = evaluate("--tasks", "logicvista,wemath", "--limit", 2)
    assert ended.status == 0
    assert ended.rows("SELECT score, response FROM items WHERE task = 'logicvista' AND item_id = '1'") == [(1.0, long)]


def test_the_model_answers_to_lmms_evals_own_command(pocket_data, tmp_path):
    tasks = Path(sys.modules["lmms_eval"].__file__).parent / "tasks"
    (tmp_path / "tasks").mkdir()
    for name, config in (
        ("logicvista", "logicvista/reasoning/logicvista_thinking.yaml"),
        ("wemath", "wemath/reasoning/wemath_testmini_thinking.yaml"),
    ):
        content = {"include": str(tasks / config), "task": f"credence_{name}", "dataset_kwargs": None}
        content |= {"dataset_path": str(pocket_data / name)}
        content |= {"metric_list": [{"metric": "acc_score", "aggregation": "mean", "higher_is_better": True}]}
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "credence"),
        *("--model_args", "pretrained=pocket,prompt=student", "--include_path", str(tmp_path / "tasks")),
        *("--tasks", "credence_logicvista,credence_wemath", "--limit", "2", "--process_docs_parallel", "1"),
        *(
            "--gen_kwargs",
            "temperature=0.0,max_new_tokens=512",
            "--log_samples",
            "--output_path",
            str(tmp_path / "out"),
        ),
    ]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=240)
    print(done.stdout[-3000:], done.stderr[-3000:])
    (results,) = (tmp_path / "out").glob("**/*_results.json")
    report = json.loads(results.read_text())
    assert {name: count["effective"] for name, count in report["n-samples"].items()} == {
        "credence_logicvista": 2, "credence_wemath": 2,
    }  # fmt: skip
    said = {}
    for name in ("logicvista", "wemath"):
        (file,) = (tmp_path / "out").glob(f"**/*_samples_credence_{name}.jsonl")
        said[name] = [json.loads(line)["filtered_resps"] for line in file.read_text().splitlines()]
    assert all("boxed" in text for texts in said.values() for text in texts)
    assert said["logicvista"] != said["wemath"]  # each task got its own answers
