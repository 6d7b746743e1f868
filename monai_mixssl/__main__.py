# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_mixssl``: what is no bundle run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        words: the arguments; those of the command line where None.

    Raises:
        MixSSLError: whatever went wrong, in one sentence.
    """
    try:  # importing takes seconds, in which a user may think better of it
        from monai_mixssl.compare.command import add_command as add_compare
        from monai_mixssl.workflows import last_line
    except KeyboardInterrupt:
        sys.exit("monai-mixssl: error: interrupted before anything began; the same command begins anew")
    last_line.install()
    parser = argparse.ArgumentParser(prog="python -m monai_mixssl", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_compare(commands)
    arguments, rest = parser.parse_known_args(words)
    arguments.run(arguments, rest)


if __name__ == "__main__":
    main()
