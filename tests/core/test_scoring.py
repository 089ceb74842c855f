"""The packed forward computes what the plain padded transformers forward computes."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from benchmarks import plain
from benchmarks.miniature import Question
from core.policy import LORA_LAYERS, Policy
from core.scoring import EncodedPrompt, ImageFeatures, Sheaf, pack

IMAGE, VIDEO, START, END, VOCABULARY = 5, 6, 3, 4, 60


def tiny_qwen3vl() -> Qwen3VLForConditionalGeneration:
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_interleaved": True,
                "mrope_section": [4, 2, 2],
            },
            "initializer_range": 0.2,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.2,
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return Qwen3VLForConditionalGeneration(config).eval()


def tiny_llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def with_lora(model, *, precise: bool = False) -> Any:
    """Adapters as after some steps: a factor that is zero would hide half of the gradient.

    Args:
        precise: leave them float32 whatever the model is, as peft makes them.
    """
    dtype, generator = model.dtype, torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=LORA_LAYERS))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=generator)
    return adapted if precise else adapted.to(dtype)


def policy_of(model) -> Policy:
    sees_images = hasattr(model.config, "vision_config")
    return Policy(copy.deepcopy(model), tokenizer=None, image_processor=object() if sees_images else None)


def ids(*shape: int, seed: int) -> Tensor:
    return torch.randint(10, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the plain forward needs of a sheaf; without images `grid` is empty."""

    token_ids: Tensor
    grid: Tensor
    pixels: Tensor
    responses: tuple[Tensor, ...]


Grids = Sequence[tuple[int, int, int]]


