"""QSGD: entries are rounded at random to a few levels of their bucket's norm (arXiv 1610.02132)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ....core import Collective
from ..metering import all_gather_bytes
from ..packing import from_bytes, pack, packed_bytes, to_bytes, unpack
from .base import CollectiveName, Family, Parcel, Sent, gather


class QSGD(Family):
    """A sign and 2^(bits - 1) - 1 levels an entry, and a float a bucket; unbiased.

    Sums of codes are no codes. Two ranks send each other their codes. Of more ranks, each adds up one part
    of every layer, from all ranks' codes, quantises the mean again and sends it to all (CGX, arXiv
    2111.08617): 2 (w - 1) / w messages sent by each of w ranks in place of w - 1, for a second error, at
    most as large as one rank's own, which the table leaves out.

    Args:
        bucket: entries that share a norm. Fewer give less error and more bytes.
        norm: of a bucket: "max" is more precise, "l2" gives sparser codes.
        feedback: whether what is left out is added to the next gradient; needless where unbiased.
    """

    name: ClassVar[str] = "qsgd"
    parameter: ClassVar[str] = "bits"
    bounds: ClassVar[tuple[float, float]] = (2, 8)
    collective: ClassVar[CollectiveName] = "all_gather"

    def __init__(
        self, *, bucket: int = 512, norm: Literal["max", "l2"] = "max", feedback: bool = False
    ) -> None:
        self.bucket = bucket
        self.norm: Literal["max", "l2"] = norm
        self.feedback = feedback

    def check(self, setting: float) -> None:
        if setting != int(setting) or not 2 <= setting <= 16:
            raise ValueError(
                f"a code has 2 to 16 whole bits, not {setting:g}: one bit, the sign, has no levels"
            )

    def scaled(self, reference: float, multiple: float) -> int:
        return min(16, max(2, round(reference * multiple)))

    def settings(self, shape: Sequence[int], reference: float, low: float, high: float) -> tuple[int, ...]:
        """Whole bits from `low` to `high`, which here are bits themselves."""
        self.check(reference)
        found = range(max(2, math.floor(low)), min(16, math.ceil(high)) + 1)
        return tuple(sorted({*found, int(reference)}))

    def wire_bytes(self, shape: Sequence[int], setting: float, ranks: int) -> float:
        n, bits = math.prod(shape), int(setting)
        if ranks <= 2:
            return all_gather_bytes(self._size(n, bits), ranks)
        return 2 * (ranks - 1) * self._size(-(-n // ranks), bits)

    def _size(self, n: int, bits: int) -> int:
        """Bytes of the message of so many entries."""
        return 4 * -(-n // self.bucket) + packed_bytes(n, bits)

    def _errors(self, gradient: Tensor, settings: Sequence[float]) -> Tensor:
        norms, shares = self._scaled(gradient.reshape(-1))
        found: list[Tensor] = []
        for bits in settings:
            levels = _levels(bits)
            rest = (shares * levels).frac()
            variance = (rest * (1 - rest)).sum(1, keepdim=True, dtype=torch.float64)
            found.append(((norms.double() / levels).square() * variance).sum().sqrt())
        return torch.stack(found)

    def _exchange(
        self, parcels: Sequence[Parcel], inputs: Sequence[Tensor], group: Collective, seed: int
    ) -> list[Sent]:
        generators = [
            torch.Generator(given.device).manual_seed(parcel.seed(seed, group.rank))
            for given, parcel in zip(inputs, parcels, strict=True)
        ]
        bits = [int(parcel.setting) for parcel in parcels]
        if group.size > 2:
            return self._by_parts(bits, inputs, group, generators)
        streams = [
            self._encode(given.reshape(-1), width, rng)
            for given, width, rng in zip(inputs, bits, generators, strict=True)
        ]
        means = [torch.zeros_like(given) for given in inputs]
        owns: list[Tensor] = []
        for rank, parts in enumerate(gather(group, streams)):
            for mean, width, part in zip(means, bits, parts, strict=True):
                decoded = self._decode(part, width, mean.numel()).view(mean.shape)
                mean.add_(decoded)
                if rank == group.rank:
                    owns.append(decoded)
        return [Sent(mean / group.size, own) for mean, own in zip(means, owns, strict=True)]

    def _by_parts(
        self,
        bits: Sequence[int],
        inputs: Sequence[Tensor],
        group: Collective,
        generators: Sequence[torch.Generator],
    ) -> list[Sent]:
        """Each rank adds up a part of every layer and sends the mean on, quantised again.

        The second error counts as what this rank left out, in units of its own gradient.
        """
        w = group.size
        whole = [_parts(given.reshape(-1), w) for given in inputs]  # (w, m) each
        counts = [parts.shape[1] for parts in whole]

        def encoded(parts: Sequence[Tensor]) -> Tensor:
            given = zip(parts, bits, generators, strict=True)
            return torch.cat([self._encode(part, width, rng) for part, width, rng in given])

        sent = torch.stack([encoded([parts[rank] for parts in whole]) for rank in range(w)])
        received = [self._split(row, bits, counts) for row in group.all_to_all(sent)]
        means = [torch.stack(parts).mean(0) for parts in zip(*received, strict=True)]
        found = [self._split(row, bits, counts) for row in group.all_gather(encoded(means))]
        owns = [list(parts) for parts in zip(*(self._split(row, bits, counts) for row in sent), strict=True)]
        for own, mean, rounded in zip(owns, means, found[group.rank], strict=True):
            own[group.rank] = own[group.rank] - w * (mean - rounded)
        return [
            Sent(_joined(parts, given), _joined(own, given))
            for parts, own, given in zip(zip(*found, strict=True), owns, inputs, strict=True)
        ]

    def _split(self, stream: Tensor, bits: Sequence[int], counts: Sequence[int]) -> list[Tensor]:
        """Decode a message of several layers' parts."""
        sizes = [self._size(count, width) for count, width in zip(counts, bits, strict=True)]
        parts: Sequence[Tensor] = torch.split(stream, sizes)
        each = zip(parts, bits, counts, strict=True)
        return [self._decode(part, width, count) for part, width, count in each]

    def _scaled(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Norms of the buckets (B, 1), and magnitudes in units of them (B, bucket), at most 1."""
        buckets = -(-len(values) // self.bucket)
        padded = torch.nn.functional.pad(values, (0, buckets * self.bucket - len(values)))
        magnitudes = padded.view(buckets, self.bucket).abs()
        norms, one = magnitudes.amax(1, keepdim=True), magnitudes.new_ones(())
        if self.norm == "l2":  # of what is scaled first: squares of small numbers are lost
            scaled = magnitudes / norms.where(norms != 0, one)
            norms = norms * scaled.square().sum(1, keepdim=True).sqrt()
        return norms, (magnitudes / norms.where(norms != 0, one)).clamp(max=1)

    def _encode(self, values: Tensor, bits: int, rng: torch.Generator) -> Tensor:
        """The norms, then a code an entry: its level, signed, counted from the lowest."""
        norms, shares = self._scaled(values)
        levels = _levels(bits)
        exact = shares.view(-1)[: len(values)] * levels
        lower = exact.floor()
        draws = torch.rand(len(values), generator=rng, device=values.device)
        level = (lower + (draws < exact - lower)).nan_to_num_()  # the norm tells of what isn't finite
        codes = level.mul_(values.sign().nan_to_num_()).add_(levels)
        return torch.cat([to_bytes(norms), pack(codes.int(), bits)])

    def _decode(self, stream: Tensor, bits: int, count: int) -> Tensor:
        buckets = -(-count // self.bucket)
        norms = from_bytes(stream[: 4 * buckets], torch.float32)
        levels = _levels(bits)
        shares = (unpack(stream[4 * buckets :], bits, count) - levels).float() / levels
        return norms.repeat_interleave(self.bucket)[:count] * shares


def _levels(bits: float) -> int:
    return 2 ** (int(bits) - 1) - 1


def _parts(values: Tensor, count: int) -> Tensor:
    """Cut into equal parts (count, m), zeros at the end."""
    size = -(-len(values) // count)
    return torch.nn.functional.pad(values, (0, count * size - len(values))).view(count, size)


def _joined(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Undo `_parts`."""
    return torch.cat(list(parts))[: like.numel()].view(like.shape)
