"""The pictures: 64 × 64 pixels, lines jittered, every character of a label in one 8 × 8 cell (one vision patch)."""

import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from core.pocket.problems import PocketProblem

SIZE = 64
CELL = 8
LINE, NUMBER, UNKNOWN = (90, 90, 90), (0, 0, 200), (200, 0, 0)
GLYPHS = "0123456789x"
BITMAPS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00010 00100 01000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "x": "00000 00000 10001 01010 00100 01010 10001",
}
"""A 5 × 7 pixel font, row by row."""


@dataclass
class Canvas:
    """A picture in the making, with the glyph of every cell: what the grounding phase of the base learns to read."""

    layout: random.Random
    image: Image.Image = field(default_factory=lambda: Image.new("RGB", (SIZE, SIZE), "white"))
    cells: np.ndarray = field(default_factory=lambda: np.zeros((SIZE // CELL, SIZE // CELL), np.int64))
    """0 where a cell is empty, else 1 + the glyph's place in `GLYPHS`."""

    def __post_init__(self) -> None:
        """All lines share one jitter; labels stay on the grid."""
        self.jitter = self.layout.randint(-2, 2), self.layout.randint(-2, 2)

    def lines(self, *points: tuple[float, float]) -> None:
        """Draw a polyline."""
        dx, dy = self.jitter
        ImageDraw.Draw(self.image).line([(x + dx, y + dy) for x, y in points], fill=LINE)

    def label(self, column: int, row: int, text: str) -> None:
        """Write a label, one cell a character."""
        for i, character in enumerate(text):
            self.cells[row, column + i] = 1 + GLYPHS.index(character)
            for y, bits in enumerate(BITMAPS[character].split()):
                for x, bit in enumerate(bits):
                    if bit == "1":
                        place = ((column + i) * CELL + 1 + x, row * CELL + y)
                        self.image.putpixel(place, UNKNOWN if text == "x" else NUMBER)


def paint(problem: PocketProblem) -> Canvas:
    """Draw a problem: a pure function of it."""
    canvas = Canvas(random.Random(problem.layout))
    PAINTERS[problem.family](canvas, str(problem.a), str(problem.b))
    return canvas


def draw(problem: PocketProblem) -> Image.Image:
    """The picture alone."""
    return paint(problem).image


def _triangle(canvas: Canvas, a: str, b: str) -> None:
    top = 32 + canvas.layout.randint(-4, 4)
    canvas.lines((3, 59), (61, 59), (top, 4), (3, 59))
    labels = [a, b]
    labels.insert(canvas.layout.randrange(3), "x")
    for (column, row), text in zip([(3, 3), (1, 6), (5, 6)], labels, strict=True):
        canvas.label(column, row, text)


def _exterior(canvas: Canvas, a: str, b: str) -> None:
    top = 22 + canvas.layout.randint(-3, 3)
    canvas.lines((3, 59), (43, 59), (top, 4), (3, 59))
    canvas.lines((43, 59), (62, 59))
    canvas.label(2, 3, a)
    canvas.label(1, 6, b)
    canvas.label(6, 6, "x")


def _line(canvas: Canvas, a: str, _: str) -> None:
    canvas.lines((3, 52), (61, 52))
    canvas.lines((32, 52), (canvas.layout.choice([16, 48]), 10))
    places = [(1, 5), (5, 5)]
    canvas.layout.shuffle(places)
    canvas.label(*places[0], a)
    canvas.label(*places[1], "x")


def _crossing(canvas: Canvas, a: str, _: str) -> None:
    tilt = canvas.layout.choice([-1, 1])
    canvas.lines((4, 32 - 22 * tilt), (60, 32 + 22 * tilt))
    canvas.lines((4, 32 + 22 * tilt), (60, 32 - 22 * tilt))
    places = [(0, 3), (6, 3)]
    canvas.layout.shuffle(places)
    canvas.label(*places[0], a)
    canvas.label(*places[1], "x")


def _corner(canvas: Canvas, a: str, _: str) -> None:
    canvas.lines((6, 3), (6, 59), (61, 59))
    canvas.lines((6, 50), (15, 50), (15, 59))
    canvas.lines((6, 59), (50 + canvas.layout.randint(-4, 4), 12))
    places = [(2, 2), (5, 5)]
    canvas.layout.shuffle(places)
    canvas.label(*places[0], a)
    canvas.label(*places[1], "x")


def _isosceles(canvas: Canvas, top: str, bottom: str) -> None:
    canvas.lines((6, 59), (58, 59), (32, 3), (6, 59))
    canvas.lines((16, 29), (22, 33))
    canvas.lines((42, 33), (48, 29))
    canvas.label(3, 3, top)
    canvas.label(*canvas.layout.choice([(1, 6), (5, 6)]), bottom)


def _rectangle(canvas: Canvas, a: str, b: str) -> None:
    right, bottom = 42 + canvas.layout.randint(-3, 3), 44
    canvas.lines((4, 4), (right, 4), (right, bottom), (4, bottom), (4, 4))
    canvas.label(6, 3, a)
    canvas.label(2, 6, b)


PAINTERS = {
    "triangle": _triangle,
    "exterior": _exterior,
    "line": _line,
    "crossing": _crossing,
    "corner": _corner,
    "isosceles_apex": lambda canvas, a, _: _isosceles(canvas, a, "x"),
    "isosceles_base": lambda canvas, a, _: _isosceles(canvas, "x", a),
    "rectangle": _rectangle,
}
