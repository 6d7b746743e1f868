# SPDX-License-Identifier: Apache-2.0
"""What a run's checkpoint and its encoder file say about where the weights come from."""

from __future__ import annotations

from typing import Any

from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.errors import RunFolderError
from monai_mixssl.networks import MixSSLNet

__all__ = ["RunRecord"]


class RunRecord:
    """Network, preparation of the data, and their hash, as an object that a checkpoint can hold and check.

    Args:
        network: the pretraining network.
        data: the prepared data.
    """

    def __init__(self, network: MixSSLNet, data: PreparedData) -> None:
        self.content: dict[str, Any] = {
            "network": network.record,
            "preparation": data.settings.as_dict(),
            "data_hash": data.data_hash,
        }

    def state_dict(self) -> dict[str, Any]:
        """The record, JSON types only."""
        return self.content

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with an earlier record.

        Raises:
            RunFolderError: where a checkpoint was trained with another network or on other images.
        """
        other = [name for name, value in self.content.items() if state.get(name) != value]
        if other:
            raise RunFolderError(
                f"the checkpoint in output_dir belongs to another {' and '.join(other)}; resume with the same keys and "
                "package version, or choose a new output_dir"
            )
