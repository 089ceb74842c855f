"""The configuration of a run: defaults in these classes (Table 6), then YAML files, then flags; checked as a whole.

Later sources win: class defaults, `core/configs/pocket.yaml` unless a file is named, files from left to right, flags.
A file may hold `methods:`, per-method values that count only for the method that is chosen. What a run resolved to is
saved as its `config.yaml`, and loads again as the same configuration.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from core.errors import InputError
from core.methods import CEPO, METHODS, STRICT, Count, Method
from core.verifier import RewardScheme

CONFIGS = Path(__file__).parent / "configs"
POCKET_BASE = Path(__file__).parent / "pocket" / "base"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Which model is trained, and how."""

    path: str = "pocket"
    """A hub id or a folder; `pocket` is the base that ships with Credence."""
    tuning: Literal["full", "lora"] = "full"
    """All weights of the language model, or adapters on its linear layers; the vision tower is always frozen."""
    lora_rank: Count = 16
    lora_alpha: Count = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gradient_checkpointing: bool = False

    @property
    def resolved_path(self) -> str:
        """What transformers loads."""
        return str(POCKET_BASE) if self.path == "pocket" else self.path


@dataclass(frozen=True, config=STRICT)
class ProblemsConfig:
    """Where problems come from."""

    source: str = "pocket"
    """`pocket`, a parquet file or folder in the schema of hiyouga/geometry3k, or a dataset's hub id."""
    validation_source: str | None = None
    """Held-out problems of a dataset; None takes its own validation or test files."""
    validation_seed: int = 0
    """Which held-out pocket problems are asked."""
    max_prompt_tokens: Count = 768
    on_bad_row: Literal["stop", "skip"] = "stop"


@dataclass(frozen=True, config=STRICT)
class RolloutConfig:
    """What is sampled in a step."""

    engine: Literal["local"] = "local"
    problems_per_step: Count = 32
    group_size: Annotated[int, Field(ge=2)] = 8
    """G: rollouts of one problem; Eq. 1 compares within it, so at least two."""
    max_new_tokens: Count = 2048
    temperature: Positive = 1.0
    """Of sampling, and of every log-probability."""


@dataclass(frozen=True, config=STRICT)
class RewardConfig:
    """R(x, y), and how Eq. 1 normalises it."""

    scheme: RewardScheme = "binary"
    std: Literal["sample", "population"] = "sample"
    floor: NotNegative = 1e-6


@dataclass(frozen=True, config=STRICT)
class SurrogateConfig:
    """PPO's clipped surrogate."""

    epsilon_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    epsilon_high: Positive = 0.28
    dual_clip: Annotated[float, Field(gt=1)] | None = 3.0
    per: Literal["token", "sequence"] = "token"


@dataclass(frozen=True, config=STRICT)
class OptimizerConfig:
    """AdamW and the updates of a step."""

    warmup_steps: Steps = 5
    schedule: Literal["cosine", "constant"] = "cosine"
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: NotNegative = 0.01
    max_grad_norm: Positive = 1.0
    updates_per_step: Count = 2
    groups_per_micro_batch: Count = 1
    """Groups in one forward; changes memory and speed, not the result."""


@dataclass(frozen=True, config=STRICT)
class ValidationConfig:
    """Held-out problems, one response each."""

    every: Count = 5
    problems: Count = 256
    temperature: Positive = 1.0


