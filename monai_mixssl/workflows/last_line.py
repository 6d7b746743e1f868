# SPDX-License-Identifier: Apache-2.0
"""The last line on stderr of a run that failed: one sentence that says what was wrong and what to do.

MONAI wraps whatever a config raises in ``RuntimeError("Failed to evaluate …")``, and a data loader's worker hands an
exception over as text, so the sentence that counts stands somewhere above the last line of Python's traceback. The hook
finds it and prints nothing else. ``MONAI_MIXSSL_DEBUG=1`` in the environment prints the traceback first.

That is for a process which is nothing but a run. In a program that makes a workflow, errors are the program's: its own
hook does what it would, and after an error of ours the sentence follows.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker, util
from types import TracebackType
from typing import Any

import torch

from monai_mixssl.errors import MixSSLError

__all__ = ["DEBUG_VARIABLE", "PREFIX", "innermost_type", "install", "install_for_run", "sentence_for"]

PREFIX = "monai-mixssl: error: "
_COMMANDS = ("monai.bundle.__main__", "monai_mixssl.__main__")
DEBUG_VARIABLE = "MONAI_MIXSSL_DEBUG"
_PATIENCE = 2.0  # seconds

_GO_ON = "give the same command with --resume True to go on"
_DISK_FULL = f"the disk is full; free some space where the output folder is, then {_GO_ON}"
# of the file system, over a path that some key names; which one, the error does not know, and a path is not repeated
_REFUSED = {
    errno.EACCES: "no permission for what a key names, or for a folder above it; check dataset_dir, output_dir and the "
    "other paths of the command",
    errno.ENAMETOOLONG: "a path of the command is too long for the file system; check dataset_dir and output_dir",
    errno.EROFS: "a path of the command lies on a file system that is read-only; choose another output_dir",
}
_INTERRUPTED = f"the run was interrupted; {_GO_ON}"
_OUT_OF_MEMORY = "the memory is not enough for this run; choose a smaller batch_size or patch_size"

# Our errors as they stand in the text of a worker's traceback.
_OURS_IN_TEXT = re.compile(r"^monai_mixssl\.errors\.\w+: (.+)$", re.MULTILINE)
# Any exception as it stands there: its module, if any, its type, and what it says.
_TYPE_IN_TEXT = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception))(?:: |$)", re.MULTILINE)
_WORKER_TRACE = "Original Traceback"
# Writers that report a full disk without its error number: safetensors, NumPy, torch.
_DISK_FULL_IN_TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written"
    r"|PytorchStreamWriter failed|inline_container\.cc:\d+\] \. unexpected pos"
)
# Allocators that raise no error of their own type: torch's on the CPU, CUDA's driver and libraries, the system's; and a
# worker's, whose type torch cannot always build again.
_OUT_OF_MEMORY_IN_TEXT = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|Cannot allocate memory|Caught \w*MemoryError in "
)


def install() -> None:
    """Make the interpreter end every uncaught exception with one sentence; a second call does nothing.

    Also has a terminal or file that knows few characters (``PYTHONIOENCODING=ascii``, or ``LC_ALL=C`` without Python's
    UTF-8 mode) show others as ``\\xb2`` instead of ending the run.
    """
    _show_all_characters()
    if sys.excepthook is not _excepthook:
        sys.excepthook = _excepthook


def _show_all_characters() -> None:
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # closed, or somebody else's kind of stream
            few = stream.encoding.lower().replace("-", "") != "utf8"
            if stream.errors == "strict" or (few and stream.errors == "surrogateescape"):
                stream.reconfigure(errors="backslashreplace")


def install_for_run() -> None:
    """Do as :func:`install` where this process is a command; in another program only have the sentence follow.

    Streams are seen to in both, so that what a run prints does not end it.
    """
    global _hook_before
    _show_all_characters()
    if getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None) in _COMMANDS:
        install()
    elif _hook_before is None and sys.excepthook is not _excepthook:
        _hook_before = sys.excepthook
        sys.excepthook = _sentence_after


_hook_before: Callable[..., object] | None = None


def _sentence_after(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    (_hook_before or sys.__excepthook__)(kind, error, trace)
    if (sentence := _own_sentence(error)) is not None:
        print(f"{PREFIX}{sentence}", file=sys.stderr, flush=True)


def sentence_for(error: BaseException) -> str | None:
    """The sentence that explains an exception, or one of those that it was raised from; None for one not foreseen."""
    if (own := _own_sentence(error)) is not None:
        return own
    chain = list(_chain(error))
    causes = list(_chain(error, handled=False))
    for link in chain:
        if isinstance(link, KeyboardInterrupt):
            return _INTERRUPTED
        if isinstance(link, torch.OutOfMemoryError | MemoryError) or _OUT_OF_MEMORY_IN_TEXT.search(str(link)):
            return _OUT_OF_MEMORY
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            return _DISK_FULL
        # of a file, and raised for what failed: not what was being handled by chance when something else did
        if isinstance(link, OSError) and link.errno in _REFUSED and link.filename is not None and link in causes:
            return _REFUSED[link.errno]
        if _DISK_FULL_IN_TEXT.search(str(link)):
            return _DISK_FULL
    return None


def _own_sentence(error: BaseException) -> str | None:
    """The sentence of the first error of this package in the chain."""
    for link in _chain(error):
        if ours := _OURS_IN_TEXT.findall(str(link)):
            return _one_line(ours[-1])
        if isinstance(link, MixSSLError):
            return _one_line(str(link))
    return None


def _chain(error: BaseException, handled: bool = True) -> Iterator[BaseException]:
    """An exception, then what it was raised from, outermost first; ``handled``: or what was being handled then."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (link.__context__ if handled and not link.__suppress_context__ else None)


