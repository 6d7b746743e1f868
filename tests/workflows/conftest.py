# SPDX-License-Identifier: Apache-2.0
"""Commands as a user gives them, without paying for MONAI's import each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch.distributed import TCPStore

# Imports what takes long (nothing of ours), then forks for every command: the child is a Python that runs the command
# and shuts down as any other does, except that it need not look through what it inherited for garbage (a second each).
FORKS = """
import gc, json, os, runpy, sys
import ignite.engine, matplotlib.figure, monai.bundle, monai.data, monai.engines, torch._dynamo, torch.utils.tensorboard
import tqdm
gc.collect()
gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    children = []
    for rank in job["ranks"]:
        child = os.fork()
        if not child:
            break
        children.append(child)
    else:
        print(max(os.waitpid(child, 0)[1] for child in children), flush=True)
        continue
    os.chdir(job["cwd"])
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    os.environ.update(job["env"] | rank)
    sys.path[0:0] = job["path"]
    sys.argv = job["argv"]
    if job["argv"][0] == "monai.bundle":
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(job["argv"][0], run_name="__main__")
    break
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended; a status below 0 is a signal."""

    status: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.err.splitlines()[-1] if self.err else ""


Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """``command("monai.bundle", "run", …, cwd=…)`` or ``command("script.py", …)``; of ``processes``: torchrun's."""
    logs = tmp_path_factory.mktemp("logs")
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None

    def run(
        *argv: str, cwd: Path, path: tuple[str, ...] = (), env: dict[str, str] | None = None, processes: int = 0
    ) -> Ended:
        out, err = logs / "out", logs / "err"
        for log in (out, err):
            log.unlink(missing_ok=True)
        # where the processes meet is this process's, at a port that the system chose, as torchrun's agent has it
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if processes else None
        job = {"argv": argv, "cwd": str(cwd), "path": path, "env": env or {}, "out": str(out), "err": str(err)}
        job["ranks"] = [_as_torchrun_says(rank, processes, store.port) for rank in range(processes)] if store else [{}]
        print(json.dumps(job), file=parent.stdin, flush=True)
        status = os.waitstatus_to_exitcode(int(parent.stdout.readline()))
        return Ended(status, out.read_text(), err.read_text())

    yield run
    parent.stdin.close()
    parent.wait(timeout=60)


def _as_torchrun_says(rank: int, processes: int, port: int) -> dict[str, str]:
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    said |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    # on a machine with a GPU, too: with fewer GPUs than processes NCCL would refuse
    return {name: str(value) for name, value in said.items()} | {"CUDA_VISIBLE_DEVICES": ""}
