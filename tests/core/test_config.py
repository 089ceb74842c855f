"""A configuration is merged, checked as a whole, and what is wrong with it is told in one line."""

from pathlib import Path

import pytest

from core.config import CONFIGS, OptimizerConfig, RolloutConfig, default_config, load_config, read_config, write_config
from core.errors import InputError
from core.hints import HintSource
from core.methods import METHODS

MODELS = ("pocket", "qwen3vl_2b", "qwen3vl_4b")
PRESETS = ("paper", "released", "lr_matched")
STACKS = [(model, *preset) for model in MODELS for preset in [(), *((p,) for p in PRESETS)]]


def shipped(*names: str) -> list[Path]:
    return [CONFIGS / f"{name}.yaml" for name in names]


@pytest.fixture
def yaml_file(tmp_path: Path):
    """Writes a YAML file; files are numbered."""

    def write(text: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(*files: Path, flags: dict | None = None, method: str | None = None) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(InputError) as caught:
        load_config(files, flags, method)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_every_shipped_file_is_tried_below() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*MODELS, *PRESETS}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stack", STACKS, ids="+".join)
def test_a_saved_configuration_loads_again_as_the_same(stack: tuple[str, ...], method: str, tmp_path: Path) -> None:
    config = load_config(shipped(*stack), method=method)
    assert config.method.name == method
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(("name", "size"), [("qwen3vl_2b", "2B"), ("qwen3vl_4b", "4B")])
def test_the_qwen_configurations_are_table_6(name: str, size: str) -> None:
    config = load_config(shipped(name), method="grpo")
    assert config.model.path == f"Qwen/Qwen3-VL-{size}-Instruct"
    assert config.problems.source == "hiyouga/geometry3k"
    assert (config.model.tuning, config.model.lora_rank, config.model.lora_alpha) == ("lora", 16, 32)
    assert (config.model.dtype, config.model.gradient_checkpointing) == ("bfloat16", True)
    assert config.rollouts == RolloutConfig(problems_per_step=32, group_size=8, max_new_tokens=2048, temperature=1.0)
    assert config.problems.max_prompt_tokens == 768
    assert (config.surrogate.epsilon_low, config.surrogate.epsilon_high) == (0.2, 0.28)
    assert config.optimizer == OptimizerConfig(
        warmup_steps=5,
        schedule="cosine",
        betas=(0.9, 0.999),
        weight_decay=0.01,
        max_grad_norm=1.0,
        updates_per_step=2,
        groups_per_micro_batch=1,
    )
    assert (config.steps, config.validation.every, config.checkpoint_every) == (50, 5, 5)
    rates = {m: load_config(shipped(name), method=m).method.learning_rate for m in METHODS}
    assert rates == {"grpo": 1e-6, "opsd": 1e-6, "sdpo": 1e-6, "rlsd": 1e-6, "cepo": 5e-6}


@pytest.mark.parametrize("method", METHODS)
def test_the_paper_preset_is_the_default_and_undoes_the_released_one(method: str) -> None:
    paper = load_config(shipped("qwen3vl_2b"), method=method)
    assert load_config(shipped("qwen3vl_2b", "paper"), method=method) == paper
    below = {"model.lora_alpha": 32, "validation.temperature": 1.0}  # Table 6, which the preset leaves to its base
    assert load_config(shipped("qwen3vl_2b", "released", "paper"), below, method) == paper


def test_the_released_preset_is_the_released_code() -> None:
    config = load_config(shipped("qwen3vl_2b", "released"), method="cepo")
    cepo = config.method
    assert (config.reward.scheme, config.model.lora_alpha) == ("weighted", 64)
    assert (config.optimizer.schedule, config.optimizer.warmup_steps) == ("constant", 0)
    assert (cepo.epsilon_w, cepo.empty_wrong, cepo.learning_rate) == (0.2, "grpo", 5e-6)
    assert (cepo.teacher_style, cepo.teacher_sees_image) == ("after_generation_prompt", False)
    assert cepo.hint_wrong == HintSource("peer_answer", pick="lowest", unreadable="released")
    rlsd = load_config(shipped("qwen3vl_2b", "released"), method="rlsd").method
    assert (rlsd.epsilon_w, rlsd.teacher_style) == (0.2, "after_generation_prompt")


@pytest.mark.parametrize("model", MODELS)
def test_the_matched_preset_gives_all_methods_one_learning_rate(model: str) -> None:
    assert len({load_config(shipped(model, "lr_matched"), method=m).method.learning_rate for m in METHODS}) == 1


def test_later_sources_win(yaml_file) -> None:
    first = yaml_file("steps: 7\nseed: 1\nrollouts: {group_size: 4, temperature: 0.5}")
    second = yaml_file("seed: 2\nrollouts: {temperature: 0.7}")
    config = load_config([first, second], {"rollouts.temperature": 0.9})
    assert (config.steps, config.seed) == (7, 2)
    assert (config.rollouts.group_size, config.rollouts.temperature) == (4, 0.9)
    assert config.rollouts.max_new_tokens == RolloutConfig().max_new_tokens


def test_the_pocket_configuration_is_read_only_where_no_file_is_named(yaml_file) -> None:
    assert load_config() == load_config(shipped("pocket")) == default_config("cepo")
    assert load_config([yaml_file("steps: 50")]).rollouts == RolloutConfig()