def sheaf(model, grids: Grids, responses: Sequence[Tensor], hint: int = 0, seed: int = 0, before: int = 4):
    """A prompt of words, images, words, a hint and words, with responses below it; and the same for the plain forward.

    Args:
        grids: patches over time, height and width, one an image.
        hint: its length.
        seed: of words and pixels.
        before: number of words before the images.
    """
    grid = torch.tensor(grids).reshape(-1, 3)
    blocks = [
        torch.cat([torch.tensor([START]), torch.full((t * h * w // 4,), IMAGE), torch.tensor([END])])
        for t, h, w in grids
    ]
    token_ids = torch.cat(
        [ids(before, seed=seed), *blocks, ids(5, seed=seed + 1), ids(hint, seed=90 + hint), ids(2, seed=99)]
    )
    pixels = torch.randn(int(grid.prod(-1).sum()), 3 * 2 * 16, generator=torch.Generator().manual_seed(seed))
    asked = Asked(token_ids, grid, pixels, tuple(responses))
    if not grids:
        axes = 3 if hasattr(model.config, "vision_config") else 1
        positions = torch.arange(len(token_ids)).expand(axes, -1)
        return Sheaf(
            EncodedPrompt(token_ids, positions, torch.zeros(0, dtype=torch.long), None), asked.responses
        ), asked
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad():
        seen = base.get_image_features(pixels.to(model.dtype), grid, return_dict=True)
    features = ImageFeatures(grid, torch.cat(seen.pooler_output), tuple(torch.cat(x) for x in seen.deepstack_features))
    is_image = token_ids == IMAGE
    positions, _ = base.model.get_rope_index(token_ids[None], is_image.int()[None], image_grid_thw=grid)
    prompt = EncodedPrompt(token_ids, positions[:, 0], is_image.nonzero()[:, 0], features)
    return Sheaf(prompt, asked.responses), asked


def trees_of(model, groups: Sequence[Grids], group_size: int) -> tuple[list[list[Sheaf]], list[Asked]]:
    """One tree a group, under three prompts with hints of 0, 3 and 6 tokens; ragged responses, unequal prompts."""
    responses = tuple(ids(1 + 2 * (i % 4), seed=50 + i) for i in range(group_size))
    trees, plainly = [], []
    for group, grids in enumerate(groups):
        told = [sheaf(model, grids, responses, hint, seed=group, before=4 + 3 * group) for hint in (0, 3, 6)]
        features = told[0][0].prompt.features
        shared = [Sheaf(dataclasses.replace(s.prompt, features=features), s.responses) for s, _ in told]
        trees.append(shared)
        plainly += [asked for _, asked in told]
    return trees, plainly


def plain_log_probs(model, asked: Asked) -> Tensor:
    """Every response in its own unpadded row: the reference nobody doubts."""
    out = []
    for response in asked.responses:
        row, extra = torch.cat([asked.token_ids, response])[None], {}
        if len(asked.grid):
            is_image = torch.zeros_like(row)
            is_image[0, : len(asked.token_ids)] = asked.token_ids == IMAGE
            pixels = asked.pixels.to(model.dtype)
            extra = {"pixel_values": pixels, "image_grid_thw": asked.grid, "mm_token_type_ids": is_image.int()}
        logits = model(input_ids=row, use_cache=False, **extra).logits[0, len(asked.token_ids) - 1 : -1]
        out.append(logits.log_softmax(-1).gather(-1, response[:, None])[:, 0])
    return torch.cat(out)


MODELS = {"qwen3vl": tiny_qwen3vl, "llama": tiny_llama}
GROUPS = {
    "one image": ("qwen3vl", ([(1, 4, 4)], [(1, 4, 4)])),
    "images of several sizes": ("qwen3vl", ([(1, 8, 4)], [(1, 6, 8)])),
    "several images": ("qwen3vl", ([(1, 4, 4), (1, 6, 8)], [(1, 8, 4), (1, 4, 4), (1, 4, 6)])),
    "image beside text": ("qwen3vl", ([], [(1, 4, 6)])),
    "text": ("llama", ([], [])),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("group_size", [1, 2, 8])
def test_packed_log_probs_equal_the_plain_forward(dtype, tolerance, name, group_size) -> None:
    build, groups = GROUPS[name]
    model = MODELS[build]().to(dtype)
    trees, plainly = trees_of(model, groups, group_size)
    with torch.no_grad():
        log_p, entropy = policy_of(model).score(trees)
        expected = [plain_log_probs(model, asked) for asked in plainly]
    assert (log_p - torch.cat(expected)).abs().max() < tolerance
    assert (entropy > 0).all()
    assert len(plainly[0].token_ids) != len(plainly[3].token_ids)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the hint matters, so the test can fail


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-6)])
@pytest.mark.parametrize("name", ["several images", "text"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_packed_gradients_equal_the_plain_forward(dtype, tolerance, name, tuning, checkpointed) -> None:
    build, groups = GROUPS[name]
    model = MODELS[build]().to(dtype)
    model = with_lora(model) if tuning == "lora" else model
    policy = policy_of(model)
    if checkpointed:
        policy.checkpoint_gradients()
    trees, plainly = trees_of(model, groups, group_size=2)
    log_p, _ = policy.score(trees)
    coefficients = torch.linspace(-1, 1, len(log_p), dtype=dtype)
    (log_p * coefficients).sum().backward()
    expected = torch.cat([plain_log_probs(model, asked) for asked in plainly])
    (expected * coefficients).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if name in policy.trainable}
    largest = max(float(g.abs().max()) for g in gradients.values())
    for name, parameter in policy.trainable.items():
        # transformers' RMSNorm computes in float32 even in float64, so there too gradients agree to float32's rounding
        assert (parameter.grad - gradients[name]).abs().max() < tolerance * largest, name
        assert gradients[name].abs().max() > 1e-3, name  # no gradient is missing on both sides
    assert all(p.grad is None for n, p in policy.model.named_parameters() if "visual" in n)
    assert all(("lora" in name) == (tuning == "lora") for name in policy.trainable)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_in_bfloat16_packed_is_not_further_from_float32_than_padded(tuning: str) -> None:
    rounded: Any = tiny_qwen3vl().to(torch.bfloat16)
    if tuning == "lora":
        rounded = with_lora(rounded, precise=True)
    precise = copy.deepcopy(rounded).float()
    responses = tuple(ids(30 + 5 * (i % 3), seed=50 + i) for i in range(8))
    errors: dict[str, list[Tensor]] = {"packed": [], "padded": []}
    for seed in range(4):
        below, asked = sheaf(rounded, [(1, 8, 4)], responses, seed=seed)
        rows = plain.padded(Question(asked.token_ids, asked.grid, asked.pixels), responses)
        with torch.no_grad():
            exact = plain_log_probs(precise, asked)
            errors["packed"].append(policy_of(rounded).score([[below]])[0] - exact)
            errors["padded"].append(plain.log_probs(rounded, rows) - exact)
    mean = {way: float(torch.cat(found).abs().mean()) for way, found in errors.items()}
    assert 1e-4 < mean["packed"] < 1.1 * mean["padded"]


def test_a_sampled_image_placeholder_is_an_ordinary_token() -> None:
    model = tiny_qwen3vl()
    below, _ = sheaf(model, [(1, 4, 4)], (torch.tensor([12, IMAGE, 13]),))
    log_p, _ = policy_of(model).score([[below]])
    assert log_p.isfinite().all()


def test_prompts_of_one_tree_must_show_the_same_images() -> None:
    model = tiny_qwen3vl()
    (seeing, _), (blind, _) = sheaf(model, [(1, 4, 4)], ()), sheaf(model, [], ())
    with pytest.raises(ValueError, match="same images"):
        pack([[seeing, blind]])


@pytest.mark.parametrize("build", MODELS.values())
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("use_cache", [False, True])
def test_a_policys_model_refuses_a_forward_without_a_view(build, checkpointed, use_cache) -> None:
    # so nobody can expand a prompt's keys and values: under checkpointing transformers drops them, without an error
    policy = policy_of(build())
    if checkpointed:
        policy.checkpoint_gradients()
    with pytest.raises(ValueError, match="attention view"):
        policy.model(input_ids=ids(1, 4, seed=0), use_cache=use_cache)


def test_gradient_checkpointing_computes_layers_again_and_changes_nothing() -> None:
    model = tiny_qwen3vl()
    below, _ = sheaf(model, [(1, 4, 4)], tuple(ids(n, seed=n) for n in (2, 6, 3)), hint=2)
    gradients, calls = [], []
    for checkpointed in (False, True):
        policy, count = policy_of(model), [0]
        if checkpointed:
            policy.checkpoint_gradients()

        def counted(*_: object, count: list[int] = count) -> None:
            count[0] += 1

        policy.decoder.layers[0].self_attn.register_forward_hook(counted)
        policy.score([[below]])[0].sum().backward()
        gradients.append({n: p.grad for n, p in policy.trainable.items()})
        calls.append(count[0])
    assert calls == [1, 2]
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
