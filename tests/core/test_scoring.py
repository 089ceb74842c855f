"""The packed forward computes what the plain padded transformers forward computes."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from core.policy import Policy
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


def policy_of(model) -> Policy:
    sees_images = hasattr(model.config, "vision_config")
    return Policy(copy.deepcopy(model), tokenizer=None, image_processor=object() if sees_images else None)


def ids(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(10, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def image_prompt(model, grids: list[tuple[int, int, int]], hint: torch.Tensor, seed: int):
    """Token ids with one block of placeholders an image, the features, and what the plain forward needs."""
    grid = torch.tensor(grids)
    blocks = [
        torch.cat([torch.tensor([START]), torch.full((t * h * w // 4,), IMAGE), torch.tensor([END])])
        for t, h, w in grids
    ]
    token_ids = torch.cat([ids(4, seed=seed), *blocks, ids(5, seed=seed + 1), hint, ids(2, seed=99)])
    pixels = torch.randn(int(grid.prod(-1).sum()), 3 * 2 * 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        seen = model.get_image_features(pixels.to(model.dtype), grid, return_dict=True)
    features = ImageFeatures(grid, torch.cat(seen.pooler_output), tuple(torch.cat(x) for x in seen.deepstack_features))
    is_image = token_ids == IMAGE
    positions, _ = model.model.get_rope_index(token_ids[None], is_image.int()[None], image_grid_thw=grid)
    return token_ids, positions[:, 0], is_image.nonzero()[:, 0], features, pixels, grid


def plain_log_probs(model, token_ids, responses, pixels=None, grid=None) -> torch.Tensor:
    """Every response in its own unpadded row: the reference nobody doubts."""
    out = []
    for response in responses:
        row = torch.cat([token_ids, response])[None]
        extra = {}
        if pixels is not None:
            is_image = torch.zeros_like(row)
            is_image[0, : len(token_ids)] = token_ids == IMAGE
            extra = {
                "pixel_values": pixels.to(model.dtype),
                "image_grid_thw": grid,
                "mm_token_type_ids": is_image.int(),
            }
        logits = model(input_ids=row, use_cache=False, **extra).logits[0, len(token_ids) - 1 : -1]
        out.append(logits.log_softmax(-1).gather(-1, response[:, None])[:, 0])
    return torch.cat(out)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("grids", [[(1, 4, 4)], [(1, 8, 4)], [(1, 4, 4), (1, 6, 8)]])
@pytest.mark.parametrize("group_size", [1, 2, 8])
def test_packed_log_probs_of_image_prompts_equal_the_plain_forward(dtype, tolerance, grids, group_size) -> None:
    model = tiny_qwen3vl().to(dtype)
    policy = policy_of(model)
    responses = tuple(ids(3 + 2 * (i % 3), seed=50 + i) for i in range(group_size))
    trees, expected = [], []
    for group in range(2):
        sheaves = []
        for hint in (ids(0, seed=1), ids(3, seed=2), ids(6, seed=3)):
            token_ids, positions, at, features, pixels, grid = image_prompt(model, grids, hint, seed=group)
            features = sheaves[0].prompt.features if sheaves else features
            sheaves.append(Sheaf(EncodedPrompt(token_ids, positions, at, features), responses))
            expected.append(plain_log_probs(model, token_ids, responses, pixels, grid))
        trees.append(sheaves)
    log_p, entropy = policy.score(trees)
    assert (log_p - torch.cat(expected)).abs().max() < tolerance
    assert (entropy > 0).all()
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the hint matters, so the test can fail


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_log_probs_of_text_prompts_equal_the_plain_forward(dtype) -> None:
    model = tiny_llama().to(dtype)
    policy = policy_of(model)
    responses = tuple(ids(n, seed=n) for n in (1, 7, 4))
    trees, expected = [], []
    for length in (5, 12):
        token_ids = ids(length, seed=length)
        prompt = EncodedPrompt(token_ids, torch.arange(length)[None], torch.zeros(0, dtype=torch.long), None)
        trees.append([Sheaf(prompt, responses)])
        expected.append(plain_log_probs(model, token_ids, responses))
    log_p, _ = policy.score(trees)
    assert (log_p - torch.cat(expected)).abs().max() < (5e-6 if dtype == torch.float32 else 1e-12)


def test_packed_gradients_equal_the_plain_forward() -> None:
    model = tiny_qwen3vl().to(torch.float64)
    policy = policy_of(model)
    responses = tuple(ids(n, seed=n) for n in (2, 6, 3))
    token_ids, positions, at, features, pixels, grid = image_prompt(model, [(1, 4, 4)], ids(2, seed=8), seed=0)
    coefficients = torch.linspace(-1, 1, sum(map(len, responses)), dtype=torch.float64)
    log_p, _ = policy.score([[Sheaf(EncodedPrompt(token_ids, positions, at, features), responses)]])
    (log_p * coefficients).sum().backward()
    (plain_log_probs(model, token_ids, responses, pixels, grid) * coefficients).sum().backward()
    plain = dict(model.named_parameters())
    for name, parameter in policy.trainable.items():
        # transformers' RMSNorm computes in float32 even here, so gradients agree to float32's rounding
        difference = (parameter.grad - plain[name].grad).abs().max()
        assert difference < 1e-6 * plain[name].grad.abs().max().clamp(min=1), name
    assert all(p.grad is None for n, p in policy.model.named_parameters() if "visual" in n)


def test_a_sampled_image_placeholder_is_an_ordinary_token() -> None:
    model = tiny_qwen3vl()
    policy = policy_of(model)
    token_ids, positions, at, features, *_ = image_prompt(model, [(1, 4, 4)], ids(2, seed=8), seed=0)
    prompt = EncodedPrompt(token_ids, positions, at, features)
    log_p, _ = policy.score([[Sheaf(prompt, (torch.tensor([12, IMAGE, 13]),))]])
    assert log_p.isfinite().all()


def test_prompts_of_one_tree_must_show_the_same_images() -> None:
    model = tiny_qwen3vl()
    token_ids, positions, at, features, *_ = image_prompt(model, [(1, 4, 4)], ids(0, seed=8), seed=0)
    seeing = EncodedPrompt(token_ids, positions, at, features)
    blind = EncodedPrompt(ids(4, seed=1), torch.arange(4)[None].expand(3, -1), torch.zeros(0, dtype=torch.long), None)
    with pytest.raises(ValueError, match="same images"):
        pack([[Sheaf(seeing, ()), Sheaf(blind, ())]])


def test_a_policys_model_refuses_a_forward_without_a_view() -> None:
    policy = policy_of(tiny_llama())
    with pytest.raises(ValueError, match="attention view"):
        policy.model(input_ids=ids(1, 4, seed=0))


def test_gradient_checkpointing_computes_layers_again_and_changes_nothing() -> None:
    model = tiny_qwen3vl()
    token_ids, positions, at, features, *_ = image_prompt(model, [(1, 4, 4)], ids(2, seed=8), seed=0)
    tree = [Sheaf(EncodedPrompt(token_ids, positions, at, features), tuple(ids(n, seed=n) for n in (2, 6, 3)))]
    gradients, calls = [], []
    for checkpointed in (False, True):
        policy, count = policy_of(model), [0]
        if checkpointed:
            policy.checkpoint_gradients()

        def counted(*_: object, count: list[int] = count) -> None:
            count[0] += 1

        policy.decoder.layers[0].self_attn.register_forward_hook(counted)
        policy.score([tree])[0].sum().backward()
        gradients.append({n: p.grad for n, p in policy.trainable.items()})
        calls.append(count[0])
    assert calls == [1, 2]
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
