"""The benchmark of scoring compares like with like, and tells a missed goal."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import plain, scoring
from benchmarks.measure import Seconds
from benchmarks.ways import PASSES, WAYS, Group, Work, side

TINY = Work(vocabulary=64, group_size=3, response=5, image_tokens=4, text_tokens=12)


@pytest.fixture(scope="module")
def sides():
    return {way: side(way, TINY.vocabulary) for way in WAYS}


@pytest.mark.parametrize("way", WAYS[1:])
def test_every_way_gives_the_plain_ways_log_probs_and_gradients(sides, way) -> None:
    log_p, gradient = scoring.differences(sides["plain"], sides[way], Group(TINY))
    assert log_p < 5e-6
    assert gradient < 1e-5
    other = sides[way].run(Group(replace(TINY, text_tokens=13)), "score")
    assert (other - sides["plain"].run(Group(TINY), "score")).abs().max() > 1e-2  # so the test can fail


@pytest.mark.parametrize("logits", ["everything", "responses"])
def test_padding_changes_no_row(sides, logits) -> None:
    group, model = Group(TINY), sides["plain"].model
    ragged = tuple(r[:n] for r, n in zip(group.responses, (5, 1, 3), strict=True))
    with torch.no_grad():
        together = plain.log_probs(model, plain.padded(group.question, ragged, group.hints[0]), logits)
        alone = [plain.log_probs(model, plain.padded(group.question, (r,), group.hints[0]), logits) for r in ragged]
    assert (together - torch.cat(alone)).abs().max() < 5e-6


def test_the_plain_ways_encode_the_image_once_a_row_and_the_packed_way_once(sides) -> None:
    group, seen = Group(TINY), {}
    for way, measured in sides.items():
        tower = measured.model.get_base_model().model.visual

        def count(_: object, inputs: tuple[torch.Tensor, ...], way: str = way) -> None:
            seen[way] = len(inputs[0])

        handle = tower.patch_embed.register_forward_pre_hook(count)
        measured.run(group, "score")
        handle.remove()
    assert seen == {"plain": 3 * 16, "plain, response logits": 3 * 16, "packed": 16}


def test_an_update_leaves_no_gradient_behind(sides) -> None:
    sides["packed"].run(Group(TINY), "update")
    assert all(p.grad is None for p in sides["packed"].model.parameters())


def test_a_line_tells_what_one_more_costs_and_how_far_off_it_is() -> None:
    straight = scoring.Line.through([1.0, 2.0, 4.0], [5.0, 7.0, 11.0])
    assert (straight.slope, straight.intercept, straight.departure) == pytest.approx((2, 3, 0))
    # through 0, 0, 3 at 0, 1, 2: slope 1.5, intercept -0.5; shifted up by 2 it reads 1.5, 3, 4.5 for 2, 2, 5
    bent = scoring.Line.through([0.0, 1.0, 2.0], [2.0, 2.0, 5.0])
    assert (bent.slope, bent.intercept, bent.departure) == pytest.approx((1.5, 1.5, 0.5))


def test_growth_measures_every_size_in_both_passes() -> None:
    works = tuple(replace(TINY, group_size=n) for n in (1, 2))
    (grown,) = scoring.grow(1, {"group_size": works})
    assert grown.sizes == (5, 10)
    assert all(s.median > 0 and s.n == 1 for which in PASSES for s in grown.seconds[which])


def report(packed_seconds: float) -> scoring.Report:
    """Plain takes 12 s and 4,000 MiB, packed what is said and 100 MiB, teachers 0.6 of an update."""

    def seconds(value: float) -> Seconds:
        return Seconds(value, value, value, 5)

    names = [f"{which}, {way}" for which in PASSES for way in WAYS]
    comparison = scoring.Comparison(
        work=TINY,
        seconds={name: seconds(packed_seconds if name.endswith("packed") else 12.0) for name in names},
        peak_mib={name: 100.0 if name.endswith("packed") else 4000.0 for name in names},
        log_p_difference=1e-6,
        gradient_difference=1e-6,
    )
    lines = {which: (seconds(1.0), seconds(2.0)) for which in PASSES}
    teachers = {128: {"teachers": seconds(0.6), "update": seconds(1.0)}}
    return scoring.Report((comparison,), teachers, (scoring.Growth("response", (1, 2), lines),))


@pytest.mark.parametrize(("packed_seconds", "speedup", "status"), [(2.0, 6.0, 0), (2.1, 5.714, 1)])
def test_a_missed_goal_is_the_exit_status(monkeypatch, capsys, packed_seconds, speedup, status) -> None:
    monkeypatch.setattr(scoring, "measure", lambda repetitions, console: report(packed_seconds))
    monkeypatch.setattr("sys.argv", ["scoring", "--json"])
    assert scoring.main() == status
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["score_speedup"], told["score_memory_ratio"], told["teachers_over_update"]) == (speedup, 40.0, 0.6)
    assert told["growth"][0]["score_line"] == {"slope": 1.0, "intercept": 0.0, "departure": 0.0}
