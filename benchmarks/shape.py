"""The sizes of a Qwen3-VL and the FLOP they mean: a multiply-add is 2; norms, activations, LoRA are not counted."""

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, Qwen3VLConfig

from core.errors import InputError

LORA_RANK = 16


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen3-VL that cost something."""

    name: str
    hidden: int
    layers: int
    feed_forward: int
    heads: int
    key_value_heads: int
    head_size: int = 128
    vocabulary: int = 151_936
    vision_hidden: int = 1024
    vision_layers: int = 24
    vision_feed_forward: int = 4096
    deepstack: int = 3
    patch_values: int = 3 * 2 * 16 * 16
    merged: int = 4
    """Patches that become one token."""

    @classmethod
    def of(cls, config: Qwen3VLConfig, name: str) -> "Shape":
        """The sizes in a model's config."""
        text: Any = config.text_config
        vision: Any = config.vision_config
        return cls(
            name=name,
            hidden=text.hidden_size,
            layers=text.num_hidden_layers,
            feed_forward=text.intermediate_size,
            heads=text.num_attention_heads,
            key_value_heads=text.num_key_value_heads,
            head_size=text.head_dim,
            vocabulary=text.vocab_size,
            vision_hidden=vision.hidden_size,
            vision_layers=vision.depth,
            vision_feed_forward=vision.intermediate_size,
            deepstack=len(vision.deepstack_visual_indexes),
            patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
            merged=vision.spatial_merge_size**2,
        )

    @property
    def body(self) -> int:
        """Weights of the language model's linear layers."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.key_value_heads)
        return self.layers * (attention + 3 * self.hidden * self.feed_forward)

    @property
    def head(self) -> int:
        """Weights of the head."""
        return self.vocabulary * self.hidden

    @property
    def vision_body(self) -> int:
        """Weights of the vision tower's layers."""
        return self.vision_layers * (4 * self.vision_hidden**2 + 2 * self.vision_hidden * self.vision_feed_forward)

    @property
    def mergers(self) -> int:
        """Weights that make tokens of patches, at the end and at the deepstack's layers."""
        wide = self.merged * self.vision_hidden
        return (1 + self.deepstack) * (wide**2 + wide * self.hidden)

    def lora(self, rank: int = LORA_RANK) -> int:
        """Weights of the adapters on the body."""
        query, key = self.heads * self.head_size, self.key_value_heads * self.head_size
        rows = 2 * (self.hidden + query) + 2 * (self.hidden + key) + 3 * (self.hidden + self.feed_forward)
        return self.layers * rank * rows

    @property
    def key_value_bytes(self) -> int:
        """Bytes of a token's keys and values in bfloat16."""
        return 2 * 2 * self.layers * self.key_value_heads * self.head_size

    def encode(self, tokens: int) -> float:
        """FLOP to make so many tokens of an image; patches attend to all patches."""
        patches = self.merged * tokens
        linear = 2 * patches * (self.vision_body + self.patch_values * self.vision_hidden) + 2 * tokens * self.mergers
        return linear + 4 * patches**2 * self.vision_hidden * self.vision_layers

    def read(self, tokens: float, after: float = 0) -> float:
        """FLOP of the body over `tokens` that follow `after` others."""
        attention = 4 * self.heads * self.head_size * self.layers * tokens * (after + tokens / 2)
        return 2 * self.body * tokens + attention

    def predict(self, tokens: float) -> float:
        """FLOP of the head at so many positions."""
        return 2 * self.head * tokens


QWEN3_VL_2B = Shape("Qwen3-VL-2B", hidden=2048, layers=28, feed_forward=6144, heads=16, key_value_heads=8)
QWEN3_VL_4B = Shape("Qwen3-VL-4B", hidden=2560, layers=36, feed_forward=9728, heads=32, key_value_heads=8)
MODELS = {"2b": QWEN3_VL_2B, "4b": QWEN3_VL_4B}


def read_shape(path: str) -> Shape:
    """The shape in a folder's config.json.

    Raises:
        InputError: there is none, or it is not a Qwen3-VL's.
    """
    try:
        found = AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--model {path!r}: expected {', '.join(MODELS)} or a folder with a Qwen3-VL's config.json, found neither"
        ) from error
    if not isinstance(found, Qwen3VLConfig):
        raise InputError(f"--model {path!r}: expected a qwen3_vl config, found {found.model_type}; choose another")
    return Shape.of(found, path)
