"""Policies for tests: the pocket model with random weights, and the shipped base."""

import copy

import pytest
from PIL import ImageFile

from core.config import ModelConfig
from core.pocket.model import build_image_processor, build_model
from core.pocket.tokenizer import build_tokenizer
from core.policy import Policy


@pytest.fixture(autouse=True)
def cut_pictures_are_refused(monkeypatch) -> None:
    """As in training: lmms-eval, which tests of eval import, has Pillow take cut pictures for whole ones."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


@pytest.fixture(scope="session")
def random_model():
    """A pocket-sized Qwen3-VL that knows nothing; its own attention, for reference forwards."""
    return build_model(seed=3).eval()


@pytest.fixture
def random_policy(random_model) -> Policy:
    """A policy over a copy of it."""
    return Policy(copy.deepcopy(random_model), build_tokenizer(), build_image_processor())


@pytest.fixture
def base_policy() -> Policy:
    """The shipped base, fully trainable."""
    return Policy.load(ModelConfig())
