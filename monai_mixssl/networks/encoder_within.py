# SPDX-License-Identifier: Apache-2.0
"""Where in a network its encoder is, and which of its weights no feature map passes."""

from __future__ import annotations

from monai.networks.nets.efficientnet import EfficientNet
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.swin_unetr import SwinTransformer, SwinUNETR
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from monai_mixssl.errors import ConfigError

__all__ = ["encoder_parameters", "find_encoder", "untrained_prefixes", "unwrap"]

_RESNET_HEAD = ("fc",)
# built, and kept for strict loading, but no feature map passes it
EFFICIENTNET_HEAD = ("_conv_head", "_bn1", "_fc")


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, where it is wrapped for several processes or devices."""
    if isinstance(network, (DataParallel, DistributedDataParallel)):
        inner: nn.Module = network.module
        return inner
    return network


def find_encoder(network: nn.Module) -> tuple[nn.Module, str]:
    """Find the encoder of a network.

    Args:
        network: of this package; or MONAI's ``FlexibleUNet``, ``SwinUNETR``, ``ResNet``, ``EfficientNet`` (the last two
            are encoder and head in one); or an encoder. It may be wrapped for several processes.

    Returns:
        The encoder, and the prefix of its parameters' names in the unwrapped network, for example ``"encoder."``.

    Raises:
        ConfigError: when the network is none of these.
    """
    inner = unwrap(network)
    if isinstance(inner, SwinUNETR):
        return inner.swinViT, "swinViT."
    if isinstance(inner, (ResNet, EfficientNet, SwinTransformer)):
        return inner, ""
    encoder = getattr(inner, "encoder", None)
    if isinstance(encoder, nn.Module):
        return encoder, "encoder."
    raise ConfigError(
        f"No encoder is known in a network of type {type(inner).__name__}; give one that has it as its attribute "
        "'encoder', or a ResNet, EfficientNet, FlexibleUNet or SwinUNETR of MONAI."
    )


def untrained_prefixes(encoder: nn.Module) -> tuple[str, ...]:
    """Names at the start of those of an encoder's weights that no feature map passes: its classification head."""
    if isinstance(encoder, EfficientNet):
        return EFFICIENTNET_HEAD
    return _RESNET_HEAD if isinstance(encoder, ResNet) else ()


def encoder_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a network's encoder that feature maps pass, by their names in the encoder.

    Args:
        network: see :func:`find_encoder`.
    """
    encoder, _ = find_encoder(network)
    heads = untrained_prefixes(encoder)
    return {name: p for name, p in encoder.named_parameters() if name.split(".")[0] not in heads}