@dataclass(frozen=True, config=STRICT)
class RecordConfig:
    """What is kept of the teachers' evidence."""

    evidence: Literal["used", "all"] = "used"
    """`used`: what the method needed. `all`: both teachers' log-probabilities for every token, whatever the method."""
    probe_every: Count = 5
    """Steps between two looks at the evidence once λ = 0 (Figure 4)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """One training run (Table 6; a method's own values, Table 7, are in `method`)."""

    method: Method = CEPO()
    model: ModelConfig = ModelConfig()
    problems: ProblemsConfig = ProblemsConfig()
    rollouts: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    surrogate: SurrogateConfig = SurrogateConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    record: RecordConfig = RecordConfig()
    steps: Count = 50
    seed: int = 0
    checkpoint_every: Count = 5
    keep_checkpoints: Count = 2


SCHEMA = TypeAdapter(TrainConfig)


def load_config(
    files: Sequence[Path] = (), flags: Mapping[str, Any] | None = None, method: str | None = None
) -> TrainConfig:
    """Merge files and flags over the defaults, and check the whole.

    Args:
        files: YAML files, left to right; without any, the pocket configuration.
        flags: dotted paths to values, such as `{"method.epsilon_w": 0.4}`.
        method: name of the method; else the files', else CEPO.
    """
    tree: dict[str, Any] = {}
    for path in files or (CONFIGS / "pocket.yaml",):
        tree = _merged(tree, _read(path))
    sections = _mapping(tree.pop("methods", {}), "methods")
    own = tree.pop("method", {})
    own = {"name": own} if isinstance(own, str) else _mapping(own, "method")
    flags = dict(flags or {})
    name = flags.pop("method.name", method) or own.get("name", "cepo")
    for candidate in (name, *sections):
        if candidate not in list(METHODS):
            raise InputError(f"method {candidate!r} is unknown{_suggestion(candidate, METHODS)}")
    for other, values in sections.items():
        _refuse_unknown(_mapping(values, f"methods.{other}"), METHODS[other], f"methods.{other}.")
    inherited = own if own.get("name", name) == name else {}
    tree["method"] = _merged({"name": name} | sections.get(name, {}), inherited)
    for path, value in flags.items():
        _put(tree, path, value)
    return check(tree)


def default_config(method: str) -> TrainConfig:
    """The pocket configuration of a method."""
    return load_config(method=method)


def check(tree: Mapping[str, Any]) -> TrainConfig:
    """A configuration from its tree; one line for the first thing that is wrong."""
    _refuse_unknown(tree, TrainConfig, "")
    try:
        config = SCHEMA.validate_python(dict(tree))
    except ValidationError as error:
        raise InputError(_first(error)) from None
    if isinstance(config.method, CEPO) and config.method.hint_wrong.source == "gt_answer":
        raise InputError(
            "method.hint_wrong.source: expected a peer's answer or rollout, got 'gt_answer', which is right"
        )
    if config.optimizer.updates_per_step > config.rollouts.problems_per_step:
        raise InputError(
            f"optimizer.updates_per_step: expected at most rollouts.problems_per_step = "
            f"{config.rollouts.problems_per_step}, got {config.optimizer.updates_per_step}"
        )
    return config


def _first(error: ValidationError) -> str:
    """The first of pydantic's findings on one line: where, what was expected, what was found."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part not in METHODS)
    if first["type"] == "value_error":
        return f"{path}: {first['msg'].removeprefix('Value error, ')}"
    expected = re.split(", (?:got|unable) ", first["msg"].removeprefix("Input should be "))[0]
    return f"{path}: expected {expected}, got {first['input']!r}"


def to_tree(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    return SCHEMA.dump_python(config, mode="json")


def write_config(config: TrainConfig, path: Path) -> None:
    """Save what a run resolved to."""
    path.write_text(yaml.safe_dump(to_tree(config), sort_keys=False), encoding="utf-8")


def read_config(path: Path) -> TrainConfig:
    """Load what a run resolved to."""
    return check(_read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"configuration {path}: cannot be read ({error.strerror}); give the path of a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"configuration {path}: is not YAML ({' '.join(str(error).split())})") from None
    return _mapping(tree, f"configuration {path}")


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what}: expected names and values, got {value!r}")
    return value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        deeper = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = _merged(both[key], value) if deeper else value
    return both


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise InputError(f"--{path}: {parent} is a single value and has no {last}")
    tree[last] = value


def _refuse_unknown(tree: Mapping[str, Any], kind: type, path: str) -> None:
    """Refuse a key no class has, with the nearest one that exists."""
    known = {field.name: field.type for field in fields(kind)}
    for key, value in tree.items():
        if key not in known:
            raise InputError(f"{path}{key} is unknown{_suggestion(key, known)}")
        inner = METHODS.get(str(value.get("name"))) if key == "method" and isinstance(value, Mapping) else known[key]
        if isinstance(value, Mapping) and isinstance(inner, type) and dataclasses.is_dataclass(inner):
            _refuse_unknown(value, inner, f"{path}{key}.")


def _suggestion(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"
