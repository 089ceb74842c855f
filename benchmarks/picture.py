"""Draw README's picture from a recorded run: `python -m benchmarks.picture RUN_FOLDER --out docs/heatmap.svg`.

Two rollouts of one group, one right and one wrong, each coloured by the weight RLSD and CEPO give its tokens. The
group is chosen by rule, not by taste: of the first step's groups with a wrong hint, the one with the largest mean |Δ|
of CEPO; in it the first right and the first wrong rollout.
"""

import argparse
import base64
import html
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from core import credit
from core.runfile import reading

COLUMN, LINE, LEFT, TOP = 9.2, 20, 190, 46
UP, DOWN = (242, 166, 90), (127, 179, 230)
EPSILON_W = 0.5


@dataclass(frozen=True)
class Shown:
    """One rollout with the weights of both methods."""

    title: str
    pieces: list[str]
    rlsd: torch.Tensor
    cepo: torch.Tensor


GROUP = """
SELECT g.group_id, g.question, g.answer, g.hint_wrong, i.png FROM groups g JOIN images i USING (image_id)
JOIN tokens t ON t.step = g.step AND t.group_id = g.group_id
WHERE g.step = 1 AND NOT g.fallback
  AND (SELECT count(DISTINCT is_correct) FROM rollouts r WHERE r.step = 1 AND r.group_id = g.group_id) = 2
GROUP BY ALL ORDER BY avg(abs(t.log_p_correct - t.log_p_wrong)) DESC LIMIT 1
"""
ROLLOUT = """
SELECT rollout_id, advantage FROM rollouts
WHERE step = 1 AND group_id = ? AND is_correct = ?
ORDER BY rollout_id LIMIT 1
"""
TOKENS = """
SELECT v.piece, v.token_class, t.log_p_student, t.log_p_correct, t.log_p_wrong
FROM tokens t JOIN vocabulary v USING (token_id)
WHERE t.step = 1 AND t.group_id = ? AND t.rollout_id = ? ORDER BY t.position
"""


def shown(connection, group: int, is_correct: bool) -> Shown:
    """The group's first right or first wrong rollout."""
    rollout, advantage = connection.execute(ROLLOUT, [group, is_correct]).fetchall()[0]
    rows = connection.execute(TOKENS, [group, rollout]).fetchall()
    student, correct, wrong = (torch.tensor([row[i] for row in rows]) for i in (2, 3, 4))
    each = torch.full_like(student, advantage)
    weights = [credit.evidence_weight(credit.evidence_delta(correct, against), each) for against in (student, wrong)]
    pieces = ["⏎" if kind == "special" else piece for piece, kind, *_ in rows]
    return Shown(f"{'right' if is_correct else 'wrong'} rollout, A = {advantage:+.2f}", pieces, *weights)


def colour(weight: float) -> str:
    """White at w = 1, orange towards 1 + ε_w, blue towards 1 − ε_w, on a logarithmic scale."""
    limit = math.log(1 + EPSILON_W) if weight > 1 else -math.log(1 - EPSILON_W)
    share = min(1.0, abs(math.log(max(weight, 1e-9))) / limit)
    end = UP if weight > 1 else DOWN
    return "#" + "".join(f"{round(255 + (c - 255) * share):02x}" for c in end)


def line(pieces: list[str], weights: torch.Tensor, y: float) -> list[str]:
    """One row of characters; a dotted underline where the weight is clipped."""
    out = []
    flags = credit.clip_flags(weights, EPSILON_W).tolist()
    for i, (piece, weight, flag) in enumerate(zip(pieces, weights.tolist(), flags, strict=True)):
        x = LEFT + i * COLUMN
        out.append(f'<rect x="{x:.1f}" y="{y - 14:.1f}" width="{COLUMN}" height="18" fill="{colour(weight)}"/>')
        out.append(f'<text x="{x + COLUMN / 2:.1f}" y="{y:.1f}" text-anchor="middle">{html.escape(piece)}</text>')
        if flag:
            ends = f'x1="{x + 1:.1f}" x2="{x + COLUMN - 1:.1f}" y1="{y + 5:.1f}" y2="{y + 5:.1f}"'
            out.append(f'<line {ends} stroke="#222" stroke-dasharray="1.5 1.5"/>')
    return out


def picture(run_folder: Path) -> str:
    """The SVG."""
    with reading(run_folder / "run.duckdb") as connection:
        group, question, answer, hint_wrong, png = connection.execute(GROUP).fetchall()[0]
        rollouts = [shown(connection, group, is_correct) for is_correct in (True, False)]
    width = LEFT + COLUMN * max(len(r.pieces) for r in rollouts) + 12
    height = TOP + len(rollouts) * 4 * LINE + 24
    encoded = base64.b64encode(png).decode()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="13" '
        'font-family="ui-monospace, Menlo, Consolas, monospace">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        '<image x="10" y="30" width="128" height="128" image-rendering="pixelated" '
        f'href="data:image/png;base64,{encoded}"/>',
        f'<text x="10" y="20" font-family="sans-serif">{html.escape(question)} r⁺ = {html.escape(answer)}, '
        f"r⁻ = {html.escape(hint_wrong)}</text>",
        f'<text x="{LEFT}" y="{height - 10:.0f}" font-family="sans-serif" font-size="11" fill="#555">'
        f"orange: more credit or blame than GRPO; blue: less; dotted: clipped (ε_w = {EPSILON_W})</text>",
    ]
    y = TOP + 14.0
    for rollout in rollouts:
        parts.append(f'<text x="{LEFT}" y="{y - 6:.0f}" font-family="sans-serif" fill="#555">{rollout.title}</text>')
        for name, weights in (("RLSD", rollout.rlsd), ("CEPO", rollout.cepo)):
            y += LINE
            parts.append(f'<text x="{LEFT - 8}" y="{y:.0f}" text-anchor="end" font-family="sans-serif">{name}</text>')
            parts += line(rollout.pieces, weights, y)
        y += 2 * LINE
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/heatmap.svg"))
    arguments = parser.parse_args()
    arguments.out.write_text(picture(arguments.run_folder), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
