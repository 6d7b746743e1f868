# SPDX-License-Identifier: Apache-2.0
"""The first thing that a bundle config does: look at what the user asked for, before any long work.

MONAI adds an override that it does not know to the config in silence, and hands ``--resume false`` over as a string
that is true. :py:func:`check_config`, called by the first entry of the config's ``initialize`` list, refuses the one
and corrects the other. It works with MONAI's ``ConfigWorkflow`` and any subclass of it:

.. code-block:: json

    {
        "imports": ["$import monai_mixssl.workflows as mixssl"],
        "initialize": ["$mixssl.check_config(mixssl.PRETRAIN_RULES, mixssl.check_pretrain_keys)"]
    }

(``as`` is needed: MONAI's ``$import a.b`` puts a name with a dot in it among the globals, which no expression finds.)
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pydoc import locate
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow
from monai.bundle.config_item import ComponentLocator
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, DEFAULT_HANDLERS_ID, ID_SEP_KEY
from monai.utils import BundlePropertyConfig

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import last_line
from monai_mixssl.workflows.arguments import accepted_arguments, boolean_arguments
from monai_mixssl.workflows.config_parts import refuse_words_for_parts
from monai_mixssl.workflows.needed_packages import refuse_missing_packages
from monai_mixssl.workflows.running_config import (
    is_computed,
    is_expressions,
    mark_checked,
    running_parser,
    running_workflow,
)
from monai_mixssl.workflows.tracking import use_own_tracking
from monai_mixssl.workflows.typed_paths import restore_typed_paths, typed_word
from monai_mixssl.workflows.values import Rule, boolean, nearest, takes_paths

__all__ = [
    "apply_rules",
    "check_config",
    "correct_booleans",
    "refuse_unknown_arguments",
    "refuse_unknown_keys",
]

# `_debug_` is taken by monai.utils.instantiate, the others by ConfigComponent
_MONAI_ARGUMENTS = ConfigComponent.non_arg_keys | {"_debug_"}

# as the environment's names are spelt: an expression of a config begins with a name in small letters
_SHELL_VARIABLE = re.compile(r"\$\{?([A-Z_][A-Z0-9_]*)\}?(?:[/\\].*)?$")
# a path with any variable in front: no expression is a bare name, or a name and a slash or a hyphen
_VARIABLE_OF_A_PATH = re.compile(r"\$(?:\w+|\{\w+\})(?:[/\\-].*)?$")


def check_config(
    rules: Mapping[str, Rule] | None = None, together: Callable[[Mapping[str, Any]], None] | None = None
) -> None:
    """Check the config that this call stands in, and write the values that the rules make of it back.

    Also makes a command end with one sentence when it fails (see :py:mod:`~monai_mixssl.workflows.last_line`), and puts
    MONAI's ``--tracking`` right (see :py:mod:`~monai_mixssl.workflows.tracking`) where the rules know ``tracking_uri``.

    Args:
        rules: what each top-level key may hold; see :py:mod:`~monai_mixssl.workflows.values`.
        together: called with the checked top level, for keys that must fit one another.

    Raises:
        ConfigError: for a key or an argument that nothing uses, a value that a rule refuses or that takes the place of
            an object, a run id that the config lacks, or a package that is not installed.
    """
    last_line.install_for_run()
    parser = running_parser()
    workflow, runs = running_workflow(parser)
    if runs and workflow is not None:
        _refuse_run_id(workflow, parser.get())
    ids = () if workflow is None else (workflow.init_id, workflow.run_id, workflow.final_id)
    refuse_words_for_parts(workflow, parser.get(), rules or {}, runs)
    # an override deep inside (train#trainer#max_grad_norm) may take the place of the one use of a key of the config
    refuse_unknown_keys(parser.get(), entry_ids=(*ids, *(rules or ())))
    refuse_unknown_arguments(parser)
    if runs:
        _refuse_dropped_words(parser.get(), rules or {})
        restore_typed_paths(parser.get(), rules or {})
    apply_rules(parser.get(), rules or {})
    for key, value in parser.get().items():
        if key != ConfigParser.meta_key:
            correct_booleans(value)
    if "tracking_uri" in (rules or {}):
        use_own_tracking(parser.get())
    refuse_missing_packages(parser.get())
    if together is not None:
        together(parser.get())
    # The items that the parser has made so far hold the old values. Nothing but imports is resolved this early, so
    # building all of them anew is safe, also while MONAI still waits for the expression that called us.
    parser.parse(reset=True)
    mark_checked(parser)


def _refuse_run_id(workflow: ConfigWorkflow, config: Mapping[str, Any]) -> None:
    """Refuse to run what is no list of expressions: MONAI would make a section such as ``train``, and end well."""
    others = ("imports", workflow.init_id, workflow.final_id)
    run_ids = [key for key, value in config.items() if is_expressions(value) and key not in others]
    if workflow.run_id not in run_ids:
        hint = nearest(str(workflow.run_id), run_ids)
        choice = f"; choose one of: {', '.join(run_ids)}"
        if hint or workflow.run_id in config:
            raise ConfigError(f"the config has no '{workflow.run_id}' to run{hint or choice}")
        # the word may be half of a path with a space in it, so it is not repeated
        raise ConfigError(
            f"the config has no list of the given name to run{choice}, and put values with spaces in quotes"
        )


def _refuse_dropped_words(config: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse ``--match None``: MONAI drops the word, and the key would keep its default without a sign."""
    typed = list(zip(sys.argv, [*sys.argv[1:], ""], strict=True))
    for key in rules:
        if typed_word(key) == "None" and config.get(key) is not None:
            raise ConfigError(f"--{key} None is dropped by MONAI before this package sees it; write --{key} none")
    for word, after in typed:
        key, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and ("#" in key or ID_SEP_KEY in key) and "None" in (value, "" if value else after):
            raise ConfigError(f"--{key} None is dropped by MONAI before this package sees it; write --{key} '$None'")


