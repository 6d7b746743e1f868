# SPDX-License-Identifier: Apache-2.0
"""Damaged DICOM and NIfTI files are read, or left out with a reason: no crash, no hang, no gigabytes, nothing lost.

Each is read in a child process of its own, see `fuzz`. MIXSSL_FUZZ_MUTANTS asks for more of them; a seed that fails can
be had as a file: `python tests/data/fuzz.py --first SEED --count 1 --keep FOLDER`.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fuzz
import fuzz_child
import pytest
from fuzz_originals import write_originals
from mutants import mutate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and measures processes by /proc")

MUTANTS = int(os.environ.get("MIXSSL_FUZZ_MUTANTS", "1024"))
CHUNKS = 8  # so that several test processes share them
SHARE = 0.2  # at least, of those that are still read, and of those that are not


@pytest.fixture(scope="module")
def server():
    """A process that has imported what reading takes, and nothing else: forking it is cheap, and no thread is lost."""
    command = [sys.executable, fuzz.__file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()  # which ends it


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_damaged_file_is_read_or_listed(server, chunk):
    count = MUTANTS // CHUNKS
    server.stdin.write(f"{chunk * count} {count}\n")
    server.stdin.flush()
    results = [fuzz.Result.from_json(server.stdout.readline()) for _ in range(count)]
    failed = [str(result) for result in results if result.outcome == "failed"]
    assert not failed, "\n".join(failed)
    outcomes = Counter(result.outcome for result in results)
    assert sorted(outcomes) == ["listed", "read"]
    assert min(outcomes.values()) >= SHARE * count


def test_a_seed_stands_for_the_same_damage_everywhere(tmp_path):
    first, second = write_originals(tmp_path / "a"), write_originals(tmp_path / "b")
    assert len({original.path.name for original in first}) > 2
    for seed in range(100):
        assert mutate(first, seed)[1:] == mutate(second, seed)[1:]


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (lambda *_: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda *_: time.sleep(60), "hang"),
        (lambda *_: mmap.mmap(-1, fuzz_child.MEMORY + 1) and ("listed", "refused in good order"), "1.0 GiB of memory"),
        (lambda *_: bytearray(2 * fuzz_child.CEILING), "MemoryError"),
        (lambda *_: {}["x"], "KeyError"),
        (lambda *_: os._exit(3), "ended by itself"),
    ],
)
def test_crash_hang_memory_and_exceptions_are_noticed(monkeypatch, look, reason):
    monkeypatch.setattr(fuzz_child, "_look", look)
    monkeypatch.setattr(fuzz_child, "SECONDS", 3)
    result = fuzz_child.in_child(Path("any"), "accept")
    assert result[0] == "failed"
    assert reason in result[1]
