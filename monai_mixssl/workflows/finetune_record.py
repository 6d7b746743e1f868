# SPDX-License-Identifier: Apache-2.0
"""What a fine-tuning checkpoint says about the run that it belongs to."""

from __future__ import annotations

from typing import Any

from torch import nn

from monai_mixssl.data.labels import LabelledData
from monai_mixssl.errors import RunFolderError
from monai_mixssl.workflows.finetune_start import PretrainedStart
from monai_mixssl.workflows.task_settings import FineTuneSettings

__all__ = ["FineTuneRecord"]


class FineTuneRecord:
    """What decides how a run goes on, as an object that a checkpoint can hold and check.

    Args:
        network: the network, with its ``model_record``.
        data: the labelled data.
        settings: how images are prepared.
        start: where the weights came from.
        world_size: number of processes: with another, a resumed run would see other batches.
    """

    def __init__(
        self,
        network: nn.Module,
        data: LabelledData,
        settings: FineTuneSettings,
        start: PretrainedStart,
        world_size: int = 1,
    ) -> None:
        self.content: dict[str, Any] = {
            "network": network.model_record,
            "preparation": settings.preparation,
            "classes": list(data.classes),
            "data_hash": data.data_hash,
            "pretrained encoder": start.file_hash,
            "number of processes": world_size,
        }

    def state_dict(self) -> dict[str, Any]:
        """The record, JSON types only."""
        return self.content

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with an earlier record.

        Raises:
            RunFolderError: where a checkpoint was trained with another network, on other images or other labels.
        """
        other = [name for name, value in self.content.items() if state.get(name) != value]
        if other:
            raise RunFolderError(
                f"the checkpoint in output_dir belongs to another {' and '.join(other)}; resume with the same keys, "
                "files and package version, or choose a new output_dir"
            )
