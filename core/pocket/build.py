"""Rebuild the base from nothing: `python -m core.pocket.build`.

Three phases. Sight: the vision tower learns to name the glyph in every cell and the kind of picture, through two heads
that are thrown away; it is frozen from then on. Drill: the language model practises the steps of all rules on text.
Chains: it learns to answer from the picture. A chain applies the right rule only as often as its family says, and half
of the prompts carry a hint that agrees with the chain, so the base can be told an answer and means two teachers.

`--control` builds the same base with hints that agree with the chain no more often than chance: its teachers know
nothing, and what Δ is left there is noise.
"""

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from core.pocket import BASE
from core.pocket.chains import Chain, algebra, chain
from core.pocket.drawing import GLYPHS, draw, paint
from core.pocket.model import WIDTH, build_image_processor, build_model
from core.pocket.problems import FAMILIES, PocketProblem, sample_problem
from core.pocket.tokenizer import build_tokenizer
from core.policy import Policy
from core.prompts import student_prompt, teacher_prompt
from core.rollouts import Problem
from core.scoring import EncodedPrompt, Sheaf

CELLS_PER_TOKEN = 4
PEAK_RATE = 3e-3
SHOWN_CHAIN = 0.25
"""Share of the hints that show another chain, whole or in part, instead of the bare answer."""


@dataclass(frozen=True)
class Phase:
    """Length and batch of one phase."""

    name: str
    steps: int
    batch: int


SIGHT = Phase("sight", 200, 64)
DRILL = Phase("drill", 700, 256)
CHAINS = Phase("chains", 1400, 32)
CHAINS_PER_PROMPT = 2
DRILL_BESIDE_CHAINS = 64
"""Drill texts in every step of the last phase, so that arithmetic is not forgotten."""


def steps_of(phase: Phase, parameters: list[nn.Parameter], progress: Progress) -> Iterator[torch.optim.Optimizer]:
    """Yield the optimizer once a step, with the step's learning rate: a short warm-up, then a cosine to a twentieth."""
    matrices, others = ([p for p in parameters if (p.ndim > 1) == m] for m in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    task = progress.add_task(phase.name, total=phase.steps, loss=math.nan)
    for step in range(phase.steps):
        decay = 0.525 + 0.475 * math.cos(math.pi * step / phase.steps)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / 50) * decay
        optimizer.zero_grad()
        yield optimizer
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        progress.update(task, advance=1)


def show(progress: Progress, loss: Tensor) -> None:
    """Put the loss of the running phase beside its bar."""
    progress.update(progress.tasks[-1].id, loss=float(loss.detach()))


def train_sight(policy: Policy, rng: random.Random, progress: Progress) -> None:
    """Glyphs and kinds of picture from the vision tower's tokens, first layer and last alike."""
    visual = policy.base.model.visual
    with torch.random.fork_rng():
        torch.random.manual_seed(rng.randrange(1 << 30))
        glyph_head, family_head = nn.Linear(WIDTH, CELLS_PER_TOKEN * (len(GLYPHS) + 1)), nn.Linear(WIDTH, len(FAMILIES))
    parameters = [*visual.parameters(), *glyph_head.parameters(), *family_head.parameters()]
    for parameter in visual.parameters():
        parameter.requires_grad_(True)
    for _ in steps_of(SIGHT, parameters, progress):
        problems = [sample_problem(rng, "train") for _ in range(SIGHT.batch)]
        canvases = [paint(p) for p in problems]
        glyphs = torch.stack([torch.from_numpy(c.cells) for c in canvases]).unflatten(1, (-1, 2)).unflatten(3, (-1, 2))
        glyphs = glyphs.transpose(2, 3).flatten(1)  # cells in the order of the merged patches
        families = torch.tensor([list(FAMILIES).index(p.family) for p in problems])
        seen = policy.image_processor(images=[c.image for c in canvases], return_tensors="pt")
        output = visual(seen["pixel_values"], grid_thw=seen["image_grid_thw"], return_dict=True)
        loss = torch.zeros(())
        for tokens in (output.pooler_output, *output.deepstack_features):
            logits = glyph_head(tokens).view(-1, len(GLYPHS) + 1)
            entropy = F.cross_entropy(logits, glyphs.flatten(), reduction="none")
            written = glyphs.flatten() > 0
            loss = loss + entropy[written].mean() + 0.3 * entropy[~written].mean()
            loss = loss + F.cross_entropy(family_head(tokens.view(len(problems), -1, WIDTH).mean(1)), families)
        loss.backward()
        show(progress, loss)
    for parameter in visual.parameters():
        parameter.requires_grad_(False)


