# SPDX-License-Identifier: Apache-2.0
"""The output folder of a run: what lies where, whose it is, and what it says about the run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from monai.bundle import ConfigParser

from monai_mixssl.data.atomic import TEMPORARY, disk_errors, write_json
from monai_mixssl.data.find import split_roots
from monai_mixssl.data.manifest import refuse_other_format
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.errors import RunFolderError
from monai_mixssl.handlers import latest_iteration
from monai_mixssl.workflows.run_lock import RunLock
from monai_mixssl.workflows.running_config import inside_config, refuse_load, refuse_stray_words, running_parser
from monai_mixssl.workflows.tracking import TRACKING_KEYS
from monai_mixssl.workflows.versions import versions

__all__ = ["RunFolder"]

_FORMAT = 1
_FIRST = "pretraining"
_TRAININGS = (_FIRST, "finetuning")
# a run that was killed before it wrote run.json has left nothing but these
_LAYOUT = {"checkpoints", "config.json", "excluded.jsonl", "manifest.json", "masks", "pictures", "private"} | {
    "predictions.csv",
    "tensorboard",
    "versions.json",
}
_PLACEHOLDER = "<in private/config.json>"
_PATHS = (
    "dataset_dir",
    "source_dir",
    "init_weights",
    "probe_dir",
    "pretrained",
    "pretrained_decoder",
    "pretrain_run",
    "data_from",
    "run_dir",
    "model",
)
_PATH_KEYS = (*_PATHS, "encoder", "state_file", "tracking_uri")
# at the start of a word, also in an expression: /data, ~/data, ./data, ../data, C:\data; not the // of a division
_LIKE_A_PATH = re.compile(r"""(?:^|['"\s(=])(?:/(?![/\s])|~/|\.\.?/|[A-Za-z]:\\)""")
# keys that change how a run goes on, but nothing of what it computes
_FREE_KEYS = (
    "resume",
    "device",
    "blend_on_device",
    "num_workers",
    "progress",
    "pictures",
    "checkpoint_interval",
    "checkpoint_minutes",
    "log_interval",
    "probe_interval",
    "probe_samples",
    "max_bad_share",
    "output_dir",
    "bundle_root",
    *TRACKING_KEYS,
)


class RunFolder:
    """An output folder, always laid out the same.

    ==========================  ==========================================================================
    ``run.json``                what kind of run this is and how far it came (``running``, ``complete``)
    ``config.json``             the exact configuration, overrides included, paths replaced by a placeholder
    ``versions.json``           software and hardware
    ``manifest.json``           the images used, by id, with split, shape, spacing and normalisation
    ``excluded.jsonl``          what was left out, by id, with the reason
    ``substituted.jsonl``       where an image could not be read in training, and which stood in for it; else absent
    ``log.jsonl``               losses and metrics, one JSON object a line
    ``encoder.safetensors``     the encoder's weights, once training is complete
    ``checkpoints/``            from which ``--resume True`` goes on
    ``model.safetensors``       fine-tuning: the network's weights, with the record that rebuilds it
    ``model.pt``                the same weights as a plain state dict, for MONAI's ``ckpt_export``
    ``metrics.json``            what was measured on validation and test images, and from how many labels
    ``predictions.csv``         what was predicted for each image, by id; of segmentation, ``masks/``
    ``pictures/``               pretraining: examples, predicted against true transparency, loss curves
    ``tensorboard/``            event files
    ``private/``                paths, salt, id-to-file table, prepared images; mode 0700, never to be shared
    ==========================  ==========================================================================

    Args:
        path: the folder; made where it does not exist. Relative to the working directory.
        resume: go on with the run that the folder holds. An empty folder, or a run without a checkpoint, begins anew
            either way, so that a job that may be interrupted at any time can always be started with ``--resume True``.
        main: whether this process writes (the first of several).
        kind: what kind of run this is, such as ``"pretraining"``, ``"inference"``, ``"finetuning"``, ``"probe"``,
            ``"evaluation"`` or ``"prediction"``.

    Attributes:
        resuming: whether there is a run to go on with.

    Raises:
        RunFolderError: where the folder holds another run, something else, or cannot be made.
    """

    def __init__(self, path: str | Path, resume: bool = False, main: bool = True, kind: str = _FIRST) -> None:
        self.path = Path(path).expanduser()  # what writes checkpoints expands it, too
        self.kind = kind
        self.main = main
        self.checkpoints = self.path / "checkpoints"
        self.pictures = self.path / "pictures"
        self.tensorboard = self.path / "tensorboard"
        self.log = self.path / "log.jsonl"
        self.encoder = self.path / "encoder.safetensors"
        self.model = self.path / "model.safetensors"
        self.model_state = self.path / "model.pt"
        self.metrics = self.path / "metrics.json"
        self.predictions = self.path / "predictions.csv"
        self.masks = self.path / "masks"
        self._run = self.path / "run.json"
        self._lock: RunLock | None = None
        self._resume = resume
        if inside_config():  # whatever else a stray word makes MONAI build, the folder comes before the data
            refuse_stray_words(running_parser())
        refuse_load()
        self.resuming = self._look()

    def _look(self) -> bool:
        """Whether there is a run to go on with; refuses what is somebody else's."""
        # a run that never came to its first checkpoint has nothing to lose: it may have failed on a key just corrected
        begun = self._run.is_file() and (self.last_iteration > 0 or self._state()["status"] == "complete")
        if not self.main:
            return self._resume and begun
        if self.path.is_file():
            raise RunFolderError("output_dir names a file; choose a folder")
        if self.path.is_symlink() and not self.path.exists():
            raise RunFolderError("output_dir is a link to a folder that is not there; make that, or choose another")
        if self.kind in _TRAININGS and not _is_text(self.path):  # the writer would say so after all preparation
            raise RunFolderError("output_dir has a name that is no UTF-8 text, as TensorBoard needs it; choose another")
        with disk_errors("the output folder"):
            self.path.mkdir(parents=True, exist_ok=True)
            # a file half-written by a run that was killed in that moment is nobody's
            foreign = {e.name for e in self.path.iterdir() if not e.name.endswith(TEMPORARY)} - _LAYOUT
        if begun and self._resume and self._state().get("kind") != self.kind:
            raise RunFolderError(f"output_dir holds a run of another kind than {self.kind}; choose a new folder")
        if begun and not self._resume:
            raise RunFolderError("output_dir holds another run; go on with it by --resume True, or choose a new folder")
        if foreign and not self._run.is_file():
            raise RunFolderError("output_dir is not empty and holds no run; choose a new or an empty folder")
        return self._resume and begun

    def substituted(self, rank: int = 0) -> Path:
        """The file of the images that others stood in for; each of several processes has its own."""
        return self.path / ("substituted.jsonl" if rank == 0 else f"substituted_{rank}.jsonl")

    @property
    def last_iteration(self) -> int:
        """The iteration that a resumed run goes on from; 0 for a new one."""
        return latest_iteration(self.checkpoints)

    def lock(self) -> None:
        """Keep other processes out of the folder until the run is complete or this process ends.

        Raises:
            RunFolderError: where another process is at work in it.
        """
        if not self.main:
            return
        self._lock = self._lock or RunLock(PrivateFolder(self.path).path / "lock")
        with disk_errors("the folder private/"):
            taken = self._lock.acquire()
        if taken:  # the process that had it may have ended while this one waited
            resuming = self._look()
            if resuming != self.resuming and dist.is_available() and dist.is_initialized():
                raise RunFolderError("the run in output_dir went on meanwhile; give the same command again")
            self.resuming = resuming

    def begin(self) -> None:
        """Write down what is about to run; to be called from the config's own list of expressions.

        Raises:
            RunFolderError: where the run to go on with was started with other keys, which are named, or another
                process is at work in the folder.
        """
        if not self.main:
            return
        self.lock()
        config = _without_private_parts(running_parser().get())
        private = PrivateFolder(self.path)
        if self.resuming:
            self._refuse_other_config(private, config)
        else:  # what a run that never came far has left would be taken for this one's
            shutil.rmtree(self.path / "masks", ignore_errors=True)
            (self.path / "predictions.csv").unlink(missing_ok=True)
        for name, content in (("versions", versions()), ("config", redact(config))):
            write_json(self.path / f"{name}.json", content, name, indent=2)
        write_json(private.path / "config.json", config, "the configuration", indent=2)
        write_json(self._run, {"format": _FORMAT, "kind": self.kind, "status": "running"}, "run.json", indent=2)

    def finish(self) -> None:
        """Mark the run as complete."""
        if self.main:
            write_json(self._run, {**self._state(), "status": "complete"}, "run.json", indent=2)
            if self._lock is not None:
                self._lock.release()

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._run.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise RunFolderError("run.json in output_dir cannot be read; choose a new folder") from None
        if not isinstance(state, dict) or not isinstance(state.get("status"), str):
            raise RunFolderError("run.json in output_dir is not one of this package; choose a new folder")
        refuse_other_format(state, _FORMAT, "run.json in output_dir")
        return state

    def _refuse_other_config(self, private: PrivateFolder, config: Mapping[str, Any]) -> None:
        try:
            before = json.loads((private.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise RunFolderError("private/config.json in output_dir cannot be read; choose a new folder")
        now = json.loads(json.dumps(config))
        other = [k for k in sorted({*before, *now} - {*_FREE_KEYS}) if before.get(k) != now.get(k)]
        if other:
            raise RunFolderError(
                f"the run in output_dir was started with another {', '.join(other)}; resume it with the same keys, or "
                f"choose a new output_dir{' (and init_weights, to start from its weights)' * (self.kind == _FIRST)}"
            )


def _is_text(path: Path) -> bool:
    try:
        return bool(str(path.absolute()).encode())
    except UnicodeEncodeError:
        return False


def _without_private_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as JSON keeps it, without the bundle's metadata; folders made absolute, to compare and to keep."""
    own = {key: value for key, value in config.items() if key != ConfigParser.meta_key}
    for key in _PATHS:
        value = own.get(key)
        if isinstance(value, str) and not value.startswith(("$", "@")):
            own[key] = ",".join(os.path.abspath(part) for part in split_roots(value))
        elif isinstance(value, list):
            own[key] = [os.path.abspath(part) for part in value]
    return dict(json.loads(json.dumps(own, default=str)))


def redact(value: Any, key: str = "") -> Any:
    """Replace every path in a config by a placeholder: values of keys that hold paths, and what looks like one."""
    if value is not None and (key in _PATH_KEYS or key.endswith(("_dir", "_root"))):
        # a reference, or an expression that spells no text out, says nothing
        computed = isinstance(value, str) and value.startswith(("@", "$")) and not {"'", '"'} & set(value)
        return value if computed else _PLACEHOLDER
    if isinstance(value, dict):
        return {name: redact(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    return _PLACEHOLDER if isinstance(value, str) and _LIKE_A_PATH.search(value) else value
