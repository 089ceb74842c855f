"""Pictures: deterministic, and what they say is read back from the pixels alone."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pocket import draw_problem, pocket_problem
from core.pocket.drawing import BITMAPS, CELL, GLYPHS, LINE, NUMBER, SIZE, UNKNOWN, draw, paint
from core.pocket.problems import FAMILIES, PocketProblem

TEMPLATES = {
    character: np.array([[bit == "1" for bit in row] for row in rows.split()]) for character, rows in BITMAPS.items()
}


def ink(image, colour):
    """Return where the picture has exactly this colour."""
    return (np.asarray(image) == colour).all(-1)


def read(image):
    """Match every cell that has label ink against the font; return the texts, row by row."""
    labels = ink(image, NUMBER) | ink(image, UNKNOWN)
    texts = []
    for top in range(0, SIZE, CELL):
        row = "".join(glyph(labels[top : top + CELL, left : left + CELL]) for left in range(0, SIZE, CELL))
        texts += row.split()
    return texts


def glyph(cell):
    """Name the one glyph that a cell shows, or a blank; the last row and the outer columns stay free."""
    if not cell.any():
        return " "
    (character,) = (c for c, template in TEMPLATES.items() if (cell[:7, 1:6] == template).all())
    assert cell.sum() == TEMPLATES[character].sum()
    return character


problems = st.builds(
    PocketProblem,
    family=st.sampled_from(sorted(FAMILIES)),
    a=st.integers(10, 44).map(lambda n: 2 * n),
    b=st.integers(20, 88),
    layout=st.integers(0, (1 << 30) - 1),
)


@given(problems)
def test_the_picture_says_the_labels_and_x_exactly_where_the_family_has_one(problem):
    unknown = () if problem.family == "rectangle" else ("x",)
    assert sorted(read(draw(problem))) == sorted((*problem.labels, *unknown))


@given(problems)
def test_x_is_red_and_the_numbers_are_blue(problem):
    image = draw(problem)
    assert ink(image, UNKNOWN).sum() == (problem.family != "rectangle") * TEMPLATES["x"].sum()
    digits = "".join(problem.labels)
    assert ink(image, NUMBER).sum() == sum(TEMPLATES[c].sum() for c in digits)


@given(problems)
def test_a_picture_is_64_by_64_rgb_of_four_colours(problem):
    image = draw(problem)
    assert (image.size, image.mode) == ((64, 64), "RGB")
    colours = {tuple(colour) for colour in np.asarray(image).reshape(-1, 3).tolist()}
    assert colours <= {(255, 255, 255), LINE, NUMBER, UNKNOWN}
    assert LINE in colours


@given(problems)
def test_drawing_is_a_pure_function_of_the_problem(problem):
    state = random.getstate()
    assert draw(problem).tobytes() == draw(problem).tobytes()
    assert random.getstate() == state


@given(problems)
def test_the_cells_that_teach_sight_are_what_the_pixels_say(problem):
    canvas = paint(problem)
    labels = ink(canvas.image, NUMBER) | ink(canvas.image, UNKNOWN)
    for row, column in np.ndindex(*canvas.cells.shape):
        seen = glyph(labels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL])
        assert canvas.cells[row, column] == (0 if seen == " " else 1 + GLYPHS.index(seen))


def test_no_two_glyphs_look_alike():
    for one, other in combinations(GLYPHS, 2):
        assert (TEMPLATES[one] != TEMPLATES[other]).sum() >= 2


def line_pictures(family):
    """Return the lines of many pictures of a family, labels left out of account by being the same."""
    return {ink(draw(PocketProblem(family, 44, 44, layout)), LINE).tobytes() for layout in range(300)}


def test_every_family_has_its_own_lines():
    seen = {family: line_pictures(family) for family in FAMILIES if family != "isosceles_base"}
    for one, other in combinations(seen, 2):
        assert not seen[one] & seen[other], (one, other)


def overhang(family, layout):
    """Return how far the base line runs on beyond the side that meets it."""
    lines = ink(draw(PocketProblem(family, 44, 44, layout)), LINE)
    base = int(lines.sum(1).argmax())
    side, end = (int(np.flatnonzero(lines[row]).max()) for row in (base - 1, base))
    return end - side


def test_a_side_is_extended_in_exterior_and_in_no_triangle():
    for layout in range(100):
        assert overhang("exterior", layout) > 10
        assert abs(overhang("triangle", layout)) <= 2


def test_the_two_isosceles_families_differ_by_which_corner_is_asked():
    for layout in range(50):
        apex = read(draw(PocketProblem("isosceles_apex", 44, 44, layout)))
        base = read(draw(PocketProblem("isosceles_base", 44, 44, layout)))
        assert (apex, base) == (["44", "x"], ["x", "44"])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_layouts_vary_the_picture(family):
    assert len(line_pictures(family)) > 10


def test_a_policy_is_asked_the_problem_with_its_picture():
    for index in range(20):
        drawn, asked = draw_problem("shifted", index, 3), pocket_problem("shifted", index, 3)
        assert (asked.question, asked.answer) == (drawn.question, drawn.answer)
        assert asked.problem_id == f"pocket/shifted/3/{index}"
        assert [image.tobytes() for image in asked.images] == [draw(drawn).tobytes()]