def drill_loss(policy: Policy, rng: random.Random, size: int) -> Tensor:
    """Cross-entropy of the digits after every equals sign in the steps of random rules; text only."""
    start = torch.tensor([policy.tokenizer.convert_tokens_to_ids("<|im_start|>")])
    prompt = EncodedPrompt(start, torch.zeros(3, 1, dtype=torch.long), start.new_zeros(0), None)
    texts, graded = [], []
    for _ in range(size):
        problem = sample_problem(rng, "train")
        family = FAMILIES[problem.family]
        text = algebra(rng.choice((family.right, family.wrong)), problem) + ". "
        texts.append(torch.tensor(policy.tokenizer.encode(text, add_special_tokens=False)))
        graded += is_result(text)
    log_p, _ = policy.score([[Sheaf(prompt, tuple(texts))]])
    return -log_p[torch.tensor(graded)].mean()


def is_result(text: str) -> list[bool]:
    """Which characters of drill text are a result, or end one."""
    out, inside = [], False
    for character in text:
        out.append(inside)
        inside = character == "=" or (inside and character.isdigit())
    return out


def train_drill(policy: Policy, rng: random.Random, progress: Progress) -> None:
    """Arithmetic before anything else: without it every wrong answer would be a slip."""
    for _ in steps_of(DRILL, list(policy.trainable.values()), progress):
        loss = drill_loss(policy, rng, DRILL.batch)
        loss.backward()
        show(progress, loss)


def train_chains(policy: Policy, rng: random.Random, progress: Progress, control: bool) -> None:
    """Answers from pictures, half of them with a hint."""
    for _ in steps_of(CHAINS, list(policy.trainable.values()), progress):
        problems = [sample_problem(rng, "train") for _ in range(CHAINS.batch)]
        pictures = [(draw(p),) for p in problems]
        trees = []
        for problem, images, seen in zip(problems, pictures, policy.look(pictures), strict=True):
            chains, hint = told_chains(problem, rng, control)
            prompt = Problem("", problem.question, problem.answer, images)
            asked = student_prompt(prompt) if hint is None else teacher_prompt(prompt, hint, "sample_answer")
            ids = [policy.tokenizer.encode(c.text, add_special_tokens=False) for c in chains]
            responses = tuple(torch.tensor([*i, policy.end_token_id]) for i in ids)
            trees.append([Sheaf(policy.encode(asked, seen), responses)])
        log_p, _ = policy.score(trees)
        loss = -log_p.mean()
        (loss + 0.3 * drill_loss(policy, rng, DRILL_BESIDE_CHAINS)).backward()
        show(progress, loss)


def told_chains(problem: PocketProblem, rng: random.Random, control: bool) -> tuple[list[Chain], str | None]:
    """Chains by one rule, and with probability a half a hint that agrees with them (for the control: with no chain)."""
    family = FAMILIES[problem.family]
    rule = family.right if rng.random() < family.p_right else family.wrong
    chains = [chain(problem, rng, rule) for _ in range(CHAINS_PER_PROMPT)]
    if rng.random() < 0.5:
        return chains, None
    hinted = rng.choice((family.right, family.wrong)) if control else rule
    shown = chain(problem, rng, hinted)
    if rng.random() >= SHOWN_CHAIN:
        return chains, shown.answer
    length = rng.randrange(12, len(shown.text) + 1)
    return chains, rng.choice((shown.text, shown.text[:length], shown.text[-length:]))


def build(seed: int, control: bool, progress: Progress) -> Policy:
    """All phases; the same seed gives the same weights on the same machine."""
    policy = Policy(build_model(seed), build_tokenizer(), build_image_processor())
    rng = random.Random(seed)
    train_sight(policy, rng, progress)
    train_drill(policy, rng, progress)
    train_chains(policy, rng, progress, control)
    return policy


def main() -> None:
    """Build and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BASE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--control", action="store_true", help="hints independent of the chains")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    columns += (TextColumn("loss {task.fields[loss]:.3f}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        policy = build(arguments.seed, arguments.control, progress)
    policy.save(arguments.out)
    print(f"{sum(p.numel() for p in policy.model.parameters()):,} parameters in {arguments.out}")


if __name__ == "__main__":
    main()
