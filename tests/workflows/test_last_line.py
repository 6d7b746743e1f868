# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import io
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from monai_mixssl.errors import ConfigError, DataError, TrainingError  # noqa: F401 (named in the statements below)
from monai_mixssl.workflows.last_line import PREFIX, innermost_type, install, sentence_for

DISK_FULL = (
    "the disk is full; free some space where the output folder is, then give the same command with --resume True to "
    "go on"
)
INTERRUPTED = "the run was interrupted; give the same command with --resume True to go on"
OUT_OF_MEMORY = "the memory is not enough for this run; choose a smaller batch_size or patch_size"


def raised(text: str, **names: object) -> BaseException:
    """What the statements raise."""
    try:
        exec(text, {**globals(), **names})
    except BaseException as error:  # KeyboardInterrupt is one of the cases
        return error
    raise AssertionError("nothing was raised")


def test_an_error_that_monai_wraps_in_an_expression_is_found() -> None:
    def fail() -> None:
        raise ConfigError("the sentence")

    parser = ConfigParser({"a": "$fail()", "b": {"_target_": "builtins.dict", "value": "@a"}}, globals={"fail": fail})
    error = raised("parser.get_parsed_content('b')", parser=parser)
    assert isinstance(error, RuntimeError)
    assert sentence_for(error) == "the sentence"


def test_an_error_that_monai_wraps_in_a_component_is_found() -> None:
    def fail() -> None:
        raise DataError("the sentence")

    parser = ConfigParser({"a": {"_target_": "$fail"}}, globals={"fail": fail})
    assert sentence_for(raised("parser.get_parsed_content('a')", parser=parser)) == "the sentence"


def test_the_outermost_of_several_errors_speaks() -> None:
    error = raised("try:\n  raise DataError('inner')\nexcept DataError as e:\n  raise TrainingError('outer') from e")
    assert sentence_for(error) == "outer"


def test_a_context_that_was_hidden_on_purpose_stays_hidden() -> None:
    error = raised("try:\n  raise DataError('inner')\nexcept DataError:\n  raise KeyError('other') from None")
    assert sentence_for(error) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert sentence_for(first) is None


def test_a_message_of_several_lines_becomes_one() -> None:
    assert sentence_for(ConfigError("one\n  two")) == "one two"


def test_a_worker_that_raises_through_a_transform_is_found_in_the_text() -> None:
    text = (
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nmonai_mixssl.errors.DataError: image 0a1b cannot be read; leave it out\n\n'
        "The above exception was the direct cause of the following exception:\n\nRuntimeError: applying transform"
    )
    assert sentence_for(RuntimeError(text)) == "image 0a1b cannot be read; leave it out"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_explained(code: int) -> None:
    assert sentence_for(OSError(code, os.strerror(code), "/home/jane.doe/run")) == DISK_FULL


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.EACCES, "no permission"), (errno.ENAMETOOLONG, "too long"), (errno.EROFS, "read-only")],
)
def test_a_path_that_the_file_system_refuses_is_explained_without_the_path(code: int, said: str) -> None:
    found = sentence_for(OSError(code, os.strerror(code), "/home/jane.doe/run"))
    assert found is not None
    assert said in found
    assert "jane" not in found


def test_a_refusal_that_no_path_of_the_command_can_have_caused_is_not_explained_so() -> None:
    assert sentence_for(PermissionError(errno.EACCES, os.strerror(errno.EACCES))) is None  # of a semaphore, say
    handled = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/home/jane.doe/.cache")
    error = KeyError("key")
    error.__context__ = handled  # what was being handled when something else failed
    assert sentence_for(error) is None


PROGRAM = """
import atexit, sys
import monai_mixssl
if {own_hook}:
    sys.excepthook = lambda *error: print("the program's own hook", file=sys.stderr)
atexit.register(lambda: print("at exit", file=sys.stderr))
workflow = monai_mixssl.PretrainWorkflow(**{overrides})
{then}
"""


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # the second is what LC_ALL=C gives
def test_a_terminal_that_knows_few_characters_ends_no_run(errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors=errors))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    install()
    print("R²", flush=True)
    assert written.getvalue() == b"R\\xb2\n"


