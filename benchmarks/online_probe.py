# SPDX-License-Identifier: Apache-2.0
"""What share of the pretraining time does the online probe take?

    python benchmarks/online_probe.py
    python benchmarks/online_probe.py --spatial-dims 3 --patch 32 --patients 24

Pretrains on phantoms with the default keys (but no loader processes, so that all the work is in this one) and probes
with labelled phantoms of another seed. Prints one JSON line: seconds of the training loop and of the probes in it, by
the clock and in processor time of all threads (where others use the machine too, that is the number to trust), the
shares, and the scores of the probes.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import OnlineProbe, read_log
from monai_mixssl.workflows import PretrainWorkflow


def main() -> None:
    """Read the arguments, train, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spatial-dims", type=int, default=2)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--patients", type=int, default=60, help="of each of both sets")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--interval", type=int, default=None, help="default: what the run chooses")
    parser.add_argument("--samples", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), arguments)
    print(json.dumps({**vars(arguments), **report, "torch": torch.__version__, "machine": platform.machine()}))


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Pretrain once in a folder, with a clock around every probe."""
    # volumes deep enough for a patch in 3D
    shape = {"patients": arguments.patients, "slices": 12 if arguments.spatial_dims == 2 else arguments.patch}
    scans = write_phantoms(folder / "scans", seed=arguments.seed, **shape)
    labelled = write_phantoms(folder / "labelled", seed=arguments.seed + 1, **shape)
    workflow = PretrainWorkflow(
        dataset_dir=f"{scans / 'dicom'},{scans / 'nifti'}",
        probe_dir=str(labelled),
        output_dir=str(folder / "run"),
        batch_size=16,
        learning_rate=0.002,
        spatial_dims=arguments.spatial_dims,
        patch_size=arguments.patch,
        max_epochs=arguments.epochs,
        probe_interval=arguments.interval or "none",
        probe_samples=arguments.samples,
        seed=arguments.seed,
        device=arguments.device,
        num_workers=0,
        pictures=False,
        progress=False,
        logging_file=False,
    )
    workflow.initialize()
    probes = clocked_probes()
    loop: list[tuple[float, float]] = []
    workflow.trainer.add_event_handler(Events.STARTED | Events.COMPLETED, lambda: loop.append(clocks()))
    workflow.run()
    workflow.finalize()
    wall, processor = (loop[-1][k] - loop[0][k] for k in (0, 1))
    shares = [sum(probe[k] for probe in probes) / total for k, total in ((0, wall), (1, processor))]
    # the probe before the first epoch counts once, however long the run is
    interval = probes_of(workflow).interval
    epoch = (processor - sum(probe[1] for probe in probes)) / arguments.epochs
    one = statistics.median(probe[1] for probe in probes)
    lines = [line for line in read_log(folder / "run" / "log.jsonl") if line["event"] == "probe"]
    return {
        "chosen_interval": interval,
        "training_loop_s": {"wall": round(wall, 1), "cpu": round(processor, 1)},
        "probes_s": {"wall": [round(p[0], 2) for p in probes], "cpu": [round(p[1], 2) for p in probes]},
        "share_of_this_run": {"wall": round(shares[0], 4), "cpu": round(shares[1], 4)},
        "share_of_a_long_run": round(one / (interval * epoch + one), 4),
        "knn_accuracy": {line["epoch"]: line["probe_knn_accuracy"] for line in lines},
        "linear_accuracy": {line["epoch"]: line["probe_linear_accuracy"] for line in lines},
    }


def clocked_probes() -> list[tuple[float, float]]:
    """Take the time of every probe from now on: seconds by the clock and of the processor."""
    spent: list[tuple[float, float]] = []
    probe = OnlineProbe.probe

    def clocked(self: OnlineProbe, network: torch.nn.Module) -> dict[str, float]:
        before = clocks()
        scores = probe(self, network)
        after = clocks()
        spent.append((after[0] - before[0], after[1] - before[1]))
        return scores

    OnlineProbe.probe = clocked  # type: ignore[method-assign]  # for this script alone
    return spent


def probes_of(workflow: PretrainWorkflow) -> OnlineProbe:
    """The run's handler."""
    handlers = workflow.parser.get_parsed_content("train::handlers")
    return next(handler for handler in handlers if isinstance(handler, OnlineProbe))


def clocks() -> tuple[float, float]:
    """The clock, and the processor time of this process."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
