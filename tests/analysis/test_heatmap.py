"""What a heatmap shows are core's numbers, in colours that can be read, of tokens that hide nothing."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis import style
from analysis.heatmap import BINS, HATCHED, Heatmap, token_table
from analysis.heatmap_svg import ramp
from analysis.pieces import display_pieces
from core.errors import InputError
from core.methods import CEPO, RLSD, Evidence

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_tokens.py"))))
NOTHING = np.full(3, np.nan, np.float32)


def shown(*pieces: str | bytes) -> list[str]:
    """What is drawn for tokens given as text or as bytes."""
    texts = [piece if isinstance(piece, str) else "\ufffd" for piece in pieces]
    drawn = display_pieces(texts, [piece if isinstance(piece, bytes) else None for piece in pieces])
    return ["".join(part.text for part in piece.parts) for piece in drawn]


def small(student: list[float], correct: list[float], wrong: list[float], **given) -> Heatmap:
    """A heatmap of a few tokens with these log-probabilities."""
    columns = {"log_p_student": student, "log_p_correct": correct, "log_p_wrong": wrong}
    arrays = {name: np.array(values, np.float32) for name, values in columns.items()}
    tokens = made_up.tokens(["a", " b", " c"][: len(student)], **arrays)
    return Heatmap(tokens, **{"advantage": 1.0, **given})


@pytest.mark.parametrize("advantage", [1.2, -0.7, 0.0])
@pytest.mark.parametrize(("lam", "epsilon_w"), [(0.5, 0.5), (0.0, 0.2), (1.0, 0.99), (0.3, 0.01)])
def test_both_panels_are_what_training_computes(advantage, lam, epsilon_w):
    view = made_up.heatmap(60, advantage, lam=lam, epsilon_w=epsilon_w)
    log_p = {name: torch.tensor(column)[None] for name, column in view.evidence.items()}
    for panel, kind in zip(view.panels, (RLSD, CEPO), strict=True):
        rule = kind(lambda_0=lam, schedule="constant", epsilon_w=epsilon_w)
        credit = rule.credit(torch.tensor([advantage]), Evidence(**log_p), 7)
        np.testing.assert_array_equal(panel.delta, credit.delta[0])
        np.testing.assert_array_equal(panel.weight, credit.weight[0])
        np.testing.assert_array_equal(panel.clipped, credit.clipped[0])
        np.testing.assert_array_equal(panel.token_advantage, credit.token_advantages[0])


def test_grpo_is_uniform_and_opsd_gives_no_weight():
    view = made_up.heatmap(20, -2.0, left="grpo", right="opsd")
    uniform, matching = view.panels
    assert (uniform.token_advantage == -2).all()
    assert (uniform.weight == 1).all()
    assert set(view.bins(uniform)) == {BINS // 2}
    assert matching.weight is None
    assert matching.token_advantage is None
    np.testing.assert_array_equal(matching.delta, view.evidence["log_p_correct"] - view.evidence["log_p_student"])
    assert len(view.legends) == 2, "the two panels are coloured by different numbers"


def test_colours_of_the_weight_end_at_both_clip_bounds_and_meet_at_one():
    # w = e^-1, 1, e at A > 0, all beyond 1 ± 0.5 but the middle one
    view = small([-2, -2, -2], [-3, -2, -1], [-2, -2, -2], epsilon_w=0.5)
    assert view.bins(view.panels[0]).tolist() == [0, 10, 20]
    assert view.panels[0].clipped.tolist() == [-1, 0, 1]
    half_way = small([-2], [-2 + np.log(0.5**0.5)], [-2], epsilon_w=0.5)
    assert half_way.shares(half_way.panels[0]) == pytest.approx([-0.5], abs=1e-6)


def test_colours_of_the_evidence_share_one_scale_symmetric_about_zero():
    # Δ of RLSD 1, -1, 0; of CEPO 3, -3, 0
    view = small([-2, -2, -2], [-1, -3, -2], [-4, 0, -2], view="delta")
    end = np.log1p(3)
    assert view.shares(view.panels[0]) == pytest.approx([np.log1p(1) / end, -np.log1p(1) / end, 0])
    assert view.shares(view.panels[1]) == pytest.approx([1, -1, 0])


def test_the_difference_is_right_minus_left_of_clipped_weights():
    # weights e and e^-1 at the left become 1.5 and 0.5, at the right 1 and 1.5
    view = small([-2, -2], [-1, -3], [-1, -6], view="difference", epsilon_w=0.5)
    assert view.shares(view.panels[1]) == pytest.approx([-0.5, 1.0])
    assert "OPSD gives no weights" in replace(view, left="opsd").difference_missing


def test_the_advantage_is_coloured_by_its_sign():
    blamed = made_up.heatmap(30, -1.0, view="advantage", lam=1.0)
    assert all((blamed.bins(panel) < BINS // 2).all() for panel in blamed.panels)
    zero = replace(blamed, advantage=0.0)
    assert all((zero.bins(panel) == BINS // 2).all() for panel in zero.panels)
    assert zero.notice.startswith("A = 0: no gradient")


def test_without_evidence_a_panel_says_why_and_has_no_numbers():
    view = small([-1, -1, -1], [-1, -2, -3], [np.nan] * 3)
    rlsd, cepo = view.panels
    assert not rlsd.missing
    assert "r⁻" in cepo.missing
    assert cepo.weight is None
    assert view.bins(cepo) is None
    assert "fell back to RLSD" in replace(view, fallback="rlsd").panels[1].missing
    assert "fell back to GRPO" in replace(view, fallback="grpo").panels[1].missing


def test_a_token_without_a_finite_number_is_hatched_and_counted():
    view = small([-1, -np.inf, -1], [-1, -2, np.nan], [-2, -3, -4])
    rlsd, cepo = view.panels
    assert view.bins(rlsd).tolist() == [10, HATCHED, HATCHED]
    assert "2 tokens have no finite number" in rlsd.rate
    assert (view.bins(cepo) == HATCHED).tolist() == [False, False, True]
    assert "1 token has no finite number" in cepo.rate
    assert rlsd.clip_rates == (0.0, 0.0), "the clip rate counts tokens that have a weight"
    assert np.isfinite(replace(view, lam=0.0).panels[0].token_advantage).all(), "λ = 0 needs no evidence"


def test_the_payload_is_strict_json_that_gives_back_the_same_float32():
    view = made_up.heatmap(50, trained_lam=0.48, trained_epsilon_w=0.5)
    view = replace(view, tokens=replace(view.tokens, log_p_wrong=np.where(np.arange(50) == 3, -np.inf, -0.1)))
    payload = json.loads(json.dumps(view.payload(), allow_nan=False))
    assert payload["evidence"]["log_p_wrong"][3] is None
    given_back = np.array(payload["evidence"]["log_p_student"], np.float32)
    np.testing.assert_array_equal(given_back, view.tokens.log_p_student)


def test_the_payload_names_the_rollout_and_not_what_is_chosen_in_it():
    view = made_up.heatmap(30)
    assert replace(view, epsilon_w=0.2, view="delta", token=3, left="grpo").payload()["id"] == view.payload()["id"]
    others = (
        replace(view, advantage=-1.0),
        replace(view, trained_lam=0.1),
        replace(view, tokens=made_up.tokens(made_up.prose(30), seed=9)),
    )
    assert view.payload()["id"] not in {each.payload()["id"] for each in others}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epsilon_w", 1.0), ("epsilon_w", float("nan")), ("lam", -0.1), ("view", "colour"), ("left", "ppo"),
        ("token", 40), ("token", -1), ("callouts", ((5, 2),)), ("callouts", ((0, 40),)),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_one_line(field, value):
    with pytest.raises(InputError, match="heatmap: ") as refused:
        made_up.heatmap(40, **{field: value})
    assert "\n" not in str(refused.value)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        made_up.tokens(["a", "b"], log_p_student=NOTHING)


def test_a_response_of_no_tokens_says_so():
    view = Heatmap(made_up.tokens([]), 1.0)
    assert view.notice == "This rollout has no recorded tokens."
    assert [panel.missing for panel in view.panels] == ["", ""]
    assert view.payload()["pieces"] == []


def test_the_table_holds_every_number_of_both_panels():
    view = made_up.heatmap(25, right="opsd")
    table = token_table(view)
    assert len(table) == 25
    np.testing.assert_array_equal(table.rlsd_weight, view.panels[0].weight)
    np.testing.assert_array_equal(table.opsd_delta, view.panels[1].delta)
    assert table.opsd_weight.isna().all()
    assert token_table(replace(view, right="rlsd")).columns.is_unique


def test_a_character_of_several_tokens_stands_in_the_last_with_chips_before():
    assert shown(b"\xe2", b"\x89", b"\xa0") == ["⟨E2⟩", "⟨89⟩", "≠"]
    assert shown("x", b" \xe2\x89", b"\xa05", "y") == ["x", " ⟨E2⟩⟨89⟩", "≠5", "y"]


def test_bytes_that_never_become_a_character_stay_chips():
    assert shown(b"\xe2\x89", "a") == ["⟨E2⟩⟨89⟩", "a"]
    assert shown(b"\xff", b"A", b"\x80") == ["⟨FF⟩", "A", "⟨80⟩"]
    assert shown(b"\xc3", b"\xc3", b"\xa9") == ["⟨C3⟩", "⟨C3⟩", "é"]


def test_newlines_tabs_and_only_unseen_blanks_are_marked():
    assert shown("a", "\n", " b", "\t", " c") == ["a", "↵\n", "␣b", "⇥", "␣c"]
    assert shown("a", "  b", " ", "\n") == ["a", "␣␣b", "␣", "↵\n"]
    assert shown("a", " b") == ["a", " b"]


def test_characters_that_hide_or_turn_text_are_written_out():
    assert shown("a\u202eb", "\u200b", "\x07", "\u00a0", "\u3164") == [
        "a⟨U+202E⟩b", "⟨U+200B⟩", "⟨U+0007⟩", "⟨U+00A0⟩", "⟨U+3164⟩",
    ]  # fmt: skip
    assert shown("\u2067x\u2069", "\ud800", "\U000e0041") == ["⟨U+2067⟩x⟨U+2069⟩", "⟨U+D800⟩", "⟨U+E0041⟩"]
    assert shown("∠ABC = 30°", "角") == ["∠ABC = 30°", "角"]


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", ["safe", "paper"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_every_colour(theme, palette):
    ink = luminance(style.INK[theme])
    for color in ramp(theme, palette):
        dark, bright = sorted((ink, luminance(color)))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"{color} in {theme}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_ramp_goes_from_less_to_more_over_the_page(theme):
    colors = ramp(theme)
    assert len(colors) == len(set(colors)) == BINS
    assert (colors[0], colors[-1]) == (style.LESS[theme], style.MORE[theme])
