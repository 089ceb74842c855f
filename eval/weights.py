"""What `--model` and `--adapter` mean: which weights answer, where they come from, and the policy made of them."""

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import isdir, isfile  # Path's own raise where a name is too long or a folder closed
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, StrictDataclassError
from huggingface_hub.utils import logging as hub_logging
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers.utils import logging

from core.config import POCKET_BASE, ModelConfig
from core.errors import InputError
from core.methods import METHODS
from core.policy import Policy, device_of, load_pretrained
from core.runfile import first_line, reading

Device = Literal["auto", "cpu", "cuda"]

POCKET, BASE = "pocket", "base"
ADAPTER_CONFIG, MODEL_CONFIG, RUN_FILE, RUN_MODEL = "adapter_config.json", "config.json", "run.duckdb", "model"
WEIGHT_FILES = (".safetensors", ".bin")
READ_BY_A_MODEL = (*WEIGHT_FILES, ".json", ".jinja")
"""Endings of the files that change what a model answers."""
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Weights:
    """The weights of one evaluation, and their provenance as `core.eval_schema.EvaluationRow` keeps it."""

    path: str
    """What transformers loads: a folder or a hub id."""
    model: str
    """The model before training: `pocket`, a hub id or a folder."""
    method: str
    """`base`, the run's method, or empty when unknown."""
    label: str
    """How tables call it, unless somebody says otherwise."""
    adapter: Path | None = None
    """Folder of the LoRA to put on it."""
    adapter_name: str | None = None
    """Adapter or trained checkpoint; None for a base."""
    revision: str | None = None
    """Commit of a hub id."""
    run_id: str | None = None
    run_seed: int | None = None

    @cached_property
    def digest(self) -> str:
        """Of all bytes that answer, or of the hub's commit: a folder trained again is another model. Reads it all."""
        parts = [self.revision or _folder_digest(Path(self.path))]
        if self.adapter is not None:
            parts.append(_folder_digest(self.adapter))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _Run:
    """What a run file says of the weights beside it."""

    run_id: str
    method: str
    seed: int
    model: str


def resolve(model: str | None = None, adapter: Path | None = None) -> Weights:
    """Find the weights that are meant, without loading them.

    Args:
        model: `pocket` (also for None), a hub id, a model folder, a run folder, or an adapter folder.
        adapter: an adapter folder or the folder of a run that trained one; without a model it brings its own base.

    Raises:
        InputError: either does not exist, is something else, or the two do not belong together.
    """
    if adapter is not None:
        return _adapted(adapter, "--adapter", None if model is None else _whole(model, "--model"))
    name = POCKET if model is None else model
    folder = None if _is_pocket(name) else _folder(name, "--model")
    if folder is not None and (folder / ADAPTER_CONFIG).is_file():
        return _adapted(folder, "--model", None)
    return _whole(name, "--model")


def load_policy(weights: Weights, device: Device = "auto") -> Policy:
    """The model with its adapter merged into it: float32 on a CPU, bfloat16 on a GPU, nothing to train.

    Raises:
        InputError: weights that cannot be read, do not fit, or come without a chat template.
    """
    where = device_of(ModelConfig(device=device))
    with _quiet():
        try:
            dtype = torch.float32 if where.type == "cpu" else torch.bfloat16
            model, tokenizer, image_processor = load_pretrained(weights.path, dtype)
        except InputError as error:
            raise InputError(str(error).replace("model.path", "--model", 1)) from error
        except (StrictDataclassError, pickle.UnpicklingError, EOFError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"--model {weights.path!r}: cannot be loaded ({reason}); copy it again") from error
        model = model.to(where)
        if weights.adapter is not None:
            model = _merged(model, weights.adapter)
    return Policy(model.requires_grad_(False), tokenizer, image_processor)


def _folder(given: str | Path, what: str) -> Path | None:
    """The folder that holds the weights, a run's being below it; None where there is no such folder."""
    path = Path(given)
    run = path.parent if path.name == RUN_MODEL else path
    if isfile(run / RUN_FILE):
        path = run / RUN_MODEL
        if not isdir(path):
            raise InputError(f"{what} {given}: training has not ended; go on with python -m core.train --resume {run}")
    if isfile(path):
        raise InputError(f"{what} {given}: expected a folder, found a file; give the folder it lies in")
    return path if isdir(path) else None


def _whole(given: str, what: str) -> Weights:
    """A model that needs no other: the shipped base, a hub id, or a folder with all weights."""
    if _is_pocket(given):
        return Weights(str(POCKET_BASE), POCKET, BASE, label_of(BASE))
    folder = _folder(given, what) if given else None
    if folder is None:
        return Weights(given, given, BASE, label_of(BASE), revision=_hub_revision(given, what))
    if (folder / ADAPTER_CONFIG).is_file():
        raise InputError(f"{what} {given}: is an adapter, expected the model below it; give its base with --model")
    if not (folder / MODEL_CONFIG).is_file():
        found = f"holds neither {MODEL_CONFIG} nor {ADAPTER_CONFIG}"
        raise InputError(f"{what} {given}: {found}; give the folder of a model, an adapter or a run")
    if not any(file.suffix in WEIGHT_FILES for file in folder.iterdir()):
        raise InputError(f"{what} {given}: has a {MODEL_CONFIG} but no *.safetensors; copy the weights there too")
    run = _run_of(folder)
    if run is None:
        return Weights(str(folder), given, "", _name_of(folder))
    before = POCKET if _is_pocket(run.model) else run.model
    return _trained(Weights(str(folder), before, "", _name_of(folder)), folder, run)


