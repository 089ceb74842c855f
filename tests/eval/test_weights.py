"""Whose weights answer: provenance of folders and runs, adapters that are really applied, bad input in one line."""

import json
import logging
import shutil
from dataclasses import replace
from datetime import datetime
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import huggingface_hub.constants
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load, save_file

from core import runfile
from core.config import POCKET_BASE
from core.engines.local_engine import LocalEngine
from core.errors import InputError
from core.pocket import pocket_problem
from core.policy import LORA_LAYERS, Policy, load_pretrained
from core.prompts import student_prompt
from core.schema import RunRow
from core.scoring import Sheaf
from eval.weights import Weights, load_policy, resolve

ADAPTER_WEIGHTS = "adapter_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHIPPED = Weights(path=str(POCKET_BASE), model="pocket", method="base", label="Base")


@pytest.fixture(scope="module")
def trained_adapter(tmp_path_factory) -> Path:
    """A LoRA of the shipped base that changes its answers; not to be written to."""
    folder = tmp_path_factory.mktemp("adapter") / "model"
    model, tokenizer, _ = load_pretrained(str(POCKET_BASE), torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=LORA_LAYERS))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for p in tuned.parameters() if p.requires_grad):
            parameter.copy_(0.07 * torch.randn(parameter.shape, generator=draw))
    tuned.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(trained_adapter, tmp_path) -> Path:
    """A copy to spoil, outside any run."""
    return Path(shutil.copytree(trained_adapter, tmp_path / "lora"))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A folder with all weights of a pocket model, outside any run."""
    return Path(shutil.copytree(POCKET_BASE, tmp_path / "merged"))


def run_of(folder: Path, model: Path | None, *, method: str = "cepo", base: str = "pocket") -> Path:
    """A run folder whose training ended in a model, or has not ended yet."""
    folder.mkdir()
    now = datetime(2026, 1, 2, 3, 4, 5)
    row = RunRow(
        run_id="cepo-s3", method=method, seed=3, model=base, problems="p", config="{}", git_commit="", versions="{}",
        device="cpu", teacher_source="", teacher_sees_image=True, started_at=now, heartbeat_at=now, steps_planned=9,
    )  # fmt: skip
    runfile.create(folder / "run.duckdb", row, [])
    if model is not None:
        shutil.copytree(model, folder / "model")
    return folder


def change_config(folder: Path, name: str, **changes: object) -> Path:
    """Rewrite a JSON file of a folder."""
    content = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps(content))
    return folder


def tensors_of(file: Path) -> dict[str, torch.Tensor]:
    """A file's tensors, not mapped to it: it is going to be written over."""
    return load(file.read_bytes())


def change_tensors(adapter: Path, change) -> Path:
    """Rewrite the tensors of an adapter, name by name."""
    tensors = dict(change(name, tensor) for name, tensor in tensors_of(adapter / ADAPTER_WEIGHTS).items())
    save_file(tensors, adapter / ADAPTER_WEIGHTS)
    return adapter


def encoded(policy: Policy) -> list:
    problems = [pocket_problem("validation", i, 0) for i in range(3)]
    features = policy.look([problem.images for problem in problems])
    return [policy.encode(student_prompt(p), seen) for p, seen in zip(problems, features, strict=True)]


def sampled(policy: Policy) -> list[list[int]]:
    groups = LocalEngine(policy).rollouts(encoded(policy), 2, 24, 1.0, seed=5)
    return [rollout.token_ids.tolist() for group in groups for rollout in group]


@torch.no_grad()
def log_probs(policy: Policy, answers: list[list[int]]) -> torch.Tensor:
    """log P of given answers, two to each prompt."""
    pairs = zip(encoded(policy), answers[::2], answers[1::2], strict=True)
    scores, _ = policy.score([[Sheaf(prompt, (torch.tensor(a), torch.tensor(b)))] for prompt, a, b in pairs])
    return scores


def refusal(model: str | Path | None = None, adapter: Path | None = None) -> str:
    """The one line that bad input gets, when it is resolved or, at the latest, loaded."""
    with pytest.raises(InputError) as caught:
        load_policy(resolve(None if model is None else str(model), adapter), "cpu")
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize("name", [None, "pocket", str(POCKET_BASE), "/elsewhere/credence/core/pocket/base"])
def test_the_shipped_base_is_meant_by_nothing_by_its_name_and_by_its_folder(name):
    assert resolve(name) == SHIPPED


