# SPDX-License-Identifier: Apache-2.0
"""The weights that fine-tuning starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from monai_mixssl.networks import load_pretrained
from monai_mixssl.workflows.task_settings import FineTuneSettings, weights_drawn_from

__all__ = ["PretrainedStart", "check_start"]


class PretrainedStart:
    """A network with the pretrained weights in it, and the report of what came from where.

    Args:
        network: the network, changed in place.
        pretrained: an ``encoder.safetensors``; None: all weights stay random.
        from_scratch: leave the weights random although there is a file (which then gives the architecture alone).
        min_loaded: least share of the encoder's parameters that must come from the file.
        adapt_stem: fit the first layer to another number of channels or dimensions.
        decoder: a ``decoder.safetensors`` for segmentation; None: the decoder stays random.
        main: whether this process prints the report (the first of several).

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
        main: bool = True,
    ) -> None:
        def report(text: object) -> None:
            if main:
                print(text, flush=True)

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


def check_start(
    build: Callable[..., nn.Module],
    settings: FineTuneSettings,
    from_scratch: bool = False,
    min_loaded: float = 0.9,
    adapt_stem: bool = False,
    decoder: str | Path | None = None,
    **arguments: Any,
) -> None:
    """Build a network of two classes and load the weights, before the scan: what does not fit should not cost an hour.

    Args:
        build: :py:func:`~monai_mixssl.networks.build_classifier` or :py:func:`~monai_mixssl.networks.build_segmenter`.
        settings: with the architecture and the file.
        from_scratch, min_loaded, adapt_stem, decoder: as in :py:class:`PretrainedStart`.
        arguments: further arguments of ``build``.

    Raises:
        DataError, ConfigError: as in :py:class:`PretrainedStart`.
    """
    with weights_drawn_from(0):
        network = build(2, **settings.architecture, **arguments)
    PretrainedStart(
        network,
        settings.pretrained,
        from_scratch=from_scratch,
        min_loaded=min_loaded,
        adapt_stem=adapt_stem,
        decoder=decoder,
        main=False,
    )
