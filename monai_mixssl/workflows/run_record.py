# SPDX-License-Identifier: Apache-2.0
"""What a run's checkpoint and its encoder file say about where the weights come from."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.errors import RunFolderError
from monai_mixssl.networks import MixSSLNet
from monai_mixssl.sources import Source

__all__ = ["RunRecord"]


class RunRecord:
    """What decides how a run goes on, as an object that a checkpoint can hold and check.

    Args:
        network: the pretraining network.
        data: the prepared data.
        source: the second domain; of pictures in a folder, their number counts.
        world_size: number of processes: with another, a resumed run would see other batches.
    """

    def __init__(self, network: MixSSLNet, data: PreparedData, source: Source, world_size: int) -> None:
        self.content: dict[str, Any] = {
            "network": network.record,
            "preparation": data.settings.as_dict(),
            "data_hash": data.data_hash,
            "source": [source.name, len(source) if isinstance(source, Sized) else 0],
            "number of processes": world_size,
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
