"""The policy π_θ: any transformers causal or Qwen3-VL-like model, fully trained or through LoRA.

Knows tokenizer, image processor and weights; knows nothing of methods, rewards or steps. The vision tower is frozen, so
what it sees is computed once a problem and shared by rollouts, student and teachers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import HFValidationError
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from PIL.Image import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from core.errors import InputError
from core.head import sampled_log_probs
from core.prompts import Prompt
from core.scoring import ATTENTION, AttentionView, EncodedPrompt, ImageFeatures, Packed, Sheaf, pack

if TYPE_CHECKING:
    from core.config import ModelConfig

LORA_LAYERS = r"^(?!.*visual).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$"
"""All linear layers of the language model, none of the vision tower (Table 6)."""


class Policy:
    """A model with its tokenizer, ready to encode prompts and to score responses.

    Attributes:
        trainable: the parameters that training changes, by name; all else is frozen.
        temperature: the rollouts' temperature; every log-probability is taken at it.
    """

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any, temperature: float = 1.0) -> None:
        self.model = model  # transformers and peft are too dynamic for types: what is Any here comes from them
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.temperature = temperature
        self.base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder = self.base.get_decoder()
        self.sees_images = image_processor is not None
        if self.sees_images:
            self.base.set_attn_implementation({"text_config": ATTENTION})
            for parameter in self.base.model.visual.parameters():
                parameter.requires_grad_(False)
        else:
            self.base.set_attn_implementation(ATTENTION)
        adapters = [module for module in model.modules() if isinstance(module, LoraLayer)]
        for adapter in adapters:
            adapter.cast_input_dtype_enabled = False
        # Adapters stay float32 for the optimizer. Reading them in half precision costs little; peft would cast all
        # that they read to float32 instead.
        self.casts_adapters = bool(adapters) and self.base.dtype == torch.bfloat16
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.model.eval()  # no dropout anywhere: student and teachers must differ by their context alone

    @classmethod
    def load(cls, config: "ModelConfig", temperature: float = 1.0, seed: int = 0) -> "Policy":
        """Load a hub id or a folder, on the configured device; with LoRA, adapters are initialised from `seed`."""
        model, tokenizer, image_processor = load_pretrained(config.resolved_path, getattr(torch, config.dtype))
        if config.tuning == "lora":
            lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=LORA_LAYERS)
            with torch.random.fork_rng():
                torch.random.manual_seed(seed)
                model = get_peft_model(model, lora)
        policy = cls(model.to(device_of(config)), tokenizer, image_processor, temperature)
        if config.gradient_checkpointing:
            policy.checkpoint_gradients()
        return policy

    def checkpoint_gradients(self) -> None:
        """Keep only the layers' inputs for the backward pass, and compute the rest again there."""
        self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for layer in self.decoder.layers:
            layer.training = True  # transformers checkpoints in training mode alone; what is inside stays in eval mode

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.device

    @property
    def head(self) -> Tensor:
        """The [V, H] head's weights."""
        return self.base.get_output_embeddings().weight

    @property
    def end_token_id(self) -> int:
        """The token that ends a response."""
        return self.tokenizer.eos_token_id

    @property
    def unsampled_token_ids(self) -> list[int]:
        """Special tokens no response may hold: the next forward would take them for an image or a turn."""
        added = self.tokenizer.added_tokens_decoder
        return [i for i, token in added.items() if token.special and i != self.end_token_id]

    @property
    def context(self) -> int:
        """Tokens that prompt and response may have together."""
        return self.base.config.get_text_config().max_position_embeddings

    def detokenise(self, token_ids: Sequence[int]) -> str:
        """The text of response tokens, without the end token."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    @torch.no_grad()
    def look(self, images: Sequence[tuple[Image, ...]]) -> tuple[ImageFeatures | None, ...]:
        """Run the frozen vision tower once over the images of several problems.

        Args:
            images: one tuple a problem; empty where it has none.
        """
        flat = [image.convert("RGB") for several in images for image in several]
        if not flat:
            return (None,) * len(images)
        if not self.sees_images:
            raise InputError(f"{self.base.name_or_path}: a text-only model was given a problem with images")
        seen = self.image_processor(images=flat, return_tensors="pt").to(self.device)
        grid = seen["image_grid_thw"]
        output = self.base.get_image_features(seen["pixel_values"], grid, return_dict=True)
        embeddings, *deepstack = map(joined, (output.pooler_output, *output.deepstack_features))
        tokens = (grid.prod(-1) // self.base.config.vision_config.spatial_merge_size**2).tolist()
        features, image, start = [], 0, 0
        for several in images:
            following, end = image + len(several), start + sum(tokens[image : image + len(several)])
            layers = tuple(layer[start:end] for layer in deepstack)
            features.append(ImageFeatures(grid[image:following], embeddings[start:end], layers) if several else None)
            image, start = following, end
        return tuple(features)

    def encode(self, prompt: Prompt, features: ImageFeatures | None) -> EncodedPrompt:
        """Apply the chat template, give every image its tokens, and find the rotary positions."""
        text = self.tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
        ids = torch.tensor(self.tokenizer.encode(text + prompt.continuation, add_special_tokens=False))
        if features is None:
            positions = torch.arange(len(ids), device=self.device)[None].expand(self._axes, -1)
            return EncodedPrompt(ids.to(self.device), positions, ids.new_zeros(0).to(self.device), None)
        placeholder, grid = self.base.config.image_token_id, features.grid_thw
        is_image = ids == placeholder
        if int(is_image.sum()) != len(grid):
            found = int(is_image.sum())
            raise InputError(f"the prompt holds {found} image placeholders for {len(grid)} images: {text[:80]!r}")
        repeats = torch.ones_like(ids)
        repeats[is_image] = grid.cpu().prod(-1) // self.base.config.vision_config.spatial_merge_size**2
        ids = ids.repeat_interleave(repeats).to(self.device)
        is_image = ids == placeholder
        positions, _ = self.base.model.get_rope_index(ids[None], is_image.int()[None], image_grid_thw=grid)
        return EncodedPrompt(ids, positions[:, 0], is_image.nonzero()[:, 0], features)

    @property
    def _axes(self) -> int:
        """Rotary axes: time, height and width where the model sees images, one otherwise."""
        return 3 if self.sees_images else 1

    def hidden(self, packed: Packed, view: AttentionView | None = None) -> Tensor:
        """Final hidden states [T, H] of a packed row, images placed by position."""
        embeddings = self.decoder.get_input_embeddings()(packed.token_ids)
        extra = {}
        if packed.features:
            seen = torch.cat([f.embeddings for f in packed.features]).to(embeddings.dtype)
            embeddings = embeddings.index_copy(0, packed.image_positions, seen)
            is_image = torch.zeros_like(packed.token_ids, dtype=torch.bool)
            is_image[packed.image_positions] = True
            layers = zip(*(f.deepstack for f in packed.features), strict=True)
            extra = {"visual_pos_masks": is_image[None], "deepstack_visual_embeds": [torch.cat(x) for x in layers]}
        positions = packed.positions[:, None] if self.sees_images else packed.positions
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.casts_adapters):
            output = self.decoder(
                inputs_embeds=embeddings[None],
                position_ids=positions,
                use_cache=False,
                view=view or packed.view,
                **extra,
            )
        return output.last_hidden_state[0]

    def decode(self, token_ids: Tensor, position: Tensor, view: AttentionView) -> Tensor:
        """Hidden state [rows, H] after one more token a row: [rows, 1] ids at [rows] rotary positions."""
        positions = position[None, :, None].expand(self._axes, -1, -1) if self.sees_images else position[:, None]
        output = self.decoder(input_ids=token_ids, position_ids=positions, use_cache=False, view=view)
        return output.last_hidden_state[:, 0]

    @contextmanager
    @torch.no_grad()
    def merged(self) -> Iterator[None]:
        """Within the block LoRA adapters are part of the weights they adapt, for passes without gradient.

        Merged copies are swapped in by pointer, so leaving is exact. Without adapters, or inside another such block,
        nothing changes.
        """
        adapted: list[Any] = [m for m in self.model.modules() if isinstance(m, LoraLayer) and not m.merged]
        own = [layer.get_base_layer().weight.data for layer in adapted]
        try:
            for layer, weight in zip(adapted, own, strict=True):
                layer.get_base_layer().weight.data = weight.clone()
                layer.merge()
            yield
        finally:
            for layer, weight in zip(adapted, own, strict=True):
                layer.get_base_layer().weight.data = weight
                layer.merged_adapters.clear()

    def score(self, trees: Sequence[Sequence[Sheaf]]) -> tuple[Tensor, Tensor]:
        """log P of every response token and the entropy there, flat, in the order sheaf, response, position; nats."""
        packed = pack(trees)
        states = self.hidden(packed)[packed.predicted_from]
        return sampled_log_probs(states, self.head, packed.targets, self.temperature)

    def save(self, folder: Path) -> None:
        """Write a folder that transformers (or, with LoRA, peft) loads."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.sees_images:
            self.image_processor.save_pretrained(folder)


