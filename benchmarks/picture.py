"""Draw README's picture from a recorded run: `python -m benchmarks.picture [RUN_FOLDER] [--out docs/heatmap.svg]`.

The rollout is chosen by rule, not by taste: of the run's right rollouts the one with CEPO's largest |Δ|.
"""

import argparse
from pathlib import Path

from analysis.heatmap import Heatmap
from analysis.heatmap_svg import heatmap_svg
from analysis.search import Search, search
from analysis.store import EXAMPLE_DIR, FILE_NAME, RunFile
from analysis.tokens import read_rollout


def picture(run: RunFile) -> str:
    """The SVG, at Table 7's λ₀ and ε_w."""
    found = search(run, Search(verdict="right", order="cepo"), limit=1).rows.iloc[0]
    rollout = read_rollout(run, int(found.step), int(found.rollout))
    view = Heatmap(
        rollout.tokens,
        rollout.advantage,
        title=f"{rollout.question} r⁺ = {rollout.hint_correct}, r⁻ = {rollout.hint_wrong}",
        caption=f"step {rollout.step}, rollout {rollout.index}, right, A = {rollout.advantage:+.2f}",
    )
    return heatmap_svg(view)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_folder", type=Path, nargs="?", default=EXAMPLE_DIR / "cepo")
    parser.add_argument("--out", type=Path, default=Path("docs/heatmap.svg"))
    arguments = parser.parse_args()
    run = RunFile(arguments.run_folder.name, arguments.run_folder / FILE_NAME)
    arguments.out.write_text(picture(run), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
