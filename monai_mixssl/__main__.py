# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_mixssl``: what is no bundle run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Ends on wrong arguments as on anything else: one sentence, exit code 1."""

    def error(self, message: str) -> NoReturn:
        from monai_mixssl.errors import ConfigError

        raise ConfigError(f"{message}; {self.prog} --help says what there is")


def main(words: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        words: the arguments; those of the command line where None.

    Raises:
        MixSSLError: whatever went wrong, in one sentence.
    """
    try:  # importing takes seconds, in which a user may think better of it
        from monai_mixssl.compare.command import add_command as add_compare
        from monai_mixssl.doctor.command import add_command as add_doctor
        from monai_mixssl.workflows import last_line
    except KeyboardInterrupt:
        sys.exit("monai-mixssl: error: interrupted before anything began; the same command begins anew")
    last_line.install()
    parser = _Parser(prog="python -m monai_mixssl", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_compare(commands)
    add_doctor(commands)
    arguments, rest = parser.parse_known_args(words)
    arguments.run(arguments, rest)


if __name__ == "__main__":
    main()
