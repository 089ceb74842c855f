"""What a token reads as in the run file, also where it is only a part of a character."""

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from core.pocket.tokenizer import build_tokenizer
from core.records import vocabulary_rows


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, as byte-level BPE falls back to."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("text", ["é", "▲", "𝒢", "語x"])
def test_the_bytes_of_tokens_that_are_no_text_give_the_text_back(text: str) -> None:
    tokenizer = byte_level()
    rows = {row.token_id: row for row in vocabulary_rows(SimpleNamespace(tokenizer=tokenizer))}  # pyright: ignore
    ids = tokenizer.encode(text)
    assert any(rows[i].piece_bytes is not None for i in ids)
    assert b"".join(rows[i].piece_bytes or rows[i].piece.encode() for i in ids).decode() == text


def test_tokens_that_are_text_carry_no_bytes() -> None:
    rows = vocabulary_rows(SimpleNamespace(tokenizer=build_tokenizer()))  # pyright: ignore
    assert {row.piece for row in rows if row.piece_bytes is not None} <= {"\N{REPLACEMENT CHARACTER}"}
    assert next(row for row in rows if row.piece == "7").token_class == "digit"