def apply_rules(config: dict[str, Any], rules: Mapping[str, Rule]) -> None:
    """Replace the values of a config's top level by what the rules make of them.

    An expression (``$…``) or a reference (``@…``) is left alone: it may need what a later entry sets up, such as a
    process group.

    Raises:
        ConfigError: naming the key, for a value that its rule refuses.
    """
    for key, rule in rules.items():
        if key not in config:
            continue
        if is_computed(config[key]):
            _refuse_shell_words(key, config[key], config, takes_paths(rule))
            continue
        try:
            config[key] = rule(config[key])
        except ConfigError as error:
            message = str(error)
            raise ConfigError(f"{key} {message}" if message.startswith("must be ") else message) from None


def _refuse_shell_words(key: str, value: str, config: Mapping[str, Any], path: bool) -> None:
    """Refuse what MONAI would take for an expression or a reference, and nobody meant as one."""
    if path and _VARIABLE_OF_A_PATH.match(value) and not _SHELL_VARIABLE.match(value):
        raise ConfigError(
            f"{key} begins with $, and the shell has not replaced the name after it; use double quotes, not single ones"
        )
    if variable := _SHELL_VARIABLE.match(value):
        name = variable.group(1)
        raise ConfigError(
            f"{key} begins with ${name}, which the shell has not replaced; use double quotes in place of single ones"
        )
    if value.startswith(ReferenceResolver.ref):
        name = value[1:].partition(ID_SEP_KEY)[0]
        if name not in config:
            raise ConfigError(f"{key} begins with @, which MONAI takes for another key's name; write a path as './@…'")


def correct_booleans(section: Any) -> None:
    """Replace the words true and false below the top level by what they say, in place.

    ``--train#dataloader#pin_memory false`` arrives as a string, which is true to Python. The top level is left to the
    rules, which know what each key may hold; a file has booleans of its own, so there such words are only typed ones.

    Args:
        section: a dictionary or list of a config; anything else is left alone.
    """
    words = {"true": True, "True": True, "false": False, "False": False}
    if isinstance(section, dict | list):
        for key, value in list(section.items()) if isinstance(section, dict) else list(enumerate(section)):
            if isinstance(value, str) and value in words:
                section[key] = words[value]
            else:
                correct_booleans(value)


def refuse_unknown_keys(config: Mapping[str, Any], entry_ids: tuple[str, ...] = ()) -> None:
    """Refuse the keys that nothing in the config uses, at the top level and in its sections.

    In use is what another item refers to (``@key``, ``@section#key``), what MONAI (an object, such as ``inferer``, and
    no word that somebody typed) or its experiment tracking asks for by name, and every list of expressions: it can be
    run. MONAI has replaced macros (``%key``) by the time this is called, so a key that only a macro names must be an
    item that something else refers to, too.

    Args:
        config: a parsed config, ids normalised by MONAI.
        entry_ids: what is in use without a reference: what the workflow initializes, runs and finalizes, and keys that
            a rule stands for.

    Raises:
        ConfigError: naming the first such key and the known one nearest to it.
    """
    by_name = (
        _ids_that_monai_knows(config) | set(entry_ids) | {"imports", "initialize", "finalize", ConfigParser.meta_key}
    )
    references = {
        (where, ref) for where, value in _strings(config) for ref in ReferenceResolver.match_refs_pattern(value)
    }

    def in_use(name: str, value: Any) -> bool:
        used = {ref for where, ref in references if not _holds(name, where)} | by_name  # an item does not use itself
        return is_expressions(value) or any(_holds(name, ref) or _holds(ref, name) for ref in used if ref)

    def check(section: Mapping[str, Any], prefix: str) -> None:
        unknown = [k for k, v in section.items() if k not in _MONAI_ARGUMENTS and not in_use(f"{prefix}{k}", v)]
        if unknown:
            known = [key for key in section if key not in unknown]
            hint = nearest(unknown[0], known) or "; nothing in the config uses it, so leave it out"
            raise ConfigError(f"unknown key '{_shown(prefix + unknown[0])}'{hint}")
        for key, value in section.items():
            if isinstance(value, dict) and key != ConfigParser.meta_key and not ConfigComponent.is_instantiable(value):
                name = f"{prefix}{key}"
                if not any(ref and _holds(ref, name) for _, ref in references):  # else someone takes it as a whole
                    check(value, f"{name}{ID_SEP_KEY}")

    check(config, "")