def _adapted(given: Path, what: str, base: Weights | None) -> Weights:
    """An adapter on the base that is named, otherwise on the one it was trained on."""
    folder = _folder(given, what)
    if folder is None:
        raise InputError(f"{what} {given}: there is no such folder; give the folder of a PEFT adapter")
    trained_on, run = _trained_on(folder, what), _run_of(folder)
    own = run.model if run else trained_on
    if base is None:
        base = _whole(own, f"{what} {given}: its base")
    theirs, ours = _public_name(base.path), _public_name(own)
    if None not in (theirs, ours) and theirs != ours:
        raise InputError(f"{what} {given}: was trained on {own}, not on {base.model}; leave --model out, or name {own}")
    below = replace(base, adapter=folder, model=base.adapter_name or base.model, label=_name_of(folder))
    return _trained(below, folder, run)


def _trained(weights: Weights, checkpoint: Path, run: _Run | None) -> Weights:
    """Weights that a run, if it is known, made into a checkpoint."""
    method = run.method if run is not None and run.method in METHODS else ""
    label, run_id, run_seed = label_of(method) or weights.label, run and run.run_id, run and run.seed
    name = str(checkpoint)
    return replace(weights, adapter_name=name, method=method, label=label, run_id=run_id, run_seed=run_seed)


def label_of(method: str) -> str:
    """A method as the tables write it."""
    return "Base" if method == BASE else method.upper()


def _name_of(folder: Path) -> str:
    """A folder's name; that of its run where it is called like every run's."""
    *_, above, name = folder.absolute().parts
    return above if name == RUN_MODEL else name


def _is_pocket(name: str) -> bool:
    """Whether the shipped base is meant, also under the path it had where an adapter was trained."""
    path = Path(name).absolute()
    if name != POCKET and isdir(path):
        return path.resolve() == POCKET_BASE.resolve()
    return name == POCKET or path.parts[-3:] == POCKET_BASE.parts[-3:]


def _public_name(name: str) -> str | None:
    """A name that means the same everywhere, so that two may be compared; None for a folder."""
    if _is_pocket(name):
        return POCKET
    return None if isdir(name) or name.startswith((".", "/")) or name.count("/") > 1 else name.casefold()


def _run_of(folder: Path) -> _Run | None:
    """The run whose model lies in a folder, if there is one."""
    folder = folder.absolute()
    file = folder.parent / RUN_FILE
    if folder.name != RUN_MODEL or not file.is_file():
        return None
    with reading(file) as connection:
        row = connection.execute("SELECT run_id, method, seed, model FROM run").fetchone()
    return None if row is None else _Run(*row)


def _trained_on(folder: Path, what: str) -> str:
    """The base that an adapter names; the shipped one where it names none."""
    if not (folder / ADAPTER_CONFIG).is_file():
        if (folder / MODEL_CONFIG).is_file():
            raise InputError(f"{what} {folder}: is a full model, expected an adapter; give it as --model")
        raise InputError(f"{what} {folder}: holds no {ADAPTER_CONFIG}; give the folder of a PEFT adapter")
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = f"{ADAPTER_CONFIG} is no JSON ({first_line(error)})"
        raise InputError(f"{what} {folder}: {found}; copy it again") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise InputError(f"{what} {folder}: expected an adapter of type LORA, found {kind!r}; merge it, give --model")
    if not any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
        raise InputError(f"{what} {folder}: has an {ADAPTER_CONFIG} but no {ADAPTER_WEIGHTS[0]}; copy it there too")
    return str(config.get("base_model_name_or_path") or POCKET)


def _hub_revision(name: str, what: str) -> str:
    """Commit of a hub id: the newest one, or that of the local cache where the hub is out of reach."""
    try:
        with _quiet():
            return Path(hf_hub_download(name, MODEL_CONFIG)).parent.name
    except (OSError, HFValidationError, EntryNotFoundError) as error:
        reason = "out of reach and not in the cache" if isinstance(error, FileNotFoundError) else first_line(error)
        found = f"there is no such folder, and the hub does not give such a model ({reason})"
        raise InputError(f"{what} {name!r}: expected a folder or a hub id; {found}; check --model") from error


def _merged(model: Any, adapter: Path) -> Any:
    """The model with a LoRA folded into its weights; every tensor of the adapter must have found its place."""
    try:
        tuned = PeftModel(model, LoraConfig.from_pretrained(str(adapter)), low_cpu_mem_usage=True)
        loaded = tuned.load_adapter(str(adapter), "default", torch_device=str(model.device), low_cpu_mem_usage=True)
        strange = sorted([*loaded.unexpected_keys, *loaded.missing_keys])
        if not strange:
            return tuned.merge_and_unload(safe_merge=True)
        reason = f"{strange[0]} is only in one of the two"
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, EOFError, re.error) as error:
        reason = _reason(error)
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(
            f"adapter {adapter}: its weights cannot be read ({first_line(error)}); copy it again"
        ) from error
    raise InputError(
        f"adapter {adapter}: does not fit {model.name_or_path} ({reason}); name the model it was trained on"
    )


def _reason(error: BaseException) -> str:
    """One line of an error; of a state that does not fit, the first tensor."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__)


def _folder_digest(folder: Path) -> str:
    """Of the names and bytes of the files that a model is read from."""
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in READ_BY_A_MODEL and path.is_file():
            with path.open("rb") as file:
                content.update(f"{path.name}\n{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return content.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' warnings and progress bars off the terminal: what matters becomes an error here."""
    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if had_bars:
            logging.enable_progress_bar()
