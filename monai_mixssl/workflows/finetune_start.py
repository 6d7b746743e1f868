# SPDX-License-Identifier: Apache-2.0
"""The weights that fine-tuning starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from monai_mixssl.networks import load_pretrained

__all__ = ["PretrainedStart"]


class PretrainedStart:
    """A network with the pretrained weights in it, and the report of what came from where.

    Args:
        network: the network, changed in place.
        pretrained: an ``encoder.safetensors``; None: all weights stay random.
        from_scratch: leave the weights random although there is a file (which then gives the architecture alone).
        min_loaded: least share of the encoder's parameters that must come from the file.
        adapt_stem: fit the first layer to another number of channels or dimensions.
        decoder: a ``decoder.safetensors`` for segmentation; None: the decoder stays random.
        report: is given the report as text; the first of several processes prints, the others do not.

    Attributes:
        network: the network.
        share: share of the encoder's parameters that came from the file, in [0, 1].
        report: what ``load_pretrained`` reports; None where nothing was loaded.

    Raises:
        DataError: where the file cannot be read.
        ConfigError: where less than ``min_loaded`` of the encoder came from it; the message says why.
    """

    def __init__(
        self,
        network: nn.Module,
        pretrained: str | Path | None = None,
        *,
        from_scratch: bool = False,
        min_loaded: float = 0.9,
        adapt_stem: bool = False,
        decoder: str | Path | None = None,
        report: Callable[[str], Any] = print,
    ) -> None:
        self.network = network
        self.share = 0.0
        self.report: Any = None
        files = [] if from_scratch or pretrained is None else [pretrained, *([decoder] if decoder else [])]
        if not files:
            reason = "from_scratch is true" if from_scratch else "no pretrained encoder is given"
            report(f"All weights are random: {reason}.")
        else:
            self.report = load_pretrained(
                network, files[0], minimum=min_loaded, adapt_stem=adapt_stem, decoder_path=decoder, report=report
            )
            self.share = float(self.report.share)
        # a resumed run whose files were replaced meanwhile would not be the run that it claims to be
        self.file_hash = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
