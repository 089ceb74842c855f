"""The tokenizer: one token a character, Qwen's special tokens, Qwen's chat layout."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from core.pocket.tokenizer import UNKNOWN, build_tokenizer

TOKENIZER = build_tokenizer()
QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
characters = st.sampled_from([*map(chr, range(32, 127)), "\n"])


def encode(text):
    return TOKENIZER.encode(text, add_special_tokens=False)


@given(st.text(characters, max_size=200))
@example("two blank lines\n\n\nand  two spaces")
def test_printable_text_comes_back_and_takes_one_token_a_character(text):
    ids = encode(text)
    assert len(ids) == len(text)
    assert TOKENIZER.decode(ids) == text


@given(st.text(max_size=50))
def test_any_other_character_is_one_unknown_token(text):
    readable = {*map(chr, range(32, 127)), "\n"}
    assert TOKENIZER.decode(encode(text)) == "".join(c if c in readable else UNKNOWN for c in text)
    assert len(encode(text)) == len(text)


def test_every_character_has_a_token_of_its_own():
    ids = encode("".join(map(chr, range(32, 127))) + "\n")
    assert len(set(ids)) == 96
    assert TOKENIZER.unk_token_id not in ids


@pytest.mark.parametrize("token", QWEN_TOKENS)
def test_special_tokens_have_the_names_of_qwen_and_one_id_each(token):
    (number,) = encode(token)
    assert TOKENIZER.convert_ids_to_tokens(number) == token
    assert encode(f"a{token}b") == [*encode("a"), number, *encode("b")]
    assert TOKENIZER.decode([*encode("a"), number], skip_special_tokens=True) == "a"


def test_a_turn_ends_with_im_end_and_padding_goes_left():
    assert (TOKENIZER.eos_token, TOKENIZER.pad_token) == ("<|im_end|>", "<|endoftext|>")
    padded = TOKENIZER(["ab", "a"], padding=True)
    assert padded["input_ids"][1] == [TOKENIZER.pad_token_id, *encode("a")]
    assert padded["attention_mask"][1] == [0, 1]


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.chat_template == TOKENIZER.chat_template
    assert loaded.special_tokens_map == TOKENIZER.special_tokens_map
    assert loaded.padding_side == "left"
    text = "<|im_start|>user\nFind  x. {~}\u00e9<|im_end|>\n"
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.decode(loaded.encode(text)) == TOKENIZER.decode(TOKENIZER.encode(text))


def templated(*messages, **options):
    return TOKENIZER.apply_chat_template(list(messages), tokenize=False, **options)


def test_a_user_turn_with_an_image_is_laid_out_as_qwen3_vl_does():
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Find x."}]}
    expected = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Find x.<|im_end|>\n"
    assert templated(turn, add_generation_prompt=True) == expected + "<|im_start|>assistant\n"
    assert templated(turn) == expected


def test_images_stay_between_the_texts_they_stand_between():
    image, texts = {"type": "image"}, [{"type": "text", "text": text} for text in ("See ", "\n and ")]
    written = templated({"role": "user", "content": [texts[0], image, texts[1], image]})
    pad = "<|vision_start|><|image_pad|><|vision_end|>"
    assert written == f"<|im_start|>user\nSee {pad}\n and {pad}<|im_end|>\n"


def test_plain_turns_follow_one_another():
    written = templated(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Find x."},
        {"role": "assistant", "content": "\\boxed{3}"},
    )
    assert written == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nFind x.<|im_end|>\n"
        "<|im_start|>assistant\n\\boxed{3}<|im_end|>\n"
    )
