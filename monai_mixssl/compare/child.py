# SPDX-License-Identifier: Apache-2.0
"""One run of a comparison in a process of its own, so that whatever ends it does not end the others."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from monai.bundle import ConfigWorkflow

from monai_mixssl import errors
from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.errors import ConfigError, InterruptedRunError, MixSSLError, TrainingError
from monai_mixssl.workflows import ClassificationWorkflow, SegmentationWorkflow, last_line

__all__ = ["check_keys", "run_in_child"]

_CLASSES = {"classification": ClassificationWorkflow, "segmentation": SegmentationWorkflow}
_FORKSERVER = "forkserver"


def _workflow(task: str, run_id: str, keys: Mapping[str, Any]) -> Any:
    """The named workflow that fine-tunes for a task, without a log of its own on the console."""
    logger = logging.getLogger(ConfigWorkflow.__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that it leaves the logging alone, which is what is asked for
    try:
        return _CLASSES[task](logging_file=False, run_id=run_id, **keys)
    finally:
        logger.setLevel(level)


def check_keys(task: str, run_id: str, keys: Mapping[str, Any]) -> None:
    """Let the bundle check the keys of a run before any run begins.

    Args:
        task: the comparison's task.
        run_id: what the run does.
        keys: overrides of the config.

    Raises:
        ConfigError: for a key that the config lacks or a value that it refuses.
    """
    try:
        _workflow(task, run_id, keys).initialize()
    except ConfigError:
        raise
    except Exception as error:  # MONAI wraps what a config raises; a foreign error is not hidden
        sentence = last_line.sentence_for(error)
        if sentence is None:
            raise
        raise ConfigError(sentence) from error


def run_in_child(task: str, run_id: str, keys: Mapping[str, Any], trace: Path) -> None:
    """Run a fine-tuning workflow in a child process and wait for it.

    SIGTERM and Ctrl-C are handed on: the child saves its checkpoint and ends, then so does this process.

    Args:
        task: the comparison's task.
        run_id: what the run does.
        keys: overrides of the config; plain values.
        trace: file below ``private/`` that takes the traceback of an error that nobody foresaw.

    Raises:
        InterruptedRunError: a signal ended the run.
        MixSSLError: the run failed on purpose, with this sentence.
        TrainingError: it failed otherwise; the message says what is known.
    """
    method = _FORKSERVER if _FORKSERVER in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == _FORKSERVER:  # imports everything once for all runs; it holds no threads and no GPU
        context.set_forkserver_preload(["monai_mixssl.workflows", "ignite.engine"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(task, run_id, dict(keys), str(trace), sender))
    with _signals_handed_on(child) as received:
        if not received:
            _start(child, method)
            sender.close()
            child.join()
    message = _received(receiver)
    if received or message == ("interrupted", ""):
        raise InterruptedRunError(
            f"the comparison was stopped{f' by {received[0].name}' if received else ''}; the same command goes on from "
            "there"
        )
    if message is None:
        raise TrainingError(_death(child.exitcode))
    if message[0] != "complete":
        raise getattr(errors, message[0])(message[1])


def _start(child: Any, method: str) -> None:
    """Start a child; Ctrl-C, which a terminal sends to all, must not end the fork server while it imports."""
    if method == _FORKSERVER and threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # handed down to the server
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
    child.start()


def _received(receiver: Connection) -> tuple[str, str] | None:
    """How the run ended (the name of an error of ours, or a word), and its sentence; None where it died silently."""
    try:
        # workers of a child that was killed may hold the pipe open for a while: do not wait for its end
        return receiver.recv() if receiver.poll() else None
    except EOFError:
        return None


def _death(code: int | None) -> str:
    if code == -signal.SIGTERM:
        return "its process was ended by SIGTERM before it could save; run it again"
    if code is not None and code < 0:
        return (
            f"its process was ended by signal {-code}, as the system does when memory runs out; choose a smaller "
            "batch_size, or fewer num_workers"
        )
    return (
        f"its process ended with status {code} and without a word; run it by itself to see why (a script needs "
        "if __name__ == '__main__')"
    )


@contextlib.contextmanager
def _signals_handed_on(child: Any) -> Iterator[list[signal.Signals]]:
    """Give SIGTERM and SIGINT to the child, and collect them; outside the main thread signals stay whose they are."""
    received: list[signal.Signals] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        with contextlib.suppress(AttributeError, ValueError):  # not started yet, or closed already
            child.terminate() if len(received) < 3 else child.kill()

    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGINT):
            previous[each] = signal.signal(each, hand_on)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(task: str, run_id: str, keys: dict[str, Any], trace: str, sender: Connection) -> None:
    """The child: run, and say how it went."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        workflow = _workflow(task, run_id, keys)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        sender.send(("complete", ""))
    except BaseException as error:  # whatever it is, the comparison goes on with the next run
        sentence = last_line.sentence_for(error)
        if _is_interruption(error):
            sender.send(("interrupted", ""))
        elif sentence is not None:
            sender.send((_kind(error), sentence))
        else:
            text = "".join(traceback.format_exception(error))
            with contextlib.suppress(MixSSLError, OSError):  # a full disk must not keep the sentence back
                write_atomically(Path(trace), lambda file: file.write(text.encode()), "a traceback")
            place = f"private/{Path(trace).parent.name}/{Path(trace).name}"
            sender.send(
                (TrainingError.__name__, f"internal error ({type(error).__name__}); its traceback is in {place}")
            )
    finally:
        sender.close()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _kind(error: BaseException) -> str:
    """The name of the first error of ours among those that led to one."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, MixSSLError):
        link = link.__cause__ or link.__context__
    return TrainingError.__name__ if link is None else type(link).__name__


def _is_interruption(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, InterruptedRunError | KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _end_with_parent() -> None:
    """Stop as on SIGTERM when the comparison itself is killed: else its next start would find two at one folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
