"""Sequences, letter by letter: n-grams to be counted, and DNA strands that fold.

A sequence's choices are `letter0`, `letter1`, … from the alphabet and, once it is long enough, the end;
the graph is a tree, so no other than the space's own walks is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from ...core import Candidate, Choose, PluginOptions, SearchSpace

END = "."


def spell(choose: Choose, alphabet: str, shortest: int, longest: int) -> None:
    """Make the choices of a sequence."""
    for place in range(longest):
        if place < shortest:
            choose.categorical(f"letter{place}", list(alphabet))
        elif choose.categorical(f"letter{place}", [*alphabet, END]) == END:
            return


def word(candidate: Candidate) -> str:
    """The sequence a candidate spells."""
    return "".join(str(letter) for letter in candidate.values()).rstrip(END)


def count_words(letters: int, shortest: int, longest: int) -> int:
    """How many sequences there are."""
    return sum(letters**length for length in range(shortest, longest + 1))


class NGramsOptions(PluginOptions):
    """Options of `ngrams`."""

    alphabet: str = Field(default="ACDEFGHIKLMNPQRSTVWY", min_length=1, description="The letters.")
    shortest: int = Field(default=32, ge=1, description="Least length.")
    longest: int = Field(default=36, ge=1, description="Largest length.")
    wanted: tuple[str, ...] = Field(default=("AV", "VC"), min_length=1, description="The n-grams to count.")
    scale: int = Field(default=18, ge=1, description="Counts are divided by this.")

    @model_validator(mode="after")
    def _fits(self) -> NGramsOptions:
        if self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest} is above longest {self.longest}")
        if len(set(self.alphabet)) < len(self.alphabet) or END in self.alphabet:
            raise ValueError(f"alphabet {self.alphabet!r} repeats a letter or has {END!r}, which ends a word")
        for gram in self.wanted:
            if not gram or set(gram) - set(self.alphabet):
                raise ValueError(f"n-gram {gram!r} has a letter that alphabet {self.alphabet!r} lacks")
        return self


class NGrams(SearchSpace[NGramsOptions]):
    """Words whose n-grams are counted, overlaps included (arXiv 2210.12765, section 5.1.2).

    `synthetic` scores a word by each wanted n-gram's count. Those that share letters compete.
    """

    name: ClassVar[str] = "ngrams"
    summary: ClassVar[str] = "words, scored by how often n-grams occur"

    def choices(self, choose: Choose) -> None:
        spell(choose, self.options.alphabet, self.options.shortest, self.options.longest)

    def size(self) -> int:
        options = self.options
        return count_words(len(options.alphabet), options.shortest, options.longest)

    def score(self, candidate: Candidate) -> Mapping[str, float]:
        """Each wanted n-gram's count, divided by `scale`."""
        text = word(candidate)
        return {gram: occurrences(text, gram) / self.options.scale for gram in self.options.wanted}


def occurrences(text: str, gram: str) -> int:
    """Count `gram` in `text`, overlaps included."""
    return sum(text.startswith(gram, place) for place in range(len(text) - len(gram) + 1))


class HairpinsOptions(PluginOptions):
    """Options of `hairpins`."""

    shortest: int = Field(default=12, ge=4, description="Least length, in bases.")
    longest: int = Field(default=20, ge=4, description="Largest length.")

    @model_validator(mode="after")
    def _fits(self) -> HairpinsOptions:
        if self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest} is above longest {self.longest}")
        return self


LOOP = 3
"""Bases that a hairpin's turn needs at least."""
BONDS = {("G", "C"): 3, ("C", "G"): 3, ("A", "T"): 2, ("T", "A"): 2}
"""Hydrogen bonds of a pair."""


class Hairpins(SearchSpace[HairpinsOptions]):
    """Strands of DNA that fold on themselves: a stand-in for aptamers that needs no folding package.

    `synthetic` scores a strand by `bonds` (most hydrogen bonds of a nested folding, as a part of what
    its length allows), `pairs` (base pairs of a folding with most of them, likewise), `short` (1 at the
    least length, 0 at the largest) and `varied` (entropy of its bases, 1 if all are as frequent).
    """

    name: ClassVar[str] = "hairpins"
    summary: ClassVar[str] = "DNA strands, scored by how they fold"

    def choices(self, choose: Choose) -> None:
        spell(choose, "ACGT", self.options.shortest, self.options.longest)

    def size(self) -> int:
        return count_words(4, self.options.shortest, self.options.longest)

    def score(self, candidate: Candidate) -> Mapping[str, float]:
        """The four scores, each in [0, 1]."""
        strand = word(candidate)
        most = max(1, (len(strand) - LOOP) // 2)
        share = np.array([strand.count(base) for base in "ACGT"]) / len(strand)
        present = share[share > 0]
        span = self.options.longest - self.options.shortest
        return {
            "bonds": folded(strand, BONDS) / (3 * most),
            "pairs": folded(strand, dict.fromkeys(BONDS, 1)) / most,
            "short": (self.options.longest - len(strand)) / span if span else 1.0,
            "varied": float(-(present * np.log(present)).sum() / np.log(4)),
        }


def folded(strand: str, worth: Mapping[tuple[str, str], int]) -> int:
    """The largest total worth of nested pairs (Nussinov & Jacobson, PNAS 1980)."""
    n = len(strand)
    best = np.zeros((n + 1, n + 1), np.int64)  # best[i, j]: of strand[i:j]
    for span in range(LOOP + 2, n + 1):
        for start in range(n - span + 1):
            end = start + span
            value = int(best[start + 1, end])
            for other in range(start + LOOP + 1, end):
                gain = worth.get((strand[start], strand[other]))
                if gain is not None:
                    value = max(value, gain + int(best[start + 1, other] + best[other + 1, end]))
            best[start, end] = value
    return int(best[0, n])