def refuse_unknown_arguments(parser: ConfigParser) -> None:
    """Refuse arguments that the class or function of a ``_target_`` does not take, and words that are no truth value.

    Where an argument is true or false by its type, the six words of :py:func:`~monai_mixssl.workflows.values.boolean`
    are replaced by what they say, in place.

    Raises:
        ConfigError: naming the argument's id, such as ``train#trainer#max_epoch``, and the argument nearest to it.
    """
    # one of our own: MONAI's builds a table of short names once, and would miss what is imported after us
    locator = ComponentLocator(excludes=parser.locator.excludes)
    for name, component in _components(parser.get()):
        target = component["_target_"]
        if not isinstance(target, str) or is_computed(target):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI says the same when it makes the component
            try:
                module: Any = ConfigComponent(component, locator=locator)
                found = locate(module.resolve_module_name())
            except Exception:  # a module that fails on import: MONAI reports it if the component is ever made
                found = None
        accepted = accepted_arguments(found) if callable(found) else None
        if accepted is None:
            continue
        for argument in component:
            if argument not in accepted and argument not in _MONAI_ARGUMENTS:
                hint = nearest(argument, sorted(accepted)) or f"; {target.rpartition('.')[2]} takes no such argument"
                raise ConfigError(f"unknown key '{_shown(name)}#{argument}'{hint}")
        for argument in boolean_arguments(found) & component.keys():
            if isinstance(word := component[argument], str) and not is_computed(word):
                try:
                    component[argument] = boolean(word)
                except ConfigError as error:
                    raise ConfigError(f"{_shown(name)}#{argument} {error}") from None


def _ids_that_monai_knows(config: Mapping[str, Any]) -> set[str]:
    """Ids of MONAI's bundle properties, and the keys that experiment tracking adds.

    Where MONAI asks for an object by a name at the top level, a plain value under that name is nothing that it would
    use: it knows of a ``dataset``, and ``--dataset /my/scans`` is none.
    """
    ids = {str(p[BundlePropertyConfig.ID]) for p in (*TrainProperties.values(), *InferProperties.values())}
    values = {"bundle_root", "dataset_dir", "device", "val_interval"}
    plain = {name for name, value in config.items() if name not in values and not _is_made(value)}
    ids = {name for name in ids if name.partition(ID_SEP_KEY)[0] not in plain}
    for settings in DEFAULT_EXP_MGMT_SETTINGS.values():
        configs: dict[str, Any] = settings["configs"]  # type: ignore[assignment]  # a dictionary of many types
        ids |= configs.keys() - DEFAULT_HANDLERS_ID.keys()
    return ids


def _is_made(value: Any) -> bool:
    """Whether an item can be an object once MONAI has read it, and is no number or word that somebody typed."""
    if isinstance(value, list):
        return not value or any(map(_is_made, value))
    return value is None or isinstance(value, dict) or is_computed(value)


def _holds(outer: str, inner: str) -> bool:
    """Whether the item of an id is, or lies in, the item of another."""
    return inner == outer or inner.startswith(f"{outer}{ID_SEP_KEY}")


def _shown(name: str) -> str:
    """An id as the command line spells it."""
    return name.replace(ID_SEP_KEY, "#")


def _strings(config: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every string below an item with its id, the metadata left out."""
    if isinstance(config, str):
        yield name, config
    elif isinstance(config, dict | list):
        for key, child, value in ReferenceResolver.iter_subconfigs(name, config):
            if key != ConfigParser.meta_key:
                yield from _strings(value, child)


def _components(config: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dictionary with a ``_target_`` and its id, the metadata left out."""
    if isinstance(config, dict) and ConfigComponent.is_instantiable(config):
        yield name, config
    if isinstance(config, dict | list):
        for key, child, value in ReferenceResolver.iter_subconfigs(name, config):
            if key != ConfigParser.meta_key:
                yield from _components(value, child)
