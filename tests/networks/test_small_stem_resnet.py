# SPDX-License-Identifier: Apache-2.0
"""The small-stem ResNets: what their names promise, and that their weights serve MONAI's networks."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import FlexibleUNet, ResNet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.networks.nets.resnet import ResNetEncoder
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import SmallStemResNetEncoder, build_encoder
from monai_mixssl.networks.small_stem_resnet import register_small_stem_resnets

NAMES = SmallStemResNetEncoder.get_encoder_names()


def trained(encoder: nn.Module) -> nn.Module:
    """Batch-norm statistics and weights away from their initial values, so that a lost one shows."""
    torch.manual_seed(1)
    for name, tensor in encoder.state_dict().items():
        if "running_var" in name:
            tensor.add_(0.1 * torch.rand_like(tensor))
        elif tensor.is_floating_point():
            tensor.add_(0.01 * torch.randn_like(tensor))
    return encoder.eval()


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_name_states_depth_and_total_stride_and_width(name: str, spatial_dims: int) -> None:
    with torch.device("meta"):
        encoder = SmallStemResNetEncoder(name, spatial_dims=spatial_dims)
        features = encoder(torch.zeros(1, 1, *[32] * spatial_dims))
    depth, stride = int(name.split("_")[0].removeprefix("resnet")), int(name.split("_")[1].removeprefix("s"))
    convolutions = [m for n, m in encoder.named_modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)) and "downs" not in n]
    assert len(convolutions) + 1 == depth  # the classification layer counts in a ResNet's depth
    assert [32 // feature.shape[2] for feature in features] == [2**k for k in range(1, stride.bit_length())]
    assert encoder.conv1.kernel_size == (3,) * spatial_dims
    assert encoder.conv1.out_channels == (24 if name.endswith("_thin") else 64)


def test_the_smallest_backbone_has_the_widths_24_to_192() -> None:
    encoder = SmallStemResNetEncoder("resnet10_s8_thin")
    assert [feature.shape[1] for feature in encoder(torch.zeros(1, 1, 16, 16))] == [48, 96, 192]


@pytest.mark.parametrize(("name", "spatial_dims"), [("resnet18_s16", 2), ("resnet10_s8_thin", 3), ("resnet50_s8", 2)])
def test_the_same_weights_serve_flexible_unet(name: str, spatial_dims: int) -> None:
    encoder, _ = build_encoder(name, spatial_dims, in_channels=2)
    trained(encoder)
    unet = FlexibleUNet(2, 3, backbone=name, spatial_dims=spatial_dims).eval()
    unet.encoder.load_state_dict(encoder.state_dict(), strict=True)
    image = torch.rand(1, 2, *[16] * spatial_dims)
    for ours, theirs in zip(encoder(image), unet.encoder(image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert unet(image).shape == (1, 3, *image.shape[2:])


@pytest.mark.parametrize("name", ["resnet10_s8_thin", "resnet18_s16", "resnet50_s16"])
def test_the_same_weights_serve_classification_with_monais_resnet(name: str) -> None:
    encoder, record = build_encoder(name, 2, in_channels=1)
    trained(encoder)
    classifier = ResNet(**record["arguments"], spatial_dims=2, n_input_channels=1, num_classes=5).eval()
    missing, unexpected = classifier.load_state_dict(encoder.state_dict(), strict=False)
    assert missing == ["fc.weight", "fc.bias"]
    assert unexpected == []
    image = torch.rand(2, 1, 32, 32)
    pooled = encoder(image)[-1].mean(dim=(2, 3))
    torch.testing.assert_close(classifier(image), classifier.fc(pooled))


@pytest.mark.parametrize("norm", ["group", "instance", ["group", {"num_groups": 4}]])
def test_a_chosen_norm_reaches_every_block(norm: str | list) -> None:
    encoder = SmallStemResNetEncoder("resnet18_s16_thin", norm=norm).double().train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    batch = torch.rand(3, 1, 32, 32, dtype=torch.float64)
    for together, alone in zip(encoder(batch), encoder(batch[:1]), strict=True):
        torch.testing.assert_close(together[:1], alone)


def test_gradients_pass_the_shortcuts_unlike_those_of_the_stock_encoder() -> None:
    def input_gradient(encoder: nn.Module, last_norm: str) -> float:
        for name, parameter in encoder.named_parameters():
            if name.startswith("layer") and last_norm in name:
                nn.init.zeros_(parameter)  # closes the residual branch: what arrives came by the shortcuts
        image = torch.rand(2, 1, 64, 64, requires_grad=True)
        encoder(image)[-1].sum().backward()
        return float(image.grad.abs().sum())

    torch.manual_seed(0)
    assert input_gradient(SmallStemResNetEncoder("resnet18_s16").eval(), ".bn2.weight") > 0
    stock = ResNetEncoder("resnet18", pretrained=False, spatial_dims=2, in_channels=1).eval()
    assert input_gradient(stock, ".bn2.weight") == 0


def test_importing_the_networks_registers_the_encoders_and_registering_again_changes_nothing() -> None:
    before = {name: id(FLEXUNET_BACKBONE.register_dict[name]) for name in NAMES}
    register_small_stem_resnets()
    assert {name: id(FLEXUNET_BACKBONE.register_dict[name]) for name in NAMES} == before


def test_pretrained_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="pretrained"):
        FlexibleUNet(1, 2, backbone="resnet10_s8", pretrained=True)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="resnet18_s16"):
        SmallStemResNetEncoder("resnet18_s32")
