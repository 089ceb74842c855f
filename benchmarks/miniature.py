"""A miniature Qwen3-VL with random weights: its timing is a real model's, scaled; what it says means nothing.

Language model to head and vision to prefill stand in the proportions of Qwen3-VL-2B (4.5 : 1 and 0.9 : 1) at 2,816
words; at 151,936 words the head is the real one's.
"""

from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from core.policy import LORA_LAYERS, Policy, joined
from core.scoring import EncodedPrompt, ImageFeatures

END, VISION_START, VISION_END, IMAGE, VIDEO, FIRST_WORD = 2, 3, 4, 5, 6, 10
SPECIAL = (0, 1, VISION_START, VISION_END, IMAGE, VIDEO, 7, 8, 9)
"""Token ids that no response may hold."""
PATCH, MERGE = 16, 2


@dataclass(frozen=True)
class Size:
    """How large a miniature is."""

    vocabulary: int = 2816
    hidden: int = 256
    layers: int = 4
    vision_hidden: int = 96
    vision_layers: int = 2


@dataclass(frozen=True)
class Question:
    """A prompt with one image, as pixels for a plain forward."""

    token_ids: Tensor
    grid: Tensor
    """[1, 3]: patches over time, height and width."""
    pixels: Tensor

    @property
    def is_image(self) -> Tensor:
        """[1, P]: 1 at image tokens, 0 elsewhere."""
        return (self.token_ids == IMAGE).int()[None]


def build_model(size: Size, seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """The model alone, in float32 and in eval mode."""
    heads, head_size = size.hidden // 64, 64
    third = head_size // 6
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": size.vocabulary,
            "hidden_size": size.hidden,
            "intermediate_size": 3 * size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "head_dim": head_size,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_interleaved": True,
                "mrope_section": [head_size // 2 - 2 * third, third, third],
            },
            "initializer_range": 0.05,  # far enough from 0 that wrong log-probabilities would show
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_hidden,
            "intermediate_size": 4 * size.vision_hidden,
            "num_heads": size.vision_hidden // 32,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": size.hidden,
            "deepstack_visual_indexes": list(range(size.vision_layers)),
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = END
    return model.eval()


def with_adapters(model: Qwen3VLForConditionalGeneration, rank: int = 16, alpha: int = 32, seed: int = 0):
    """The model as the paper trains it: LoRA on the language model's linear layers, all else frozen."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=LORA_LAYERS))


def question(size: Size, image_tokens: int, text_tokens: int, seed: int) -> Question:
    """Words before and after one square image.

    Args:
        size: whose vocabulary the words are from.
        image_tokens: tokens the language model sees of the image, a square number.
        text_tokens: all others, the image's two marks included.
        seed: of words and pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    side = MERGE * round(image_tokens**0.5)
    before, after = text_tokens // 4, text_tokens - text_tokens // 4 - 2

    def words(n: int) -> Tensor:
        return torch.randint(FIRST_WORD, size.vocabulary, (n,), generator=generator)

    image = torch.full((image_tokens,), IMAGE)
    token_ids = torch.cat(
        [words(before), torch.tensor([VISION_START]), image, torch.tensor([VISION_END]), words(after)]
    )
    pixels = torch.randn(side * side, 3 * 2 * PATCH * PATCH, generator=generator)
    return Question(token_ids, torch.tensor([[1, side, side]]), pixels)


def responses(size: Size, lengths: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
    """Random words, one response a length."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(FIRST_WORD, size.vocabulary, (n,), generator=generator) for n in lengths)


@torch.no_grad()
def look(policy: Policy, asked: Question) -> ImageFeatures:
    """What the vision tower makes of a question's image."""
    seen = policy.base.get_image_features(asked.pixels, asked.grid, return_dict=True)
    embeddings, *deepstack = map(joined, (seen.pooler_output, *seen.deepstack_features))
    return ImageFeatures(asked.grid, embeddings, tuple(deepstack))


def encode(policy: Policy, asked: Question, features: ImageFeatures, hint: Tensor | None = None) -> EncodedPrompt:
    """A question as the trainer's passes take it, with a hint's words after it or without."""
    token_ids = asked.token_ids if hint is None else torch.cat([asked.token_ids, hint])
    is_image = token_ids == IMAGE
    positions, _ = policy.base.model.get_rope_index(token_ids[None], is_image.int()[None], image_grid_thw=asked.grid)
    return EncodedPrompt(token_ids, positions[:, 0], is_image.nonzero()[:, 0], features)
