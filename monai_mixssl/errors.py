# SPDX-License-Identifier: Apache-2.0
"""The errors that a user can cause.

Each message is one sentence that says what was wrong and what to do, and names a file by its short id only: messages
end up in logs, and paths often hold patient names.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "InterruptedRunError",
    "MixSSLError",
    "RunFolderError",
    "TrackingError",
    "TrainingError",
    "UnreadableImageError",
]


class MixSSLError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(MixSSLError, ValueError):
    """A key, argument or override that cannot be used as given."""


class DataError(MixSSLError, ValueError):
    """Input data that cannot be read, or not enough of it."""


class UnreadableImageError(DataError):
    """An image that could be read before and cannot any more, or whose file is damaged.

    Args:
        message: the sentence.
        image_id: which image.
    """

    def __init__(self, message: str, image_id: str = "") -> None:
        super().__init__(message)
        self.image_id = image_id


class RunFolderError(MixSSLError):
    """An output folder that belongs to another run, cannot be written, or holds nothing to resume."""


class TrackingError(MixSSLError):
    """An experiment tracker that cannot be reached or used."""


class TrainingError(MixSSLError):
    """Training that cannot go on, such as a loss that is not finite."""


class InterruptedRunError(MixSSLError):
    """A run that a signal ended after its checkpoint was saved."""
