# SPDX-License-Identifier: Apache-2.0
"""The pretraining network as a whole: shapes, gradients, and what the engine relies on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.networks import LightDecoder, MixSSLNet, TransparencyHead

SMALL = "resnet10_s8_thin"


def make(**arguments: object) -> MixSSLNet:
    torch.manual_seed(0)
    return MixSSLNet(**arguments)  # type: ignore[arg-type]  # arguments by name, of many types


def loss_of(net: MixSSLNet | DistributedDataParallel, image: torch.Tensor) -> torch.Tensor:
    prediction = net(image)
    true = torch.full((len(image), *([1, *image.shape[2:]] if prediction["transparency"].ndim > 1 else [])), 0.25)
    return DualObjectiveLoss()(prediction, {"image": image, "transparency": true})["loss"]


@pytest.mark.parametrize("skip_connections", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (17, 20, 23)])
@pytest.mark.parametrize("backbone", [SMALL, "resnet18_s16_thin"])
def test_the_reconstruction_has_exactly_the_size_of_the_image(
    backbone: str, size: tuple[int, ...], skip_connections: bool
) -> None:
    net = make(spatial_dims=len(size), in_channels=2, backbone=backbone, skip_connections=skip_connections)
    prediction = net(torch.rand(2, 2, *size))
    assert prediction["reconstruction"].shape == (2, 2, *size)
    assert prediction["transparency"].shape == (2,)
    assert prediction["embedding"].shape == (2, net.embedding_size) == (2, 192)


@pytest.mark.parametrize("backbone", ["resnet10", "efficientnet-b0", "swin_unetr"])
@pytest.mark.parametrize("skip_connections", [False, True])
def test_monais_backbones_reconstruct_odd_sizes_too(backbone: str, skip_connections: bool) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    net = make(backbone=backbone, skip_connections=skip_connections)
    assert net(torch.rand(2, 1, 65, 78))["reconstruction"].shape == (2, 1, 65, 78)


def test_a_transparency_map_has_one_value_a_position_of_the_last_map() -> None:
    transparency = make(transparency="map", spatial_dims=3)(torch.rand(2, 1, 16, 24, 32))["transparency"]
    assert transparency.shape == (2, 1, 2, 3, 4)
    assert float(transparency.detach().min()) > 0
    assert float(transparency.detach().max()) < 1


def test_without_skip_connections_the_decoder_sees_the_last_map_only() -> None:
    features = [torch.rand(1, 4, 8, 8), torch.rand(1, 6, 4, 4)]
    changed = [torch.rand(1, 4, 8, 8), features[1]]
    for skip_connections in (False, True):
        decoder = LightDecoder(2, [4, 6], 1, skip_connections=skip_connections).eval()
        same = torch.equal(decoder(features, (16, 16)), decoder(changed, (16, 16)))
        assert same is not skip_connections


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"transparency": "map", "norm": "group", "spatial_dims": 3},
        {"skip_connections": True, "norm": "instance"},
        {"backbone": "resnet18"},
        {"backbone": "efficientnet-b0"},
        {"backbone": "swin_unetr", "feature_size": 12},
    ],
)
def test_every_trainable_weight_gets_a_gradient(arguments: dict) -> None:
    if arguments.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    net = make(**arguments)
    size = 64 if "backbone" in arguments else 16
    loss_of(net, torch.rand(2, 1, *[size] * arguments.get("spatial_dims", 2))).backward()
    assert [name for name, weight in net.named_parameters() if weight.requires_grad and weight.grad is None] == []


def test_distributed_training_needs_no_search_for_unused_weights(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = DistributedDataParallel(make(backbone="efficientnet-b0"))
        for _ in range(2):  # the second forward raises when the first left a weight without gradient
            loss_of(net, torch.rand(2, 1, 32, 32)).backward()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("backbone", [SMALL, "swin_unetr"])
def test_with_a_batch_independent_norm_an_image_is_treated_as_if_alone(backbone: str) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    net = make(backbone=backbone, norm="group" if backbone == SMALL else None).train()
    batch = torch.rand(3, 1, 64, 64)
    together, alone = net(batch), net(batch[1:2])
    for name, value in alone.items():
        torch.testing.assert_close(together[name][1:2], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transparency", ["number", "map"])
def test_bfloat16_autocast_stays_near_float32(transparency: str) -> None:
    net = make(transparency=transparency).eval()
    image = torch.rand(2, 1, 32, 32)
    exact = net(image)
    with torch.autocast("cpu", torch.bfloat16):
        prediction, loss = net(image), loss_of(net, image)
    assert prediction["transparency"].dtype == prediction["embedding"].dtype == loss.dtype == torch.float32
    torch.testing.assert_close(prediction["transparency"], exact["transparency"], rtol=0, atol=0.01)
    torch.testing.assert_close(loss, loss_of(net, image), rtol=0.02, atol=0)
    loss.backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in net.parameters())


def test_a_step_is_the_same_bit_for_bit_when_repeated() -> None:
    gradients = []
    for _ in range(2):
        net = make(transparency="map")
        loss_of(net, torch.rand(4, 1, 33, 32, generator=torch.Generator().manual_seed(3))).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in net.parameters()]))
    assert torch.equal(*gradients)


def test_the_forward_pass_is_captured_as_one_graph() -> None:
    net = make().eval()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    image = torch.rand(2, 1, 40, 48)
    torch.testing.assert_close(compiled(image), net(image))


def test_channels_last_weights_give_the_same_predictions() -> None:
    net = make().eval()
    image = torch.rand(2, 1, 32, 32)
    before = net(image)
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(image), before, rtol=1e-4, atol=1e-5)


def test_both_objectives_are_learned_on_a_fixed_batch() -> None:
    net = make()
    generator = torch.Generator().manual_seed(0)
    target, source = (
        torch.rand(8, 1, 4, 4, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3) for _ in "xs"
    )
    true = torch.linspace(0.2, 0.9, 8)
    blend = true.view(-1, 1, 1, 1) * target + (1 - true.view(-1, 1, 1, 1)) * source
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        parts = DualObjectiveLoss()(net(blend), {"image": target, "transparency": true})
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        history.append((float(parts["reconstruction_loss"]), float(parts["transparency_loss"])))
    assert history[-1][0] < 0.25 * float((blend - target).square().mean())  # the blend itself is the trivial answer
    assert history[-1][1] < 0.25 * float(true.var(correction=0))  # so is the mean transparency


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"transparency": "maps"}, "transparency"),
        ({"decoder_channels": [32, 16]}, "decoder_channels"),
        ({"decoder_channels": [32, 16, 0]}, "decoder_channels"),
        ({"decoder_channels": [12, 12, 12], "norm": "group"}, "norm"),
        ({"backbone": "resnet11_s8"}, "backbone"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(arguments: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        MixSSLNet(**arguments)


def test_the_head_for_a_number_depends_on_the_average_of_the_map_only() -> None:
    torch.manual_seed(0)
    head = TransparencyHead(2, 5, "number")
    last = torch.rand(2, 5, 3, 4)
    constant = last.mean(dim=(2, 3), keepdim=True).expand_as(last)
    torch.testing.assert_close(head(last), head(constant))