def test_a_program_that_makes_a_workflow_is_not_ended_by_what_it_prints_either(command: object, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(own_hook=False, overrides={}, then="print('R²')"))
    ended = command(str(script), cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})  # type: ignore[operator]  # a fixture
    assert ended.status == 0, ended.err


def test_streams_that_are_closed_or_of_another_kind_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    install()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(
    "statement",
    ["torch.save({'a': torch.zeros(100000)}, '/dev/full')", "open('/dev/full', 'w', buffering=1).write('x\\n')"],
)
def test_a_write_to_a_full_disk_is_recognised(statement: str) -> None:
    assert sentence_for(raised(statement)) == DISK_FULL


@pytest.mark.parametrize(
    "text",
    [  # as safetensors 0.8 and NumPy 2 word it on a full tmpfs
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "1000000 requested and 131056 written",
    ],
)
def test_writers_that_give_no_error_number_are_recognised(text: str) -> None:
    assert sentence_for(RuntimeError(text)) == DISK_FULL


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_too_little_memory_is_explained(error: BaseException) -> None:
    assert sentence_for(error) == OUT_OF_MEMORY


@pytest.mark.skipif(os.name == "nt", reason="another allocator")
def test_torch_refused_memory_on_the_cpu_is_explained() -> None:
    error = raised("torch.empty(2**47)")  # more than any machine can address
    assert type(error) is RuntimeError
    assert sentence_for(error) == OUT_OF_MEMORY
    assert sentence_for(raised("raise RuntimeError('Failed to evaluate') from error", error=error)) == OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error",
    [  # as torch 2.13 words them; the second on Windows
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tr"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to al"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("Caught _ArrayMemoryError in DataLoader worker process 0.\nOriginal Traceback (most recent call"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_allocators_without_an_error_of_their_own_type_are_recognised(error: BaseException) -> None:
    assert sentence_for(error) == OUT_OF_MEMORY


def test_anything_else_has_no_sentence() -> None:
    assert sentence_for(FileNotFoundError(errno.ENOENT, "No such file", "/home/jane.doe/run")) is None


INSTALL = "from monai_mixssl.workflows import last_line\nlast_line.install()\n"
ENDINGS = {
    "ours": ("from monai_mixssl.errors import DataError\nraise DataError('what to do')", 1, "what to do"),
    "wrapped": (
        "from monai_mixssl.errors import DataError\n"
        "try:\n  raise DataError('what to do')\nexcept DataError as e:\n  raise RuntimeError('Failed') from e",
        1,
        "what to do",
    ),
    "worker": (
        "from monai_mixssl.errors import DataError\nfrom monai.data import DataLoader, Dataset\n"
        "def fail(x):\n  raise DataError('what to do')\n"
        "list(DataLoader(Dataset([1, 2], fail), num_workers=1, persistent_workers=True))",
        1,
        "what to do",
    ),
    "semaphore": (
        "from multiprocessing import get_context\nfrom monai_mixssl.errors import DataError\n"
        "lock = get_context('spawn').Lock()\nraise DataError('what to do')",
        1,
        "what to do",
    ),
    "disk": ("import errno\nraise OSError(errno.ENOSPC, 'No space left on device')", 1, DISK_FULL),
    "memory": ("import torch\nraise torch.OutOfMemoryError('CUDA out of memory')", 1, OUT_OF_MEMORY),
    "interrupt": ("raise KeyboardInterrupt", -signal.SIGINT, INTERRUPTED),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_failed_run_says_one_sentence_and_nothing_else(name: str, command: object, tmp_path: Path) -> None:
    body, status, sentence = ENDINGS[name]
    script = tmp_path / "run.py"
    script.write_text(INSTALL + body)
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    assert (ended.status, ended.err) == (status, f"monai-mixssl: error: {sentence}\n")


@pytest.mark.parametrize("own_hook", [False, True])
def test_an_error_of_a_program_that_makes_a_workflow_stays_the_programs(
    own_hook: bool, command: object, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(own_hook=own_hook, overrides={}, then="{}['my typo']"))
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    said = "the program's own hook\n" if own_hook else "KeyError: 'my typo'\n"
    assert ended.status == 1
    assert ended.err.endswith(f"{said}at exit\n")
    assert PREFIX not in ended.err


@pytest.mark.parametrize("own_hook", [False, True])
def test_an_error_of_ours_in_a_program_has_its_sentence_after_what_the_program_says(
    own_hook: bool, command: object, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    then = "workflow.initialize()\nworkflow.run()"
    script.write_text(PROGRAM.format(own_hook=own_hook, overrides={"spatial_dims": 5}, then=then))
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    *said, sentence, last = ended.err.splitlines()
    assert ("the program's own hook" in said) == own_hook
    assert any(line.startswith("RuntimeError: Failed to evaluate") for line in said) != own_hook
    assert sentence == f"{PREFIX}spatial_dims must be 2 or 3, not 5"
    assert last == "at exit"


def test_nothing_follows_the_sentence(command: object, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        INSTALL
        + """
import atexit, logging, sys, tqdm, warnings
from multiprocessing import shared_memory
from monai_mixssl.errors import DataError

class Noisy:
    def __del__(self):
        raise ValueError("in a destructor")

logging.basicConfig(stream=sys.stderr)
atexit.register(lambda: (print("at exit", file=sys.stderr), logging.warning("logged at exit"), 1 / 0))
noisy, bar = Noisy(), tqdm.tqdm(range(3))
leaked = shared_memory.SharedMemory(create=True, size=16)
leaked_forever = leaked.buf
print("on stdout")
raise DataError("what to do")
"""
    )
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    assert ended.status == 1
    assert "leaked shared_memory" in ended.err  # the noise is real
    assert ended.last_line == "monai-mixssl: error: what to do"
    assert ended.out == "on stdout\n"


def test_a_progress_bar_is_closed_before_the_sentence(command: object, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        INSTALL
        + "import tqdm\nfrom monai_mixssl.errors import DataError\n"
        + "bar = tqdm.tqdm(range(3), desc='epoch')\nraise DataError('what to do')"
    )
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    assert "epoch:   0%" in ended.err
    assert ended.last_line == "monai-mixssl: error: what to do"


def test_an_error_that_nobody_foresaw_keeps_its_traceback_and_names_its_type(command: object, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(INSTALL + "raise LookupError('/home/jane.doe')")
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    assert ended.status == 1
    assert "Traceback (most recent call last)" in ended.err
    assert ended.last_line == (
        "monai-mixssl: error: internal error (LookupError); please report it with the traceback above"
    )


WRAPPED = {
    "expression": "$[][1]",
    "component": {"_target_": "$open", "file": "/home/jane.doe"},
    "nested": {"_target_": "builtins.dict", "value": "$@expression"},
}


@pytest.mark.parametrize(
    ("name", "kind"), [("expression", "IndexError"), ("component", "FileNotFoundError"), ("nested", "IndexError")]
)
def test_the_type_that_is_named_is_that_of_the_error_that_monai_wraps(
    name: str, kind: str, command: object, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    body = f"from monai.bundle import ConfigParser\nConfigParser({WRAPPED!r}).get_parsed_content({name!r})"
    script.write_text(INSTALL + body)
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    assert "\nRuntimeError: Failed to" in ended.err  # MONAI's wrapper is the outermost
    assert f"internal error ({kind});" in ended.last_line
    assert "doe" not in ended.last_line


def test_the_type_of_an_error_in_a_worker_is_found_behind_the_transforms_wrapper(
    command: object, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        INSTALL
        + "from monai.data import DataLoader, Dataset\nfrom monai.transforms import Compose\n"
        + "list(DataLoader(Dataset([1, 2], Compose([lambda x: {}['jane.doe']])), num_workers=1))"
    )
    ended = command(str(script), cwd=tmp_path)  # type: ignore[operator]  # a fixture
    assert "RuntimeError: applying transform" in ended.err
    assert "internal error (KeyError);" in ended.last_line


def test_what_was_merely_being_handled_is_not_named() -> None:
    error = raised("try:\n  {}[1]\nexcept KeyError:\n  raise LookupError('other')")
    assert isinstance(error.__context__, KeyError)
    assert innermost_type(error) == "LookupError"


def test_the_debug_variable_brings_the_traceback_back(command: object, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(INSTALL + "from monai_mixssl.errors import DataError\nraise DataError('what to do')")
    ended = command(str(script), cwd=tmp_path, env={"MONAI_MIXSSL_DEBUG": "1"})  # type: ignore[operator]  # a fixture
    assert ended.status == 1
    assert "Traceback (most recent call last)" in ended.err
    assert ended.last_line == "monai-mixssl: error: what to do"
