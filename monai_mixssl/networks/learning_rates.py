# SPDX-License-Identifier: Apache-2.0
"""Learning rates by depth, for fine-tuning."""

from __future__ import annotations

from typing import Any

from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.encoder_within import encoder_parameters, find_encoder, unwrap

__all__ = ["parameter_groups"]

_STAGES = ("layers", "layer", "_blocks.")  # SwinTransformer: layers1, …; ResNet: layer1, …; EfficientNet: _blocks.0, …


def parameter_groups(
    network: nn.Module, learning_rate: float, *, encoder_factor: float = 1.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: one for what begins random, one for each stage of the encoder.

    The encoder's last stage gets learning_rate · encoder_factor, each stage before it layer_decay times the next one's,
    the stem the least. Parameters that are frozen for now are in the groups too, since they may be unfrozen later;
    heads inside encoders, which no feature map passes, are not.

    Args:
        network: see :func:`~monai_mixssl.networks.encoder_within.find_encoder`.
        learning_rate: of everything outside the encoder, above 0.
        encoder_factor: the encoder's learning rate over that, at least 0.
        layer_decay: above 0, at most 1; 1 gives all stages the same.

    Returns:
        Groups with ``params``, ``lr`` and ``name`` (``"head"``, ``"encoder 0"`` for the stem, ``"encoder 1"``, …), each
        with at least one parameter; without decay the encoder is one group, ``"encoder"``.

    Raises:
        ConfigError: when a number is out of its range, or the network has no encoder that is known.
    """
    if not learning_rate > 0:
        raise ConfigError(f"learning_rate must be above 0, not {learning_rate!r}.")
    if not encoder_factor >= 0:
        raise ConfigError(f"encoder_factor must be at least 0, not {encoder_factor!r}.")
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay must be above 0 and at most 1, not {layer_decay!r}.")
    inside = encoder_parameters(network)
    stages: dict[int, list[nn.Parameter]] = {}
    for name, parameter in inside.items():
        stages.setdefault(0 if layer_decay == 1 else _stage(name), []).append(parameter)
    deepest = max(stages)
    groups = [
        {
            "params": stages[stage],
            "lr": learning_rate * encoder_factor * layer_decay ** (deepest - stage),
            "name": "encoder" if layer_decay == 1 else f"encoder {stage}",
        }
        for stage in sorted(stages)
    ]
    outside = _outside(network, {id(parameter) for parameter in inside.values()})
    return groups + ([{"params": outside, "lr": learning_rate, "name": "head"}] if outside else [])


def _stage(name: str) -> int:
    """Number of the stage that a parameter of an encoder belongs to: 0 for the stem."""
    for prefix in _STAGES:
        digits = name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else ""
        if digits[:1].isdigit():
            number = int("".join(digit for digit in digits if digit.isdigit()))
            return number + 1 if prefix == "_blocks." else number
    return 0


def _outside(network: nn.Module, inside: set[int]) -> list[nn.Parameter]:
    """Everything but the encoder, without the unused heads of an encoder within a larger network."""
    inner = unwrap(network)
    encoder, prefix = find_encoder(network)
    # a ResNet or EfficientNet as a whole classifies with its own head; within another network that head is not used
    unused = {id(p) for p in encoder.parameters()} if prefix else set()
    return [p for p in inner.parameters() if id(p) not in inside | unused]
