"""How a token reads on a page: whole characters, visible blanks, and nothing that reorders or hides the others.

A token may hold half a character, a newline, or an invisible mark that turns the text around it. Each is drawn as a
marker, so that what stands there is what was sampled.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

BLANK_LETTERS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f\u180b\u180c\u180d")
"""Characters that count as letters, symbols or accents and yet draw nothing."""


@dataclass(frozen=True)
class Part:
    """Some text of a token; a marker stands for what cannot be drawn as it is."""

    text: str
    is_marker: bool = False


@dataclass(frozen=True)
class Piece:
    """What is drawn for one token; a line break stands in it as a newline after its ↵."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All of it on one line, as an inspector or a table shows it."""
        return "".join(part.text for part in self.parts).replace("\n", "")

    @property
    def breaks(self) -> bool:
        """The line ends with this token."""
        return bool(self.parts) and self.parts[-1].text.endswith("\n")


def display_pieces(texts: Sequence[str], raw: Sequence[bytes | None]) -> tuple[Piece, ...]:
    """What to draw for every token, from its text or, where it is none by itself, its bytes.

    The first bytes of a character that several tokens share become ⟨E2⟩ chips, the character stands in the last one.
    """
    glyphs = _glyphs(texts, raw)
    parts: list[list[Part]] = [[] for _ in texts]
    for i, (token, glyph, is_chip) in enumerate(glyphs):
        if is_chip:
            shown = Part(glyph, True)
        elif glyph == " ":
            before = glyphs[i - 1][1] if i else "\n"
            after = glyphs[i + 1][1] if i + 1 < len(glyphs) else "\n"
            is_seen = not {before, after} & {" ", "\n", "\r", "\t"}
            shown = Part(" ") if is_seen else Part("␣", True)
        else:
            shown = _visible(glyph)
        _append(parts[token], shown)
    return tuple(Piece(tuple(each)) for each in parts)


def _append(parts: list[Part], new: Part) -> None:
    if parts and parts[-1].is_marker == new.is_marker:
        parts[-1] = Part(parts[-1].text + new.text, new.is_marker)
    else:
        parts.append(new)


def _visible(character: str) -> Part:
    """A character, or the marker of one that would not be seen or would not stay in its place."""
    match character:
        case "\n":
            return Part("↵\n", True)
        case "\t":
            return Part("⇥", True)
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    if hidden or character in BLANK_LETTERS:
        return Part(f"⟨U+{ord(character):04X}⟩", True)
    return Part(character)


def _glyphs(texts: Sequence[str], raw: Sequence[bytes | None]) -> list[tuple[int, str, bool]]:
    """Every character or left-over byte in order: whose token, what, whether it is a byte."""
    glyphs: list[tuple[int, str, bool]] = []
    pending: list[tuple[int, int]] = []
    for token, (text, own) in enumerate(zip(texts, raw, strict=True)):
        if own is None:
            glyphs += _decoded(pending)
            pending = []
            glyphs += [(token, character, False) for character in text]
        else:
            pending += [(token, byte) for byte in own]
    return glyphs + _decoded(pending)


def _decoded(run: list[tuple[int, int]]) -> list[tuple[int, str, bool]]:
    """Read a run of (token, byte) as UTF-8."""
    glyphs: list[tuple[int, str, bool]] = []
    start = 0
    while start < len(run):
        lead = run[start][1]
        length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        character = _character(bytes(byte for _, byte in run[start : start + length]))
        owners = [token for token, _ in run[start : start + length]] if character else [run[start][0]]
        last = owners[-1]
        chips = zip(owners, run[start : start + length], strict=False)
        glyphs += [(owner, f"⟨{byte:02X}⟩", True) for owner, (_, byte) in chips if not character or owner != last]
        if character:
            glyphs.append((last, character, False))
        start += len(owners)
    return glyphs


def _character(encoded: bytes) -> str:
    """The one character these bytes are, or nothing."""
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        return ""