def test_a_methods_section_counts_for_the_chosen_method_only(yaml_file) -> None:
    file = yaml_file("methods:\n  cepo: {epsilon_w: 0.3, teacher: {kind: ema}}\n  rlsd: {epsilon_w: 0.4}")
    more = yaml_file("methods:\n  cepo: {lambda_0: 0.25, teacher: {decay: 0.5}}")
    cepo = load_config([file, more]).method
    assert (cepo.epsilon_w, cepo.lambda_0) == (0.3, 0.25)
    assert (cepo.teacher.kind, cepo.teacher.decay) == ("ema", 0.5)
    assert load_config([file], method="rlsd").method.epsilon_w == 0.4
    assert load_config([file], {"method.epsilon_w": 0.6}).method.epsilon_w == 0.6


def test_a_file_may_choose_the_method_and_a_flag_another(yaml_file) -> None:
    short = yaml_file("method: rlsd\nmethods: {rlsd: {epsilon_w: 0.4}, grpo: {learning_rate: 0.01}}")
    long = yaml_file("method: {name: rlsd, lambda_0: 0.25}\nmethods: {rlsd: {lambda_0: 1.0, epsilon_w: 0.4}}")
    assert load_config([short]).method.epsilon_w == 0.4
    assert (load_config([long]).method.lambda_0, load_config([long]).method.epsilon_w) == (0.25, 0.4)
    for choice in ({"method": "grpo"}, {"flags": {"method.name": "grpo"}}):
        assert load_config([short], **choice).method == METHODS["grpo"](learning_rate=0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stps: 3", "stps is unknown; did you mean 'steps'?"),
        ("rollouts: {group_sise: 8}", "rollouts.group_sise is unknown; did you mean 'group_size'?"),
        ("method: {epsilon: 0.3}", "method.epsilon is unknown; did you mean 'epsilon_w'?"),
        ("method: {teacher: {kin: ema}}", "method.teacher.kin is unknown; did you mean 'kind'?"),
        ("method: {name: grpo, lambda_0: 0.5}", "method.lambda_0 is unknown"),
        ("methods: {cepo: {epsilonw: 0.3}}", "methods.cepo.epsilonw is unknown; did you mean 'epsilon_w'?"),
        ("methods: {rlsd: {teacher: {kin: 1}}}", "methods.rlsd.teacher.kin is unknown; did you mean 'kind'?"),
        ("methods: {ceppo: {}}", "method 'ceppo' is unknown; did you mean 'cepo'?"),
        ("method: rlsdd", "method 'rlsdd' is unknown; did you mean 'rlsd'?"),
        ("method: {name: zzzzzz}", "method 'zzzzzz' is unknown; expected one of grpo, opsd, sdpo, rlsd, cepo"),
        ("1: 2", "1 is unknown; expected one of method, model"),
    ],
)
def test_an_unknown_word_is_refused_with_what_was_meant(text: str, said: str, yaml_file) -> None:
    assert refusal(yaml_file(text)).startswith(said)


def test_a_wrong_method_on_the_command_line_is_refused_with_what_was_meant() -> None:
    assert refusal(method="opds") == "method 'opds' is unknown; did you mean 'opsd'?"
    assert refusal(flags={"method.name": "opds"}) == "method 'opds' is unknown; did you mean 'opsd'?"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("method.epsilon_w", 1.5, "less than 1"),
        ("method.epsilon_w", 1, "less than 1"),
        ("method.epsilon_w", 0, "greater than 0"),
        ("method.lambda_0", -0.1, "greater than or equal to 0"),
        ("method.learning_rate", -1, "greater than 0"),
        ("method.learning_rate", "abc", "a valid number"),
        ("method.learning_rate", float("inf"), "a finite number"),
        ("method.teacher.kind", "actress", "'actor', 'reference', 'periodic' or 'ema'"),
        ("rollouts.group_size", 1, "greater than or equal to 2"),
        ("rollouts.temperature", 0, "greater than 0"),
        ("rollouts.temperature", float("nan"), "a finite number"),
        ("surrogate.epsilon_low", 1.0, "less than 1"),
        ("surrogate.dual_clip", 0.5, "greater than 1"),
        ("steps", 0, "greater than or equal to 1"),
        ("steps", 3.5, "a valid integer"),
        ("steps", None, "a valid integer"),
        ("seed", "abc", "a valid integer"),
        ("optimizer.updates_per_step", 17, "at most rollouts.problems_per_step = 16"),
        ("problems.source", 3, "a valid string"),
        ("model", "pocket", "a dictionary"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place(path: str, value: object, expected: str) -> None:
    line = refusal(flags={path: value})
    assert line.startswith(f"{path}: expected {expected}")
    assert line.endswith(f", got {value!r}")


def test_options_that_contradict_each_other_are_told_without_wrapping() -> None:
    line = refusal(flags={"method.hint_wrong": {"source": "peer_rollout", "unreadable": "released"}})
    assert line.startswith("method.hint_wrong: hint: unreadable 'released' goes with source 'peer_answer'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected names and values, got None"),
        ("- steps", "expected names and values, got ['steps']"),
        ("methods: 3", "methods: expected names and values, got 3"),
        ("methods:", "methods: expected names and values, got None"),
        ("methods: {cepo: 3}", "methods.cepo: expected names and values, got 3"),
        ("method: [cepo]", "method: expected names and values, got ['cepo']"),
        ("method: {name: [cepo]}", "method ['cepo'] is unknown"),
        ("steps: [1", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, said: str, yaml_file) -> None:
    assert said in refusal(yaml_file(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00steps")
    assert refusal(tmp_path / "none.yaml").startswith(f"configuration {tmp_path / 'none.yaml'}: cannot be read")
    assert refusal(tmp_path).startswith(f"configuration {tmp_path}: cannot be read")
    assert refusal(binary).startswith(f"configuration {binary}: is not YAML")


def test_a_flag_below_a_single_value_is_refused() -> None:
    assert refusal(flags={"steps.more": 1}) == "--steps.more: steps is a single value and has no more"
