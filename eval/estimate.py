"""How long an evaluation would take on this CPU, told before it starts: days are only spent on request."""

from time import perf_counter
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from core.config import ModelConfig
from core.errors import InputError
from core.policy import device_of
from core.runfile import first_line
from core.sampling import Sampling
from eval.model import BATCH
from eval.weights import Device, Weights

HOUR = 3600.0
WORTH_A_LINE = 60.0
"""Seconds below which nothing is said."""
LIKELY_TOKENS = 1000
"""Tokens an answer is taken to have where the limit is higher: reasoning models write about that many."""
WIDTH, MEASURED_SECONDS = 4096, 0.2
"""The probe: a batch of answers goes through a square layer, for so long."""


def parameters(path: str) -> int:
    """Parameters of a folder or hub id, from its configuration alone; tied weights count once.

    Raises:
        InputError: there is no configuration, or transformers does not know the kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(path)
        auto: Any = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
        with torch.device("meta"):
            model = auto.from_config(config)
    except (OSError, ValueError, HFValidationError, StrictDataclassError) as error:
        raise InputError(f"--model {path!r}: its configuration cannot be read ({first_line(error)})") from error
    return sum(parameter.numel() for parameter in model.parameters())


def decode_speed() -> float:
    """FLOP/s of this CPU while it decodes: few rows through a layer that does not fit into its cache, in float32."""
    layer, rows = torch.ones(WIDTH, WIDTH), torch.ones(BATCH, WIDTH)
    torch.mm(rows, layer)  # the first call sets up
    times, start = 0, perf_counter()
    while (seconds := perf_counter() - start) < MEASURED_SECONDS or not times:
        torch.mm(rows, layer)
        times += 1
    return times * 2.0 * BATCH * WIDTH * WIDTH / seconds


def estimate(n_parameters: int, n_items: int, tokens_per_answer: int, speed: float) -> float:
    """Seconds to generate the answers: 2 FLOP a parameter and token; reading the prompts comes on top.

    Args:
        n_parameters: of the model.
        n_items: answers, that is items times seeds.
        tokens_per_answer: sampled tokens of one.
        speed: FLOP/s while decoding.
    """
    return 2.0 * n_parameters * n_items * tokens_per_answer / speed


def check_patience(
    weights: Weights, n_items: int, sampling: Sampling, yes: bool, device: Device = "auto"
) -> str | None:
    """A line that says how long it will take; None on a GPU and for what takes less than a minute.

    Args:
        weights: what is to answer.
        n_items: answers, that is items times seeds.
        sampling: its limit bounds the length of an answer, which is taken to be 1,000 tokens at most.
        yes: whether the person said that hours are fine.
        device: where it is to run.

    Raises:
        InputError: it would take more than an hour, and nobody said yes.
    """
    if device_of(ModelConfig(device=device)).type != "cpu":
        return None
    n_parameters, tokens = parameters(weights.path), min(sampling.max_new_tokens, LIKELY_TOKENS)
    seconds = estimate(n_parameters, n_items, tokens, decode_speed())
    if seconds < WORTH_A_LINE:
        return None
    why = "runs on the CPU" if torch.cuda.is_available() else "there is no GPU"
    line = (
        f"{weights.model} has {counted(n_parameters)} parameters and {why}: "
        f"about {humanised(seconds)} for {n_items:,} answers of {tokens:,} tokens"
    )
    if seconds > HOUR and not yes:
        raise InputError(f"{line}; add --yes to start all the same, --limit N for a part")
    return line


def counted(number: int) -> str:
    """A number of parameters in words."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:,.1f} {name}"
    return f"{number:,}"


def humanised(seconds: float) -> str:
    """A time in the largest unit of which there are at least two."""
    for size, name in ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}"
    return f"{seconds:,.0f} seconds"
