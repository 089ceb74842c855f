"""The tiny model and its shipped base: a real Qwen3-VL that loads anywhere and reads the picture."""

import json
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Qwen3VLForConditionalGeneration,
)

from core.pocket import BASE, draw_problem, pocket_problem
from core.pocket.model import build_image_processor, build_model
from core.pocket.tokenizer import build_tokenizer
from core.prompts import student_prompt

IMAGE_TOKENS = 16


@pytest.fixture(scope="module")
def base():
    """Return the shipped model, tokenizer and image processor, loaded as anybody would."""
    return (
        AutoModelForImageTextToText.from_pretrained(BASE).eval(),
        AutoTokenizer.from_pretrained(BASE),
        AutoImageProcessor.from_pretrained(BASE, backend="pil"),
    )


def test_the_model_is_a_real_qwen3_vl_of_half_a_million_to_a_million_parameters(random_model):
    assert type(random_model) is Qwen3VLForConditionalGeneration
    assert 500_000 <= sum(p.numel() for p in random_model.parameters()) <= 1_000_000
    assert random_model.config.to_dict()["vision_config"]["deepstack_visual_indexes"] == [0]
    assert {p.dtype for p in random_model.parameters()} == {torch.float32}


def test_the_model_and_the_tokenizer_agree_on_every_special_token(random_model):
    config, ids = random_model.config, build_tokenizer().get_vocab()
    assert config.image_token_id == ids["<|image_pad|>"]
    assert config.video_token_id == ids["<|video_pad|>"]
    assert (config.vision_start_token_id, config.vision_end_token_id) == (
        ids["<|vision_start|>"],
        ids["<|vision_end|>"],
    )
    assert config.text_config.eos_token_id == ids["<|im_end|>"]
    assert config.text_config.vocab_size == len(ids)


def test_a_seed_gives_the_weights_and_the_global_randomness_is_left_alone():
    state = torch.get_rng_state()
    one, same, other = (build_model(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_picture_becomes_16_merged_tokens_and_every_cell_one_patch():
    processor = build_image_processor()
    paper = Image.new("RGB", (64, 64), "white")
    seen = processor(images=[paper], return_tensors="pt")
    assert seen["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert int(seen["image_grid_thw"].prod()) // processor.merge_size**2 == IMAGE_TOKENS
    assert not seen["pixel_values"].any()
    ImageDraw.Draw(paper).rectangle((16, 40, 23, 47), fill="black")
    patches = processor(images=[paper], return_tensors="pt")["pixel_values"]
    assert (patches != 0).any(1).sum() == 1
    assert (patches != 0).all(1).sum() == 1


def test_the_base_folder_is_a_complete_checkpoint_of_less_than_four_megabytes():
    files = {file.name: file.stat().st_size for file in BASE.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= set(files)
    assert sum(files.values()) < 4_000_000
    assert json.loads((BASE / "config.json").read_text())["architectures"] == ["Qwen3VLForConditionalGeneration"]


def test_the_base_loads_without_a_missing_or_a_superfluous_weight():
    loaded: Any = AutoModelForImageTextToText.from_pretrained(BASE, output_loading_info=True)
    model, loading = loaded
    assert type(model) is Qwen3VLForConditionalGeneration
    assert not any(loading.values()), loading
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_base_is_what_the_code_builds_today(base, random_model):
    model, tokenizer, processor = base
    shapes = {name: weight.shape for name, weight in random_model.state_dict().items()}
    assert {name: weight.shape for name, weight in model.state_dict().items()} == shapes
    made = build_tokenizer()
    assert tokenizer.get_vocab() == made.get_vocab()
    assert tokenizer.chat_template == made.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == (made.eos_token, made.pad_token)
    picture = pocket_problem("train", 0, 0).images[0]
    seen, expected = (p(images=[picture], return_tensors="pt") for p in (processor, build_image_processor()))
    assert torch.equal(seen["pixel_values"], expected["pixel_values"])


def answered(base, problems, pictures):
    """Return greedy responses by transformers' own generation."""
    model, tokenizer, processor = base
    seen = processor(images=pictures, return_tensors="pt")
    prompts = []
    for problem in problems:
        messages = list(student_prompt(problem).messages)
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append(text.replace("<|image_pad|>", "<|image_pad|>" * IMAGE_TOKENS))
    inputs = tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
    is_image = (inputs["input_ids"] == model.config.image_token_id).int()
    with torch.inference_mode():
        out = model.generate(**inputs, **seen, mm_token_type_ids=is_image, do_sample=False, max_new_tokens=96)
    return tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_base_reads_unseen_labels_from_the_picture_and_not_from_a_blank_one(base):
    numbers = range(24)
    problems = [pocket_problem("validation", i, 0) for i in numbers]
    stated = [" and ".join(draw_problem("validation", i, 0).labels) + "." for i in numbers]
    pictures = [problem.images[0] for problem in problems]
    blank = [Image.new("RGB", picture.size, "white") for picture in pictures]
    read, guessed = (
        sum(labels in text for labels, text in zip(stated, answered(base, problems, shown), strict=True))
        for shown in (pictures, blank)
    )
    assert read >= 20
    assert guessed <= 4
