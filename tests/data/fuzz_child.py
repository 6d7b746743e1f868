# SPDX-License-Identifier: Apache-2.0
"""Reads a file, damaged perhaps, in a child process with limits of memory and time."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.scan import scan

__all__ = ["in_child"]

SECONDS = 10
MEMORY = 2**30
CEILING = 8 * 2**30  # protects the machine


def in_child(path: Path, geometry: str) -> tuple[str, str, int]:
    """Looks at a file in a child; returns outcome, reason, and the memory that it took."""
    sys.stdout.flush()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer: list[Any] = _limited(path, geometry)
        except BaseException:
            answer = ["failed", traceback.format_exc(limit=-3), 0]
        os.write(theirs, json.dumps(answer).encode()[:4000])
        os._exit(0)  # not through what the parent has registered for its own end
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "failed", f"hang of {SECONDS} s" if number == signal.SIGALRM else signal.Signals(number).name, 0
    outcome, reason, taken = json.loads(text) if text else ("failed", "ended by itself", 0)
    return outcome, reason, taken


def _limited(path: Path, geometry: str) -> list[Any]:
    """Looks at a file within limits of memory and time.

    Memory is address space, since that is what an allocation fails by, beyond what the child has when it is forked:
    the libraries that its parent has imported, about 1 GB. A child that takes more than `MEMORY` at any moment has
    failed. It is not stopped there: a library that gets no memory may hide it, and refuse the file in good order.
    The alarm ends the process wherever it is, in code of C, too.
    """
    import resource  # Linux and the like

    os.dup2(2, 1)  # libraries that print
    before = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (before + CEILING, before + CEILING))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has a handler of its own
    signal.alarm(SECONDS)
    outcome, reason = _look(path, geometry)
    taken = _status("VmPeak") - before
    if taken > MEMORY or "MemoryError" in reason:
        outcome, reason = "failed", f"{taken / 2**30:.1f} GiB of memory; {outcome} {reason}"
    return [outcome, reason, taken]


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{name}:")[1].split()[0])


def _look(path: Path, geometry: str) -> tuple[str, str]:
    """Scans the folder and reads all that is found: through what training uses, and without the nets below that."""
    found = scan(path.parent, salt=b"", progress=False)
    listed = dict.fromkeys((file for _, file in found.excluded_files), "")
    listed.update(zip(listed, (f"{one.reason} ({one.detail})" for one in found.excluded), strict=True))
    read: set[str] = set()
    for image in found.images:
        files = {part.path for part in image.parts}
        try:
            volume = read_image(image, geometry)
        except LeftOut as left_out:
            listed.update(dict.fromkeys(files, str(left_out)))
            continue
        if volume.array.dtype.kind not in "biuf" or volume.array.ndim != len(image.shape) + 1 or not volume.array.size:
            return "failed", f"read as {volume.array.dtype} of {volume.array.shape}"
        read |= files
    known = read | set(listed)
    known |= {f"{file.removesuffix('.hdr')}.img" for file in known if file.endswith(".hdr")}  # its voxels go with it
    missing = {str(file) for file in path.parent.iterdir()} - known
    if missing:
        return "failed", f"{len(missing)} files are neither read nor listed"
    if str(path) in read:
        return "read", ""
    return ("listed", listed[str(path)]) if listed[str(path)] else ("failed", "listed without a reason")
