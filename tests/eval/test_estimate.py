"""How long an evaluation takes on a CPU: from the configuration alone, told in words, refused when it is days."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3VLConfig

import eval.estimate
from core.config import POCKET_BASE
from core.errors import InputError
from core.sampling import Sampling
from eval.estimate import check_patience, counted, decode_speed, estimate, humanised, parameters
from eval.weights import Weights, resolve

PAPER = 8402
LONG = Sampling(max_new_tokens=32_000)
SIZES = {
    "2B": {"hidden_size": 2048, "num_hidden_layers": 28, "intermediate_size": 6144, "num_attention_heads": 16},
    "4B": {"hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728, "num_attention_heads": 32},
}


@pytest.fixture
def qwen(tmp_path):
    """Return a function that gives a Qwen3-VL of a size without its weights."""

    def weights(size: str) -> Weights:
        config = Qwen3VLConfig(
            text_config=SIZES[size]
            | {"vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
            vision_config={
                "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
                "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17],
                "out_hidden_size": SIZES[size]["hidden_size"],
            },
            tie_word_embeddings=True,
        )  # fmt: skip
        config.save_pretrained(tmp_path / size)
        name = f"Qwen/Qwen3-VL-{size}-Instruct"
        return Weights(path=str(tmp_path / size), model=name, method="base", label="Base")

    return weights


@pytest.fixture
def slow_cpu(monkeypatch):
    """A CPU of 8.85 GFLOP/s, without a GPU beside it."""
    monkeypatch.setattr(eval.estimate, "decode_speed", lambda: 8.85e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(("size", "expected"), [("2B", 2_127_532_032), ("4B", 4_437_815_808)])
def test_parameters_are_those_of_the_published_checkpoints_and_tied_ones_count_once(qwen, size, expected):
    layer = SIZES[size]
    hidden, inner = layer["hidden_size"], layer["intermediate_size"]
    queries = layer["num_attention_heads"] * 128
    attention = 2 * hidden * queries + 2 * hidden * 8 * 128 + 2 * 128
    language = 151_936 * hidden + hidden + layer["num_hidden_layers"] * (attention + 3 * hidden * inner + 2 * hidden)
    found = parameters(qwen(size).path)
    assert found == expected
    assert 0.40e9 < found - language < 0.43e9, "the rest is the vision tower of 0.4 billion"


def test_the_shipped_base_has_the_parameters_of_its_file():
    in_file = sum(tensor.numel() for tensor in load_file(POCKET_BASE / "model.safetensors").values())
    assert parameters(str(POCKET_BASE)) == in_file


@pytest.mark.parametrize(
    "content", ["{", '{"model_type": "no_such_model"}', '{"model_type": "qwen3_vl", "image_token_id": "x"}']
)
def test_a_configuration_that_transformers_does_not_read_is_bad_input(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="configuration cannot be read"):
        parameters(str(tmp_path))


def test_time_is_two_flop_a_parameter_and_token():
    assert estimate(3_000_000, 10, 500, speed=1e9) == 30.0


def test_the_speed_of_this_cpu_is_measured_in_a_moment_and_is_no_fantasy():
    assert 1e8 < decode_speed() < 1e14


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (5400, "90 minutes"),
        (7200, "2 hours"),
        (100_000, "28 hours"),
        (97.4 * 86400, "97 days"),
        (3650 * 86400, "10 years"),
        (4e12, "126,839 years"),
    ],
)
def test_times_are_in_the_largest_unit_of_which_there_are_two(seconds, words):
    assert humanised(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(590_000, "590,000"), (1_000_000, "1.0 million"), (4_437_815_808, "4.4 billion")]
)
def test_parameters_in_words(number, words):
    assert counted(number) == words


def test_days_on_a_cpu_ask_for_yes_and_say_why(qwen, slow_cpu):
    told = (
        "Qwen/Qwen3-VL-4B-Instruct has 4.4 billion parameters and there is no GPU: "
        "about 98 days for 8,402 answers of 1,000 tokens"
    )  # 2 · 4,437,815,808 · 8,402,000 FLOP at 8.85 GFLOP/s are 8.43e6 s
    with pytest.raises(InputError) as caught:
        check_patience(qwen("4B"), PAPER, LONG, yes=False)
    assert str(caught.value) == f"{told}; add --yes to start all the same, --limit N for a part"
    assert check_patience(qwen("4B"), PAPER, LONG, yes=True) == told


def test_a_low_limit_and_few_items_are_cheap(qwen, slow_cpu):
    line = check_patience(qwen("2B"), 10, Sampling(max_new_tokens=100), yes=False)
    assert line is not None
    assert line.endswith("about 8 minutes for 10 answers of 100 tokens")


def test_an_hour_is_where_it_starts_to_ask(qwen, slow_cpu):
    """2 · 2,127,532,032 · 1,000 FLOP an answer at 8.85 GFLOP/s are 480.8 s: seven answers fit into an hour."""
    assert check_patience(qwen("2B"), 7, LONG, yes=False)
    with pytest.raises(InputError, match="about 64 minutes for 8 answers"):
        check_patience(qwen("2B"), 8, LONG, yes=False)


def test_what_takes_less_than_a_minute_is_not_mentioned(slow_cpu):
    assert check_patience(resolve("pocket"), 50, LONG, yes=False) is None


def test_a_gpu_is_never_asked_and_a_cpu_beside_one_is_not_called_alone(qwen, monkeypatch, slow_cpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gone = Weights(path="gone", model="gone", method="base", label="Base")
    assert check_patience(gone, PAPER, LONG, yes=False) is None
    with pytest.raises(InputError, match="billion parameters and runs on the CPU: about 98 days"):
        check_patience(qwen("4B"), PAPER, LONG, yes=False, device="cpu")