@pytest.mark.parametrize("below", ["", "model"])
def test_a_fully_trained_run_gives_its_model_method_and_seed(tmp_path, below):
    run = run_of(tmp_path / "x", POCKET_BASE)
    folder = str(run / "model")
    expected = Weights(
        path=folder, model="pocket", method="cepo", label="CEPO", adapter_name=folder, run_id="cepo-s3", run_seed=3
    )
    assert resolve(str(run / below)) == expected


def test_a_run_that_names_the_shipped_base_by_its_folder_names_it_pocket(tmp_path):
    assert resolve(str(run_of(tmp_path / "x", POCKET_BASE, base=str(POCKET_BASE)))).model == "pocket"


@pytest.mark.parametrize("option", ["model", "adapter"])
def test_a_run_that_trained_an_adapter_is_its_base_with_the_adapter(tmp_path, trained_adapter, option):
    run = run_of(tmp_path / "x", trained_adapter, method="grpo")
    folder = run / "model"
    found = resolve(str(run)) if option == "model" else resolve(adapter=run)
    assert found == Weights(
        path=str(POCKET_BASE), model="pocket", method="grpo", label="GRPO", adapter=folder, adapter_name=str(folder),
        run_id="cepo-s3", run_seed=3,
    )  # fmt: skip


def test_a_run_says_better_than_the_adapter_what_it_was_trained_on(tmp_path, trained_adapter):
    run = run_of(tmp_path / "x", trained_adapter)
    change_config(run / "model", "adapter_config.json", base_model_name_or_path="/gone/where/it/was/trained")
    assert resolve(str(run)).path == str(POCKET_BASE)


def test_an_adapter_without_a_run_is_called_by_its_folder(adapter):
    expected = replace(SHIPPED, method="", label="lora", adapter=adapter, adapter_name=str(adapter))
    assert resolve(str(adapter)) == resolve(adapter=adapter) == resolve("pocket", adapter) == expected


def test_an_adapter_that_names_no_base_belongs_to_the_shipped_one(adapter):
    change_config(adapter, "adapter_config.json", base_model_name_or_path=None)
    assert resolve(adapter=adapter).path == str(POCKET_BASE)


def test_a_folder_without_a_run_is_its_own_model_of_unknown_method(checkpoint):
    assert resolve(str(checkpoint)) == Weights(path=str(checkpoint), model=str(checkpoint), method="", label="merged")


def test_an_adapter_on_a_trained_model_has_that_model_below_it_and_not_its_run(tmp_path, adapter):
    run = run_of(tmp_path / "x", POCKET_BASE)
    found = resolve(str(run), adapter)
    assert (found.path, found.model) == (str(run / "model"), str(run / "model"))
    assert (found.adapter_name, found.method, found.run_id, found.label) == (str(adapter), "", None, "lora")


def test_a_method_this_version_does_not_know_is_unknown(tmp_path):
    found = resolve(str(run_of(tmp_path / "x", POCKET_BASE, method="\x1b[31mppo")))
    assert (found.method, found.label, found.run_id) == ("", "x", "cepo-s3")


def test_a_hub_id_is_a_base_with_the_commit_of_the_cache_and_its_adapters_must_name_it(
    tmp_path, monkeypatch, trained_adapter, adapter
):
    repository = tmp_path / "hub" / "models--some--pocket"
    snapshot = Path(shutil.copytree(POCKET_BASE, repository / "snapshots" / COMMIT))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    base = resolve("some/pocket")
    assert base == Weights(path="some/pocket", model="some/pocket", method="base", label="Base", revision=COMMIT)
    assert refusal("some/pocket", trained_adapter).startswith(f"--adapter {trained_adapter}: was trained on ")

    change_config(adapter, "adapter_config.json", base_model_name_or_path="Some/Pocket")
    found = resolve("some/pocket", adapter)
    assert (found.model, found.revision, found.adapter) == ("some/pocket", COMMIT, adapter)
    assert found.digest not in (base.digest, replace(found, revision=COMMIT[::-1]).digest)
    (snapshot / "model.safetensors").unlink()
    assert base.digest == resolve("some/pocket").digest, "the commit says it all"
    assert "Some/Pocket" in refusal("pocket", adapter)


