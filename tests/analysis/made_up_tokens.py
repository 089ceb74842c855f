"""Made-up rollouts for the tests of the heatmap."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.heatmap import Heatmap, Tokens

WORDS = ("the", "angle", "is", "so", "x", "=", "12", "+", "5", "by", "Pythagoras", "gives")
HOSTILE = (
    "<script>window.__xss=1</script>",
    "<img src=https://leak.example/x onerror=window.__xss=1>",
    "</style>",
    "</script>",
    "<!--",
    "$x$",
    ":red[a]",
    "\u202eevil",
    "\u200b",
    "]]>",
    "&lt;",
    "\x00\x1b[31m",
    "{0}",
    "=HYPERLINK(1)",
    "\ud800",
    "\ufffe",
)
CLASSES = {"x": "word", "=": "operator", "+": "operator", "12": "digit", "5": "digit", "\n": "format"}


def tokens(pieces: Sequence[str], seed: int = 0, **given: Any) -> Tokens:
    """Tokens that read like this, with evidence drawn from a seed; a column may be given instead."""
    draw = np.random.default_rng(seed)
    count = len(pieces)
    student = -np.abs(draw.normal(0, 1, count)).astype(np.float32)
    moved = [np.minimum(student + draw.normal(mean, 0.9, count), 0).astype(np.float32) for mean in (0.2, -0.3)]
    nothing = np.full(count, np.nan, np.float32)
    columns = {
        "position": np.arange(count),
        "token_id": np.arange(count),
        "log_p_student": student,
        "log_p_correct": moved[0],
        "log_p_wrong": moved[1],
        "entropy": np.abs(draw.normal(0, 1, count)).astype(np.float32),
        "pieces": tuple(pieces),
        "piece_bytes": (None,) * count,
        "classes": tuple(CLASSES.get(piece.strip(" "), "word") for piece in pieces),
    }
    unused = dict.fromkeys(("delta", "weight", "clipped", "token_advantage", "divergence"), nothing)
    return Tokens(**{**unused, **columns, **given})


def prose(count: int, seed: int = 0) -> list[str]:
    """That many tokens, with a newline now and then."""
    words = np.random.default_rng(seed).choice(WORDS, count)
    return ["\n" if i % 37 == 36 else f"{' ' if i % 37 else ''}{word}" for i, word in enumerate(words)]


def heatmap(count: int = 40, advantage: float = 1.2, **given: Any) -> Heatmap:
    """A heatmap of made-up prose."""
    return Heatmap(tokens=tokens(prose(count)), advantage=advantage, **given)
