# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_mixssl compare``: what the user types, and what it stands for."""

from __future__ import annotations

import argparse
import ast
import errno
from collections.abc import Sequence
from typing import Any

from monai_mixssl.compare.picture import HAS_MATPLOTLIB
from monai_mixssl.compare.plan import METRICS, PROTOCOLS, Plan, parse_amounts, parse_protocols
from monai_mixssl.compare.runner import compare
from monai_mixssl.data.find import split_roots
from monai_mixssl.errors import ConfigError, InterruptedRunError, RunFolderError

__all__ = ["add_command", "parse_keys"]

_DESCRIPTION = (
    "Does pretraining help on these data? Fine-tunes from scratch and from a pretrained encoder, over seeds and "
    "amounts of labels, and writes comparison.md and comparison.png. The same command goes on after an interruption."
)
_PER_FILE = ("pretrain_run", "pretrained_decoder")
_EPILOGUE = (
    "Any further '--key value' goes to the fine-tuning config of the bundle unchanged, for instance --max_epochs 50 or "
    "--batch_size 8; a key that the config lacks is refused before the first run."
)


def add_command(commands: Any) -> None:
    """Add ``compare`` to the subcommands of an argument parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "compare",
        help="does pretraining help on my data?",
        description=_DESCRIPTION,
        epilog=_EPILOGUE,
        allow_abbrev=False,
    )
    parser.add_argument("task", choices=list(METRICS))
    parser.add_argument(
        "--pretrained", required=True, help="encoder.safetensors of a pretraining run, or several (a,b)"
    )
    parser.add_argument("--output_dir", required=True, help="folder for runs, table and picture")
    parser.add_argument("--dataset_dir", help="the labelled images; without it: the package's made-up patients")
    parser.add_argument("--pretrain_run", help="folder of the pretraining run, or one a file, for the leakage guard")
    parser.add_argument("--pretrained_decoder", help="of a segmentation: decoder.safetensors, or one a file")
    parser.add_argument(
        "--labels",
        default="all",
        help="amounts: 5 (labels a class; in segmentation: patients), 5%% (of the training patients), all; with commas",
    )
    parser.add_argument("--seeds", default="5", help="number of seeds (default: 5)")
    parser.add_argument(
        "--metric", default="", help="; ".join(f"{task}: {', '.join(m)}" for task, m in METRICS.items())
    )
    parser.add_argument(
        "--protocols", default="finetune", help=f"of {', '.join(PROTOCOLS)}; the last two for classification"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    keys = parse_keys(rest)
    if arguments.dataset_dir is not None:
        keys["dataset_dir"] = arguments.dataset_dir
    if not arguments.seeds.isdecimal():
        raise ConfigError(f"seeds must be a whole number of at least 1, not '{arguments.seeds}'")
    plan = Plan(
        task=arguments.task,
        pretrained=split_roots(arguments.pretrained),
        amounts=parse_amounts(arguments.labels),
        seeds=int(arguments.seeds),
        metric=arguments.metric,
        protocols=parse_protocols(arguments.protocols),
        per_file={key: split_roots(paths) for key in _PER_FILE if (paths := getattr(arguments, key))},
        keys=keys,
    )
    if not HAS_MATPLOTLIB:
        print("matplotlib is not installed, so no picture will be drawn; pip install 'monai-mixssl[bundle]' adds it.")
    try:
        compare(plan, arguments.output_dir, picture=HAS_MATPLOTLIB)
    except KeyboardInterrupt:
        raise InterruptedRunError("the comparison was stopped; the same command goes on from there") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunFolderError("the disk is full; free some space, then the same command goes on from there") from error


def parse_keys(words: Sequence[str]) -> dict[str, Any]:
    """Keys of a config as they are typed: ``--key value`` or ``--key=value``; numbers and lists as Python writes them.

    Raises:
        ConfigError: for a word without a key, a key without a value, or a key that stands twice.
    """
    keys: dict[str, Any] = {}
    left = list(words)
    while left:
        name, equals, text = left.pop(0).partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise ConfigError("an argument has no key before it; write every setting as --key value")
        if not equals:
            if not left or (left[0].startswith("--") and len(left[0]) > 2):
                raise ConfigError(f"'{name}' has no value; write {name} <value>")
            text = left.pop(0)
        key = name[2:]
        if key in keys:
            raise ConfigError(f"'{name}' stands twice; give it once")
        keys[key] = _value(text)
    return keys


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # a word, a path, an expression of the config