def innermost_type(error: BaseException) -> str:
    """Type of what an exception was at last raised from: the outer ones are often MONAI's wrappers."""
    links = list(_chain(error))
    explicit = next((link for link in links if link.__cause__ is None), links[-1])  # not what was being handled then
    text = str(explicit)
    if _WORKER_TRACE in text and (inner := _TYPE_IN_TEXT.findall(text)):
        return str(inner[0])  # causes stand first
    return type(explicit).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = sentence_for(error)
    _finish_other_output()
    if sentence is None or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(kind, error, trace)
    if sentence is None:
        # only the type: the text of a foreign exception may hold a path, and this line is what people copy
        sentence = f"internal error ({innermost_type(error)}){_unchecked()}; please report it with the traceback above"
    print(f"{PREFIX}{sentence}", file=sys.stderr, flush=True)
    _silence_stderr()


def _unchecked() -> str:
    """A hint at what the command sets inside an object of the config, whose values no rule has seen."""
    names = [word[2:].partition("=")[0] for word in sys.argv if word.startswith("--")]
    keys = [name for name in names if re.fullmatch(r"\w+((#|::)\w+)+", name)]
    return f"; look at {', '.join(keys)} first, whose values are taken as they are" if keys else ""


def _end_workers() -> None:
    """End loader processes at once: those of a run outlive SIGTERM for a while (see ``data.worker_signals``)."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise over the death of a worker
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _finish_other_output() -> None:
    """Bring out what is still on its way to the terminal, so that it comes before the last line."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(bars, "_instances", ())):
        bar.close()
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # what logging.shutdown goes through
        if (handler := reference()) is not None:
            handler.flush()
    _end_workers()
    util._exit_function()  # type: ignore[attr-defined]  # ends worker processes, as the interpreter's shutdown would
    _end_resource_tracker()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _end_resource_tracker() -> None:
    """End Python's helper process that complains of shared memory left over when its parent is gone."""
    tracker: Any = resource_tracker._resource_tracker
    descriptor, tracker._fd = tracker._fd, None
    if descriptor is None:
        return  # it was never needed
    os.close(descriptor)  # its sign to stop, once no worker holds the pipe either; do not wait for one that hangs
    end = time.monotonic() + _PATIENCE
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(tracker._pid, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)


def _silence_stderr() -> None:
    """Keep what the interpreter's shutdown has to say (destructors, exit handlers, C++ libraries) from following."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return  # a prompt goes on after an exception
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
