"""Eq. 6: Δ_t is the belief update for r⁺ minus the one for r⁻, exact in a world small enough to enumerate.

The world is a prior over answers r and tables P(y_t | r, y_<t); its student knows no r and mixes them by its belief.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.methods import CEPO, RLSD, Evidence

ANSWERS, LENGTH, VOCABULARY = 3, 4, 5


def beliefs(prior: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    """P(r | y_<t) for t = 0 .. T, [T + 1, answers], from the likelihood of each sampled token, [T, answers]."""
    joint = prior * np.vstack([np.ones(ANSWERS), likelihood.cumprod(0)])
    return joint / joint.sum(1, keepdims=True)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), right=st.integers(0, ANSWERS - 1), other=st.integers(1, ANSWERS - 1))
@pytest.mark.parametrize("method", [CEPO(), RLSD()], ids=lambda m: m.name)
def test_evidence_is_the_differential_belief_update(method, seed, right, other):
    random = np.random.default_rng(seed)
    prior = random.dirichlet(np.ones(ANSWERS))
    # What follows a prefix depends on it: a table for every prefix y_<t on the sampled path is all the path needs.
    tables = random.dirichlet(np.ones(VOCABULARY), size=(LENGTH, ANSWERS))
    path = random.integers(VOCABULARY, size=LENGTH)
    likelihood = tables[np.arange(LENGTH), :, path]

    belief = beliefs(prior, likelihood)
    student = (belief[:-1] * likelihood).sum(1)
    wrong = (right + other) % ANSWERS
    evidence = Evidence(
        *(torch.from_numpy(np.log(p))[None] for p in (student, likelihood[:, right], likelihood[:, wrong]))
    )

    update = np.diff(np.log(belief), axis=0)
    expected = update[:, right] - (update[:, wrong] if method.name == "cepo" else 0)
    np.testing.assert_allclose(method.delta(evidence)[0].numpy(), expected, atol=1e-12)
