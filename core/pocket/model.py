"""The tiny model: a real Qwen3-VL with vision tower, deepstack and multimodal rotary embeddings, only small."""

import torch
from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from core.pocket.drawing import CELL, SIZE
from core.pocket.tokenizer import build_tokenizer

WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS = 96, 4, 4, 2
VISION_WIDTH, VISION_LAYERS = 48, 2


def build_model(seed: int) -> Qwen3VLForConditionalGeneration:
    """A model with random weights, in float32."""
    tokenizer = build_tokenizer()
    vocabulary = tokenizer.get_vocab()
    head_size = WIDTH // HEADS
    third = head_size // 6
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 256,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_VALUE_HEADS,
            "head_dim": head_size,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_interleaved": True,
                "mrope_section": [head_size // 2 - 2 * third, third, third],
            },
            "initializer_range": 0.05,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": VISION_LAYERS,
            "hidden_size": VISION_WIDTH,
            "intermediate_size": 2 * VISION_WIDTH,
            "num_heads": 4,
            "patch_size": CELL,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": (SIZE // CELL) ** 2,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.05,
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return Qwen3VLForConditionalGeneration(config)


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Patches of one label cell; white paper is 0."""
    return Qwen2VLImageProcessorPil(
        patch_size=CELL,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
        image_mean=[1.0] * 3,
        image_std=[0.5] * 3,
    )
