"""The budget counts what a model really holds, and its numbers are those worked out by hand."""

import json
from dataclasses import replace

import pytest
from torch import nn

from benchmarks import budget, miniature
from benchmarks.budget import AGAIN, KEPT, Gpu, Work, stages, teachers, update, whole
from benchmarks.shape import QWEN3_VL_2B, QWEN3_VL_4B, Shape

ONE = Shape("one", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, deepstack=0, patch_values=1, merged=1)
"""body 2·(1 + 1) + 3 = 7, head 1: read(n after m) = 14 n + 4 n (m + n/2), predict(n) = 2 n."""
PAIR = Work(groups=1, group_size=2, prompt=4, image=1, hint=2, response=2, longest=8)


def test_the_sizes_of_qwen3_vl_are_those_worked_out_by_hand() -> None:
    assert QWEN3_VL_2B.body == 28 * (2048 * 128 * 2 * (16 + 8) + 3 * 2048 * 6144) == 1_409_286_144
    assert QWEN3_VL_2B.head == 311_164_928
    assert QWEN3_VL_2B.lora() == 28 * 16 * (2 * 4096 + 2 * 3072 + 3 * 8192) == 17_432_576
    assert QWEN3_VL_2B.key_value_bytes == 112 * 1024
    assert QWEN3_VL_2B.vision_body == 24 * 12 * 1024**2
    assert QWEN3_VL_2B.mergers == 4 * (4096**2 + 4096 * 2048)
    assert QWEN3_VL_4B.body == pytest.approx(3.633e9, rel=1e-3)
    assert QWEN3_VL_4B.lora() == pytest.approx(33.0e6, rel=1e-2)
    assert QWEN3_VL_4B.key_value_bytes == 144 * 1024


def test_an_image_of_256_tokens_costs_as_much_to_encode_as_to_read() -> None:
    assert QWEN3_VL_2B.encode(256) == pytest.approx(621_696_516_096 + 51_539_607_552 + 103_079_215_104)
    assert QWEN3_VL_2B.read(256) == pytest.approx(0.729e12, rel=1e-3)


def test_a_shape_read_from_a_config_counts_the_weights_of_the_built_model() -> None:
    model = miniature.build_model(miniature.Size(vocabulary=64))
    shape = Shape.of(model.config, "miniature")
    visual, language = model.model.visual, model.model.language_model

    def weights(part: nn.Module) -> int:
        return sum(m.weight.numel() for m in part.modules() if isinstance(m, nn.Linear))

    assert shape.body == weights(language)
    assert shape.head == model.lm_head.weight.numel()
    assert shape.vision_body == weights(visual.blocks)
    assert shape.mergers == weights(visual.merger) + weights(visual.deepstack_merger_list)
    assert shape.patch_values * shape.vision_hidden == visual.patch_embed.proj.weight.numel()
    adapted = miniature.with_adapters(model)
    assert shape.lora() == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("cut", [1, 100, 349])
def test_reading_in_two_parts_costs_what_reading_at_once_costs(cut) -> None:
    whole_length = QWEN3_VL_2B.read(350)
    assert QWEN3_VL_2B.read(cut) + QWEN3_VL_2B.read(350 - cut, after=cut) == pytest.approx(whole_length)


def test_stages_are_those_worked_out_by_hand() -> None:
    # prompt 14·4 + 4·4·2 = 88; a response below it 14·2 + 4·2·(4 + 1) = 68, its head 4; a row of 6: 14·6 + 4·6·3 = 156
    # an image: 2·(4 + 2 + 1) + 2·(1 + 1) + 4 = 22, encoded 1 + 2 + 2 times by EasyR1
    found = {s.name: (s.easyr1, s.least) for s in stages(ONE, PAIR)}
    assert found == {
        "vision": (5 * 22, 22),
        "prefill": (88, 88),
        "decode": (2 * 72, 2 * 72),
        "score": (2 * (156 + 12), (88 + 2 * 72) / 2),
        "update": (2 * (3 * 156 + 2 * 12), 2 * (88 + 2 * 68) + 2 * 2 * 4),
    }
    assert update(ONE, PAIR, AGAIN).least == 3 * (88 + 2 * 68) + 2 * 2 * 4
    # a padded row of 4 + 2 + 8: 14·14 + 4·14·7 = 588, its head 28
    # the hint 14·2 + 4·2·(4 + 1) = 68, a response below it 14·2 + 4·2·(6 + 1) = 84
    two = teachers(ONE, PAIR, 2)
    assert (two.easyr1, two.least) == (2 * 2 * (588 + 28), 88 + 2 * (68 + 2 * (84 + 4)))


def test_a_group_of_one_saves_only_the_logits_of_the_prompt() -> None:
    work = Work(group_size=1, updates=2)
    scored = budget.score(QWEN3_VL_2B, work)
    assert scored.easyr1 - 2 * scored.least == pytest.approx(work.groups * QWEN3_VL_2B.predict(work.prompt))


def test_one_update_needs_no_old_log_probabilities() -> None:
    assert budget.score(QWEN3_VL_2B, Work(updates=1)).least == 0
    step = whole(stages(QWEN3_VL_2B, Work(updates=1)))
    assert step.easyr1 == pytest.approx(4_762e12, rel=1e-3)
    assert step.redundant == pytest.approx(0.57, abs=0.005)


def test_rlsd_costs_less_than_cepo_and_nothing_costs_anything_where_no_group_is_mixed() -> None:
    for passes in (KEPT, AGAIN):
        rlsd, cepo = (budget.run_overhead(QWEN3_VL_2B, Work(), method, passes) for method in ("rlsd", "cepo"))
        assert 0 < rlsd < cepo < 2 * rlsd
    assert budget.run_overhead(QWEN3_VL_2B, Work(mixed=0), "cepo") == 0
    assert budget.run_overhead(QWEN3_VL_2B, Work(), "grpo") == 0


def test_decoding_reads_the_weights_and_what_goes_on_at_every_token() -> None:
    # lengths up to 2·1: at t = 0 both of two rollouts go on with 4 tokens each, at t = 1 one with 5
    work, gpu = replace(PAIR, response=1), Gpu(bytes_a_second=10, memory_share=0.5, token_seconds=3)
    read = 2 * 2 * (7 + 1) + 4 * (2 * 4 + 1 * 5)
    assert budget.decode_seconds(ONE, work, gpu) == pytest.approx(read / 5 + 2 * 3)


def test_the_command_tells_a_missed_goal_and_bad_input_by_its_status(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["budget", "--json"])
    assert budget.main() == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rlsd_over_grpo_run"] < told["cepo_over_grpo_run"] <= 0.07
    monkeypatch.setattr(budget, "CEPO_GOAL", told["cepo_over_grpo_run"] - 0.001)
    assert budget.main() == 1
    for bad in (["--model", "/nowhere"], ["--mixed", "1.5"], ["--groups", "0"], ["--image", "400"]):
        monkeypatch.setattr("sys.argv", ["budget", *bad])
        with pytest.raises(SystemExit) as stopped:
            budget.main()
        assert stopped.value.code == 2
        assert "expected" in capsys.readouterr().err
