# SPDX-License-Identifier: Apache-2.0
"""What came from a file of weights, and what did not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LoadReport", "percent"]

_MOST_NAMES = 8


@dataclass(frozen=True)
class LoadReport:
    """What :func:`~monai_mixssl.networks.loading.load_pretrained` did; as a text, by ``str``.

    Heads inside encoders, which no feature map passes, are counted nowhere.

    Attributes:
        matched: names, in the encoder, of the tensors that came from the file.
        missing: tensors of the encoder that the file lacks.
        unexpected: tensors of the file that the encoder lacks.
        mismatched: name, shape in the file and shape here of tensors that differ in shape.
        adapted: what was turned to fit, in words.
        differences: what makes features differ from those of pretraining even where names and shapes agree, in words.
        outside: parts of the network outside the encoder that begin random, with their number of parameters.
        loaded: number of the encoder's parameters that came from the file.
        total: number of the encoder's parameters.
        decoder_loaded: the same of the decoder, 0 where none was asked for.
        decoder_total: likewise.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    adapted: tuple[str, ...]
    differences: tuple[str, ...]
    outside: tuple[tuple[str, int], ...]
    loaded: int
    total: int
    decoder_loaded: int = 0
    decoder_total: int = 0

    @property
    def share(self) -> float:
        """Share of the encoder's parameters that came from the file, from 0 to 1."""
        return self.loaded / self.total

    @property
    def decoder_share(self) -> float | None:
        """The same of the decoder; None where none was asked for."""
        return self.decoder_loaded / self.decoder_total if self.decoder_total else None

    @property
    def random(self) -> tuple[str, ...]:
        """The encoder's layers that stay as they were, random, in the order of the network."""
        return tuple(_layers([*self.missing, *(name for name, _, _ in self.mismatched)]))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types, with ``share``, ``decoder_share`` and ``random``."""
        derived = {"share": self.share, "decoder_share": self.decoder_share, "random": self.random}
        result: dict[str, Any] = _plain({**asdict(self), **derived})
        return result

    def __str__(self) -> str:
        lines = [
            f"Encoder: {self.loaded:,} of {self.total:,} parameters ({percent(self.share)}) came from the file; "
            f"tensors: {len(self.matched)} matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.mismatched)} of another shape."
        ]
        lines += [f"Adapted: {text}." for text in self.adapted]
        if self.random:
            lines.append(f"Stays random in the encoder: {_listed(self.random)}.")
        if self.mismatched:
            shapes = [
                f"{name} {_shape(before)} in the file, {_shape(here)} here" for name, before, here in self.mismatched
            ]
            lines.append(f"Of another shape: {_listed(shapes, 3, '; ')}.")
        if self.unexpected:
            lines.append(f"In the file, not in the encoder: {_listed(list(_layers(self.unexpected)))}.")
        if self.differences:
            differences = _listed(self.differences, sep="; ")
            lines.append(f"Features differ from those of pretraining even where names match: {differences}.")
        if self.decoder_share is not None:
            lines.append(
                f"Decoder: {self.decoder_loaded:,} of {self.decoder_total:,} parameters "
                f"({percent(self.decoder_share)}) came from the file."
            )
        if self.outside:
            parts = [f"{name} ({count:,} parameters)" for name, count in self.outside]
            lines.append(f"Begins random, as it should: {_listed(parts)}.")
        return "\n".join(lines)


def _layers(names: Iterable[str]) -> dict[str, None]:
    """Names of tensors without their last part, each once."""
    return dict.fromkeys(name.rpartition(".")[0] or name for name in names)


def percent(share: float) -> str:
    """A share as text; only all is written as 100 %, only nothing as 0 %."""
    return f"{100 * share:.1f} %" if share in (0, 1) else f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def _listed(parts: Iterable[str], most: int = _MOST_NAMES, sep: str = ", ") -> str:
    all_parts = list(parts)
    more = f" and {len(all_parts) - most} more" if len(all_parts) > most else ""
    return sep.join(all_parts[:most]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "one number"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value