def test_an_adapter_answers_like_the_unmerged_and_like_the_saved_merged_model(tmp_path, trained_adapter):
    merged = load_policy(resolve(adapter=trained_adapter), "cpu")
    answers = sampled(merged)
    scores = log_probs(merged, answers)

    model, tokenizer, image_processor = load_pretrained(str(POCKET_BASE), torch.float32)
    base = Policy(model, tokenizer, image_processor)
    assert (scores - log_probs(base, answers)).abs().max() > 0.1, "the adapter does something"
    unmerged = Policy(PeftModel.from_pretrained(model, str(trained_adapter)), tokenizer, image_processor)
    merged.save(tmp_path / "merged")
    saved = load_policy(resolve(str(tmp_path / "merged")), "cpu")
    for other in (unmerged, saved):
        torch.testing.assert_close(log_probs(other, answers), scores, rtol=0, atol=1e-5)
        assert sampled(other) == answers


def test_a_loaded_policy_is_plain_frozen_float32_and_does_not_touch_the_global_generator(trained_adapter):
    before = torch.random.get_rng_state()
    policy = load_policy(resolve(adapter=trained_adapter), "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    parameters = dict(policy.model.named_parameters())
    assert {p.dtype for p in parameters.values()} == {torch.float32}
    assert not any("lora" in name for name in parameters)
    assert not policy.trainable
    assert not load_policy(resolve("pocket"), "cpu").trainable
    assert not any(module.training for module in policy.model.modules())


def test_nothing_of_the_libraries_reaches_the_terminal(checkpoint, adapter, capfd, recwarn):
    tensors = tensors_of(checkpoint / "model.safetensors")
    save_file(tensors | {"model.extra": torch.ones(2)}, checkpoint / "model.safetensors", {"format": "pt"})
    change_config(adapter, "adapter_config.json", from_the_future=1)
    logged = QueueHandler(SimpleQueue())  # the libraries' own handlers keep the stderr of before this test
    for library in ("transformers", "huggingface_hub", "peft"):
        logging.getLogger(library).addHandler(logged)
    load_policy(resolve(str(checkpoint), adapter), "cpu")
    for library in ("transformers", "huggingface_hub", "peft"):
        logging.getLogger(library).removeHandler(logged)
    assert logged.queue.empty()
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_the_digest_is_of_names_and_bytes_and_not_of_the_place(checkpoint, adapter, tmp_path):
    copied = Path(shutil.copytree(checkpoint, tmp_path / "copied"))
    (copied / "notes.txt").write_text("nothing a model reads")
    whole = resolve(str(checkpoint)).digest
    assert whole == resolve(str(copied)).digest == resolve("pocket").digest
    assert len({whole, resolve(str(copied), adapter).digest}) == 2

    (copied / "chat_template.jinja").write_text("{{ messages }}")
    one_more = resolve(str(copied)).digest
    (copied / "model.safetensors").rename(copied / "model-00001-of-00001.safetensors")
    assert len({whole, one_more, resolve(str(copied)).digest}) == 3

    before = resolve(adapter=adapter).digest
    change_tensors(adapter, lambda name, tensor: (name, tensor * 1.001))
    assert resolve(adapter=adapter).digest != before


@pytest.mark.parametrize("option", ["model", "adapter"])
@pytest.mark.parametrize("below", ["", "model"])
def test_a_run_whose_training_has_not_ended_says_how_to_end_it(tmp_path, option, below):
    run = run_of(tmp_path / "x", None)
    line = refusal(**{option: run / below})
    assert line == (f"--{option} {run / below}: training has not ended; go on with python -m core.train --resume {run}")


@pytest.mark.parametrize("name", ["", "no/such-model", "../no/such/folder", "a b", "x" * 300, "runs/gone", "a\0b"])
def test_a_name_that_is_no_folder_and_that_the_hub_does_not_give(name, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    line = refusal(name)
    assert line.startswith("--model ")
    assert "expected a folder or a hub id" in line
    if name in ("no/such-model", "runs/gone"):
        assert "out of reach and not in the cache" in line


def test_folders_that_hold_no_model(tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    assert "holds neither config.json nor adapter_config.json" in refusal(tmp_path / "empty")
    assert "found a file; give the folder" in refusal(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    assert "no *.safetensors" in refusal(checkpoint)


def test_weights_that_were_cut_or_never_saved_whole(checkpoint):
    file = checkpoint / "model.safetensors"
    tensors = tensors_of(file)
    file.write_bytes(file.read_bytes()[:-1000])
    assert refusal(checkpoint).startswith(f"--model '{checkpoint}': ")
    del tensors["model.language_model.norm.weight"]
    save_file(tensors, file, {"format": "pt"})
    assert "norm.weight" in refusal(checkpoint)


def test_a_configuration_with_a_wrong_type(checkpoint):
    change_config(checkpoint, "config.json", image_token_id="five")
    line = refusal(checkpoint)
    assert line.startswith(f"--model '{checkpoint}': ")
    assert "image_token_id" in line


def test_a_model_without_a_chat_template(checkpoint):
    (checkpoint / "chat_template.jinja").unlink()
    assert "has no chat template" in refusal(checkpoint)


def test_folders_that_are_no_adapter(tmp_path, checkpoint, adapter):
    assert "there is no such folder" in refusal(adapter=tmp_path / "gone")
    assert refusal(adapter=checkpoint).endswith("is a full model, expected an adapter; give it as --model")
    assert "is an adapter, expected the model below it" in refusal(adapter, adapter)
    (adapter / ADAPTER_WEIGHTS).unlink()
    assert f"no {ADAPTER_WEIGHTS}" in refusal(adapter=adapter)
    (adapter / "adapter_config.json").unlink()
    assert "holds no adapter_config.json" in refusal(adapter=adapter)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "expected an adapter of type LORA, found None"),
        ('{"peft_type": "PREFIX_TUNING"}', "expected an adapter of type LORA, found 'PREFIX_TUNING'"),
        ('{"peft_type": "LORA", "r": "four", "target_modules": ["q_proj"]}', "does not fit"),
        ('{"peft_type": "LORA", "target_modules": "("}', "does not fit"),
    ],
)
def test_adapter_configurations_that_cannot_be_used(adapter, content, said):
    (adapter / "adapter_config.json").write_text(content)
    assert said in refusal(adapter=adapter)


@pytest.mark.parametrize("base", ["/gone/models/qwen", "nobody/ever-published"])
def test_an_adapter_whose_base_is_not_here(adapter, base, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    change_config(adapter, "adapter_config.json", base_model_name_or_path=base)
    line = refusal(adapter=adapter)
    assert line.startswith(f"--adapter {adapter}: its base '{base}': ")
    assert "--model" in line


def test_an_adapter_of_a_folder_elsewhere_may_be_put_on_the_model_that_is_named(adapter):
    change_config(adapter, "adapter_config.json", base_model_name_or_path="/gone/models/pocket")
    assert resolve("pocket", adapter).path == str(POCKET_BASE)


def test_an_adapter_of_other_shapes_names_the_tensor(adapter):
    change_tensors(adapter, lambda name, tensor: (name, torch.cat([tensor, tensor], -1).contiguous()))
    line = refusal(adapter=adapter)
    assert "does not fit" in line
    assert "size mismatch for base_model" in line


@pytest.mark.parametrize("change", ["a layer elsewhere", "a layer less", "a layer more"])
def test_an_adapter_of_which_some_tensors_find_no_place(adapter, change):
    tensors = tensors_of(adapter / ADAPTER_WEIGHTS)
    last = {name: tensor for name, tensor in tensors.items() if "layers.3." in name}
    kept = {name: tensor for name, tensor in tensors.items() if name not in last}
    beyond = {name.replace("layers.3.", "layers.9."): tensor.clone() for name, tensor in last.items()}
    changed = {"a layer elsewhere": kept | beyond, "a layer less": kept, "a layer more": tensors | beyond}[change]
    assert len(last) == 14, "two tensors for each of seven matrices"
    save_file(changed, adapter / ADAPTER_WEIGHTS)
    assert "does not fit" in refusal(adapter=adapter)


def test_an_adapter_that_is_cut_or_not_finite(adapter):
    file = adapter / ADAPTER_WEIGHTS
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert "its weights cannot be read" in refusal(adapter=adapter)
    file.write_bytes(whole)
    change_tensors(adapter, lambda name, tensor: (name, tensor * float("nan")))
    assert "NaN" in refusal(adapter=adapter)
