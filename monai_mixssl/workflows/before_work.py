# SPDX-License-Identifier: Apache-2.0
"""What can be refused before any file is read or written."""

from __future__ import annotations

from collections.abc import Sequence

from monai_mixssl.networks import MixSSLNet
from monai_mixssl.networks.encoders import check_patch_size, encoder_stride

__all__ = ["check_before_work"]


def check_before_work(network_def: MixSSLNet, patch: Sequence[int], *made: object) -> None:
    """Make what needs no data, and check that it fits, before the scan and before the run's folder is written to.

    Args:
        network_def: the network.
        patch: size of the training patch, one number an axis.
        made: further objects of the config. The parser makes whatever an expression refers to, so that being named here
            is enough for a folder of sources without images, or initial weights of another encoder, to end the run now.

    Raises:
        ConfigError: where the network shrinks the patch too far.
    """
    check_patch_size(patch, encoder_stride(network_def.record))
