"""Teachers read with the weights their source names (Table 4), and only what they are asked."""

import pytest
import torch

from core.methods import TeacherSource
from core.policy import Policy
from core.teachers import TeacherWeights


def nudge(policy: Policy, amount: float) -> None:
    with torch.no_grad():
        for parameter in policy.trainable.values():
            parameter += amount


def seen_by(teacher: TeacherWeights, policy: Policy) -> torch.Tensor:
    with teacher.applied():
        return policy.trainable[NAME].detach().clone()


NAME = "model.language_model.norm.weight"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TeacherSource("actor"), [1.0, 2.0, 3.0, 4.0]),
        (TeacherSource("reference"), [0.0, 0.0, 0.0, 0.0]),
        (TeacherSource("periodic", every=2), [0.0, 2.0, 2.0, 4.0]),
        (TeacherSource("ema", decay=0.5), [0.5, 1.25, 2.125, 3.0625]),
    ],
)
def test_a_source_follows_the_policy_by_its_rule(random_policy: Policy, source: TeacherSource, expected: list) -> None:
    start = random_policy.trainable[NAME].detach().clone()
    teacher = TeacherWeights(source, random_policy)
    for step, offset in enumerate(expected, 1):
        nudge(random_policy, 1.0)
        teacher.after_step(step)
        assert torch.allclose(seen_by(teacher, random_policy) - start, torch.full_like(start, offset), atol=1e-6)


def test_the_policy_gets_its_own_weights_back_bit_for_bit_even_after_an_error(random_policy: Policy) -> None:
    teacher = TeacherWeights(TeacherSource("reference"), random_policy)
    nudge(random_policy, 0.25)
    pointers = {n: (p.data_ptr(), p.detach().clone()) for n, p in random_policy.trainable.items()}

    def fail_while_applied() -> None:
        with teacher.applied():
            assert random_policy.head.data_ptr() != pointers["model.language_model.embed_tokens.weight"][0]
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_while_applied()
    for name, (pointer, value) in pointers.items():
        assert random_policy.trainable[name].data_ptr() == pointer
        assert torch.equal(random_policy.trainable[name], value)
