# SPDX-License-Identifier: Apache-2.0
"""Tells files that are broken from those that are left out because they are something else."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from monai_mixssl.data.records import Excluded, ScanImage
from monai_mixssl.errors import DataError

__all__ = ["check_bad_share", "damaged", "is_damage", "is_the_files"]

# Reasons are phrases of this package. What is not here is whole, and no image to train on: a report, a localizer,
# a text file, a copy, a link, a constant image
_DAMAGE = re.compile(
    r"damaged|truncated|empty file|absurd|cannot|no permission|does not exist|file that is missing|too short|NaN|"
    r"differs? |fewer "
)
# what says something about the machine, not about one file
_THE_MACHINES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}


def is_the_files(error: BaseException) -> bool:
    """Returns whether an error while a file was read may be blamed on the file, and not on memory or limits."""
    return not isinstance(error, MemoryError) and getattr(error, "errno", None) not in _THE_MACHINES


def is_damage(reason: str) -> bool:
    """Returns whether a reason for which a file or image is left out says that it is broken or cannot be read."""
    return _DAMAGE.search(reason) is not None


def damaged(excluded: Iterable[Excluded]) -> list[Excluded]:
    """Returns those of what is left out that are broken or cannot be read."""
    return [one for one in excluded if is_damage(one.reason)]


def check_bad_share(
    images: Sequence[ScanImage], excluded: Iterable[Excluded], max_bad_share: float, used: Iterable[str] | None = None
) -> None:
    """Stops where too many of the files that should be images are damaged or cannot be read.

    Files count, not images: of a series of 200 slices that cannot be read, 200 do. What is left out by rule, copies,
    links, files of other kinds and images that show nothing count on neither side.

    Args:
        images: what the scan found.
        excluded: what is left out, by the scan or since.
        max_bad_share: the most that is allowed, in [0, 1].
        used: ids of the images that are used; None: all of `images`.

    Raises:
        DataError: too many are.
    """
    files = {image.id: len({part.path for part in image.parts}) for image in images}
    bad = [one for one in excluded if is_damage(one.reason)]
    broken = sum(files.get(one.id, 1) for one in bad)
    good = sum(files[one] for one in (files if used is None else used))
    if broken > max_bad_share * (broken + good):
        reasons = Counter(one.reason for one in bad).most_common(1)
        raise DataError(
            f"{broken} of {broken + good} files that should be images are damaged or cannot be read "
            f"(mostly: {reasons[0][0]}), more than the share {max_bad_share:g} that max_bad_share allows; "
            "excluded.jsonl in output_dir lists them by id, private/files.csv says which files they are: put them "
            "right, or raise max_bad_share."
        )
