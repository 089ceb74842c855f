"""The benchmark of the engine compares like with like, and tells a missed goal."""

import json

import pytest
import torch

from benchmarks import engine, miniature
from benchmarks.engine import Comparison, Side, Work, pocket, small, tokens_until
from benchmarks.measure import Seconds

SIZE = miniature.Size(vocabulary=64, hidden=128, layers=2, vision_hidden=32, vision_layers=1)


def tiny(adapters: bool) -> Work:
    return small(adapters, SIZE, image_tokens=4, problems=2, group_size=3, limit=5)


def side(seconds: float, tokens: int, first: float = 1.0) -> Side:
    return Side(Seconds(seconds, seconds / 2, seconds * 2, 5), Seconds(first, first, first, 5), tokens, 10)


@pytest.fixture(scope="module")
def pocket_work() -> Work:
    return pocket(problems=5, group_size=1, limit=96)


def test_both_sides_say_the_same_when_nothing_is_left_to_chance(pocket_work) -> None:
    for norm in (pocket_work.policy.decoder.norm, pocket_work.model.get_decoder().norm):
        norm.weight.data *= 1e4  # only the likeliest token has a chance
    lengths = pocket_work.by_engine(0)
    assert lengths == pocket_work.by_generate(1)
    assert len(set(lengths)) > 1
    assert max(lengths) < 96, "the end token should come by itself"
    assert pocket_work.by_engine(0, 3) == pocket_work.by_generate(0, 3) == [3] * 5


@pytest.mark.parametrize("adapters", [False, True])
def test_both_sides_have_the_same_weights_and_no_response_of_the_miniature_ends_early(adapters) -> None:
    work = tiny(adapters)
    ours, theirs = work.policy.model.state_dict(), work.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any("lora_B" in name and bool(ours[name].any()) for name in ours) == adapters
    assert work.by_engine(0) == work.by_generate(0) == [5] * 6


def test_both_sides_encode_an_image_once() -> None:
    work, seen = tiny(False), []
    for model, sample in ((work.policy.model, work.by_engine), (work.model, work.by_generate)):
        patches: list[int] = []

        def count(_: object, inputs: tuple[torch.Tensor, ...], patches: list[int] = patches) -> None:
            patches.append(len(inputs[0]))

        handle = model.model.visual.patch_embed.register_forward_pre_hook(count)
        sample(0)
        handle.remove()
        seen.append(sum(patches))
    assert seen == [2 * 16, 2 * 16]


def test_only_tokens_up_to_and_with_the_end_token_count() -> None:
    assert tokens_until(torch.tensor([7, 2, 0, 0]), 2) == 2
    assert tokens_until(torch.tensor([2, 2, 2]), 2) == 1
    assert tokens_until(torch.tensor([7, 8, 9]), 2) == 3


def test_ratios_are_of_tokens_per_second() -> None:
    found = Comparison("pocket", side(2.0, 1000), side(9.0, 900, first=4.0))
    assert found.ratio == pytest.approx(5)  # 500 over 100
    assert found.worst_and_best == (pytest.approx(1.25), pytest.approx(20))
    assert found.further_ratio == pytest.approx(990 / (890 / 5))  # 990 in 1 s over 890 in 5 s
    assert (found.name, found.is_kept) == ("engine_over_generate", True)


@pytest.mark.parametrize(("seconds", "status"), [(2.0, 0), (6.0, 1)])
def test_the_exit_status_and_the_last_line_tell_whether_the_goal_was_reached(
    monkeypatch, capsys, seconds, status
) -> None:
    slow = Comparison("miniature", side(20.0, 900), side(9.0, 900))  # no goal, so no miss
    made_up = {"pocket": Comparison("pocket", side(seconds, 900), side(9.0, 900)), "miniature": slow}
    monkeypatch.setattr(engine, "CASES", tuple(made_up))
    monkeypatch.setattr(engine, "build", lambda case: case)
    monkeypatch.setattr(engine, "compare", lambda case, work, repetitions: made_up[case])
    assert engine.main(["--json"]) == status
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["engine_over_generate"] == pytest.approx(9 / seconds)
    assert last["engine_over_generate_miniature"] == pytest.approx(0.45)
    assert last["goals"] == {"engine_over_generate": 3}
