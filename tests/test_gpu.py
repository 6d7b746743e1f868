# SPDX-License-Identifier: Apache-2.0
"""On a CUDA GPU everything gives the numbers that it gives on the CPU, with no change but the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from torch import distributed, nn

from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.mixing import blend
from monai_mixssl.networks import EncoderClassifier, MixSSLNet
from monai_mixssl.networks.segmenter import build_segmenter
from monai_mixssl.probes import extract_features
from monai_mixssl.sources import DeadLeaves
from monai_mixssl.transforms import CrossDomainMixup, RandCrossDomainMixup, RandCrossDomainMixupd
from monai_mixssl.workflows.distributed import distribute

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

SHAPES = {2: (24, 20), 3: (12, 10, 8)}


@pytest.fixture(autouse=True)
def full_precision():
    # TF32 keeps 10 bits of the mantissa, which is no matter of ours
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def images(spatial_dims: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 1, *SHAPES[spatial_dims], generator=torch.Generator().manual_seed(spatial_dims))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("match", ["mean_std", "histogram", None])
@pytest.mark.parametrize("renormalize", [True, False])
def test_blends_are_those_of_the_cpu(spatial_dims, match, renormalize):
    targets, sources = images(spatial_dims), images(spatial_dims).flip(0)
    for t in (torch.linspace(0, 1, 4), torch.rand(4, 1, *SHAPES[spatial_dims])):
        expected = blend(targets, sources, t, match=match, renormalize=renormalize, batch=True)
        found = blend(targets.cuda(), sources.cuda(), t.cuda(), match=match, renormalize=renormalize, batch=True)
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("cells", [0, 3])
def test_a_random_mixup_draws_the_same_on_the_gpu_and_keeps_metadata_there(spatial_dims, cells):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    target = MetaTensor(images(spatial_dims)[0], affine=affine, meta={"note": "kept"})
    found = []
    for device in ("cpu", "cuda"):
        mixup = RandCrossDomainMixup(DeadLeaves(), map_cells=cells).set_random_state(seed=5)
        found.append(mixup(target.to(device)))
    assert found[1].is_cuda
    assert isinstance(found[1], MetaTensor)
    assert found[1].meta["note"] == "kept"
    torch.testing.assert_close(found[1].affine.cpu(), found[0].affine.cpu())
    torch.testing.assert_close(found[1].as_tensor().cpu(), found[0].as_tensor(), rtol=0, atol=2e-6)


def test_the_dictionary_version_leaves_everything_on_the_gpu():
    mixup = RandCrossDomainMixupd("image", source=DeadLeaves()).set_random_state(seed=5)
    target = images(2)[0].cuda()
    sample = mixup({"image": target})
    assert sample["image"].is_cuda
    assert torch.equal(sample["image_target"], target)


def test_a_deterministic_mixup_takes_the_source_from_the_cpu():
    target, source = images(2)[0], images(2)[1]
    expected = CrossDomainMixup()(target, source, 0.3)
    found = CrossDomainMixup()(target.cuda(), source, 0.3)
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("agreement", ["infonce", "vicreg"])
@pytest.mark.parametrize("transparency", ["number", "map"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_losses_and_gradients_are_those_of_the_cpu(spatial_dims, transparency, agreement):
    blends = images(spatial_dims)
    t = torch.rand(4, 1, *SHAPES[spatial_dims]) if transparency == "map" else torch.rand(4)
    loss = DualObjectiveLoss(agreement_weight=0.1, agreement=agreement)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = MixSSLNet(spatial_dims, transparency=transparency, projection_size=16).to(device)
        parts = loss(network(blends.to(device)), {"image": blends.to(device), "transparency": t.to(device)})
        parts["loss"].backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        found.append(({name: float(value) for name, value in parts.items()}, gradient.cpu()))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    assert torch.nn.functional.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.999


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_classifiers_segmenters_and_features_are_those_of_the_cpu(spatial_dims):
    torch.manual_seed(0)
    network = MixSSLNet(spatial_dims)
    networks = [EncoderClassifier(network.encoder, network.record, 3), build_segmenter(2, spatial_dims=spatial_dims)]
    x = images(spatial_dims)
    for one in networks:
        with torch.no_grad():
            expected = one.eval()(x)
            found = one.cuda()(x.cuda())
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
    batches = [{"image": x, "label": torch.zeros(4, dtype=torch.long), "id": list("abcd")}]
    tables = [extract_features(network.encoder.to(device), batches, device, ("last",)) for device in ("cpu", "cuda")]
    torch.testing.assert_close(
        torch.as_tensor(tables[1].features["last"]), torch.as_tensor(tables[0].features["last"]), rtol=1e-3, atol=1e-4
    )


def _half(rank: int, folder: str) -> None:
    """One of two processes on one GPU (with gloo, for NCCL refuses that): a step on its half of the batch."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.backends.cudnn.allow_tf32 = False
    network = distribute(_normalised(), "cuda:0")
    _loss(network, slice(rank * 4, rank * 4 + 4)).backward()
    if rank == 0:
        module = network.module
        state = {name: value.cpu() for name, value in module.state_dict().items()}
        torch.save((state, [p.grad.cpu() for p in module.parameters()]), f"{folder}/found.pt")
    distributed.destroy_process_group()


def _normalised() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))


def _uneven() -> torch.Tensor:
    """The halves differ in brightness, so that statistics of one half are far from those of the whole."""
    return images(2, 8) + torch.arange(8).view(8, 1, 1, 1)


def _loss(network: nn.Module, part: slice) -> torch.Tensor:
    """Against random images: the mean square of what is normalised would be the same for all weights."""
    wanted = torch.randn(8, 4, 20, 16, generator=torch.Generator().manual_seed(1))
    return (network(_uneven()[part].cuda()) - wanted[part].cuda()).pow(2).mean()


def test_synchronised_batch_norm_has_the_statistics_and_gradients_of_the_whole_batch(tmp_path: Path):
    torch.multiprocessing.spawn(_half, (str(tmp_path),), nprocs=2)
    state, gradients = torch.load(tmp_path / "found.pt")
    alone = _normalised().cuda()
    _loss(alone, slice(None)).backward()
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(state[name], value.cpu(), rtol=1e-4, atol=1e-5)
    for found, parameter in zip(gradients, alone.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad.cpu(), rtol=1e-3, atol=1e-5)