def joined(layer: Tensor | Sequence[Tensor]) -> Tensor:
    """[image tokens, hidden] of all images, of which transformers makes one tensor or one an image by its version."""
    return layer if isinstance(layer, Tensor) else torch.cat(list(layer))


def device_of(config: "ModelConfig") -> torch.device:
    """Where the model goes; `auto` takes a GPU if there is one."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("model.device is 'cuda', but torch finds no GPU; choose 'auto' or 'cpu'")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def load_pretrained(path: str, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor (None for a text model); one clear line where they cannot be loaded."""
    try:
        config = AutoConfig.from_pretrained(path)
        sees_images = hasattr(config, "vision_config")
        auto: Any = AutoModelForImageTextToText if sees_images else AutoModelForCausalLM
        model, loading = auto.from_pretrained(path, dtype=dtype, attn_implementation="sdpa", output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        image_processor = AutoImageProcessor.from_pretrained(path, backend="pil") if sees_images else None
    except (OSError, ValueError, SafetensorError, HFValidationError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model.path {path!r}: expected a model folder or a hub id that transformers loads; {reason}"
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise InputError(f"model.path {path!r}: weights are missing from the checkpoint, for example {missing[0]!r}")
    if tokenizer.chat_template is None:
        raise InputError(f"model.path {path!r}: its tokenizer has no chat template; choose an instruction-tuned model")
    return model, tokenizer, image_processor
