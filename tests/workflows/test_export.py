# SPDX-License-Identifier: Apache-2.0
"""MONAI's export commands on the bundles' networks: the exported network computes what the network computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLE
from monai.bundle import ckpt_export, onnx_export

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import (
    EncoderEmbedding,
    build_classifier,
    build_encoder,
    build_segmenter,
    encoder_stride,
    save_encoder,
    save_model,
)
from monai_mixssl.workflows import exportable, save_state

onnxruntime = pytest.importorskip("onnxruntime", reason="compares ONNX with it")
pytest.importorskip("onnxscript", reason="torch exports with it")

BUNDLES = BUNDLE.parent
# largest difference of any output, as a share of the largest output
TOLERANCE = 1e-4

SMALL, STOCK, EFFICIENT, SWIN = "resnet10_s8_thin", "resnet18", "efficientnet-b0", "swin_unetr"
# sizes that leave the last map of each at least two positions
SIZES = {SMALL: (16, 16, 8), STOCK: (64, 32, 32), "resnet10": (64, 32, 32), EFFICIENT: (64, 32, 32), SWIN: (64, 32, 32)}
# every family in 2D and 3D (for ONNX see below); both tasks, both kinds of decoder
NETWORKS = [
    ("classifier", SMALL, 2, {}),
    ("classifier", SMALL, 3, {"pooling": "last2x2"}),
    ("classifier", STOCK, 3, {}),
    ("classifier", EFFICIENT, 2, {"pooling": "all"}),
    ("classifier", SWIN, 2, {"feature_size": 12}),
    ("segmenter", SMALL, 2, {"decoder": "light"}),
    ("segmenter", SMALL, 3, {}),
    ("segmenter", STOCK, 2, {}),
    ("segmenter", EFFICIENT, 3, {"decoder": "light"}),
    ("segmenter", SWIN, 3, {"feature_size": 12}),
    ("embedding", SMALL, 2, {}),
    ("embedding", "resnet10", 3, {}),  # shortcuts of type B, those of resnet18 are of type A
]
PARAMETERS = [pytest.param(*network, id="-".join(map(str, network[:3]))) for network in NETWORKS]
# the exporter is Python from end to end, which takes twice as long while coverage watches; ours is seen with the others
# (and it is slow: of those that are not small each network once, the rest by benchmarks/export_table.py)
NOT_BY_ONNX = [("segmenter", STOCK), ("segmenter", EFFICIENT), ("segmenter", SWIN)]
FOR_ONNX = [
    pytest.param(*given.values, id=given.id, marks=[pytest.mark.no_cover] * (given.values[1] != SMALL))
    for given in PARAMETERS
    if given.values[:2] not in NOT_BY_ONNX
]


class Case:
    """A network in the file that its bundle reads, with the arguments that both export commands take."""

    def __init__(self, folder: Path, kind: str, backbone: str, dims: int, arguments: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.size = SIZES[backbone][:dims]
        metadata = {
            "preparation": {"spatial_dims": dims, "in_channels": 1, "patch_size": list(self.size), "spacing": None},
            "classes": ["a", "b", "c"],
        }
        common = {"spatial_dims": dims, "backbone": backbone, **arguments}
        if kind == "embedding":
            encoder, record = build_encoder(backbone, dims, 1)
            self.network: torch.nn.Module = EncoderEmbedding(encoder)
            stride = encoder_stride(record)
        else:
            self.network = (build_classifier if kind == "classifier" else build_segmenter)(3, **common)
            record = self.network.record
            stride = encoder_stride(record)
        lively(self.network, self.size)
        self.fixed = backbone == SWIN
        self.stride = stride
        self.keys: dict[str, Any]
        if kind == "embedding":
            holder = torch.nn.Module()
            holder.encoder, holder.record = self.network.encoder, record
            save_encoder(folder / "encoder.safetensors", holder, metadata)
            self.bundle, self.keys = BUNDLES / "mixssl_pretraining", {"encoder": str(folder / "encoder.safetensors")}
        elif kind == "classifier":
            more = {"task": "classification", "multi_label": False, "image_size": list(self.size)}
            save_model(folder / "model.safetensors", self.network, {**metadata, **more})
            self.bundle, self.keys = BUNDLES / "mixssl_classification", {"model": str(folder / "model.safetensors")}
        else:
            more = {"task": "segmentation", "patch_size": list(self.size), "overlap": 0.25, "label_values": [0, 1, 2]}
            save_model(folder / "model.safetensors", self.network, {**metadata, **more})
            self.bundle, self.keys = BUNDLES / "mixssl_segmentation", {"model": str(folder / "model.safetensors")}
        save_state(self.network, folder / "model.pt")
        self.arguments = {
            "net_id": "network_def",
            "ckpt_file": str(folder / "model.pt"),
            "config_file": str(self.bundle / "configs" / "inference.json"),
            **self.keys,
        }

    def images(self, batch: int = 1, factor: int = 1, more: int = 0) -> torch.Tensor:
        sides = [factor * side + more for side in self.size]
        return torch.rand(batch, 1, *sides, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def agrees(self, found: torch.Tensor, images: torch.Tensor) -> None:
        expected = self.network(images)
        assert found.shape == expected.shape
        assert float(expected.std()) > 1e-3  # there is something to get wrong
        assert float((found - expected).abs().max() / expected.abs().max()) <= TOLERANCE


def lively(network: torch.nn.Module, size: tuple[int, ...]) -> None:
    """Give batch norms the statistics of the images: with those of a new network, deep ones put out next to nothing."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.rand(4, 1, *size))
    network.eval()


@pytest.mark.parametrize(("kind", "backbone", "dims", "arguments"), FOR_ONNX)
def test_onnx_computes_the_same(kind, backbone, dims, arguments, tmp_path):
    case = Case(tmp_path, kind, backbone, dims, arguments)
    # the exporter's optimiser takes most of a minute for a transformer: benchmarks/export_table.py measures with it
    faster = {"use_trace": True, "converter_kwargs": {"optimize": False}} if case.fixed else {}
    onnx_export(filepath=str(tmp_path / "m.onnx"), input_shape=[1, 1, *case.size], **faster, **case.arguments)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    images = case.images()
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    case.agrees(torch.from_numpy(found), images)


@pytest.mark.parametrize(("kind", "backbone", "dims", "arguments"), PARAMETERS)
def test_torchscript_computes_the_same_and_refuses_other_sizes(kind, backbone, dims, arguments, tmp_path):
    case = Case(tmp_path, kind, backbone, dims, arguments)
    ckpt_export(filepath=str(tmp_path / "m.ts"), **case.arguments)
    exported = torch.jit.load(tmp_path / "m.ts")
    with torch.no_grad():
        case.agrees(exported(case.images(batch=2)), case.images(batch=2))
        if case.fixed:
            shown = " x ".join(map(str, case.size))
            with pytest.raises(torch.jit.Error, match=f"was exported for images of {shown}; resize or pad"):
                exported(case.images(factor=2))
        else:
            case.agrees(exported(case.images(factor=2)), case.images(factor=2))
            with pytest.raises(torch.jit.Error, match=f"must be multiples of {case.stride}; pad the image"):
                exported(case.images(more=1))


def test_onnx_with_a_dynamic_batch_and_size(tmp_path):
    case = Case(tmp_path, "classifier", SMALL, 2, {})
    options = {"dynamic_axes": {"image": {0: "batch", 2: "rows", 3: "columns"}}}
    onnx_export(
        filepath=str(tmp_path / "m.onnx"), input_shape=[2, 1, *case.size], converter_kwargs=options, **case.arguments
    )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for images in (case.images(batch=3), case.images(factor=2)):
        (found,) = session.run(None, {"image": images.numpy()})
        case.agrees(torch.from_numpy(found), images)


def test_a_transformer_is_not_exported_with_dynamic_sizes():
    network = build_classifier(3, spatial_dims=2, backbone=SWIN, feature_size=12).eval()
    exportable(network, (64, 32))
    images = torch.rand(2, 1, 64, 32)
    # what onnx_export begins with
    with pytest.raises(ConfigError, match="for one image size only; leave the axes of the image out of dynamic_axes"):
        torch.export.export(network, (images,), dynamic_shapes=({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},))
    with torch.no_grad():
        assert network(images).shape == (2, 3)  # nothing else is refused


def test_a_trace_that_computes_something_else_is_refused():
    class Moody(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.scale * (float(image[0, 0, 0, 0]) + image)  # a number that the trace keeps for ever

    record = build_encoder(SMALL, 2, 1)[1]
    with pytest.raises(ConfigError, match="cannot be exported to TorchScript: on another image its trace differs"):
        torch.jit.script(exportable(Moody(), (16, 16), record))


def test_as_typed_from_a_pretraining_run_to_torchscript(command, tmp_path):
    case = Case(tmp_path, "embedding", SMALL, 2, {})
    common = ("--config_file", "configs/inference.json", "--encoder", case.keys["encoder"])
    saved = command(
        "monai.bundle", "run", "save_state", *common, "--state_file", str(tmp_path / "s.pt"), cwd=case.bundle
    )
    assert saved.status == 0, saved.err
    exported = command(
        *("monai.bundle", "ckpt_export", *common, "--ckpt_file", str(tmp_path / "s.pt")),
        *("--filepath", str(tmp_path / "m.ts")),
        cwd=case.bundle,
    )
    assert exported.status == 0, exported.err
    extra = {"inference.json": "", "metadata.json": ""}
    network = torch.jit.load(tmp_path / "m.ts", _extra_files=extra)
    case.agrees(network(case.images()), case.images())
    assert str(tmp_path) not in extra["inference.json"].decode() + extra["metadata.json"].decode()
    assert json.loads(extra["metadata.json"])["version"]


def test_as_typed_to_onnx_with_a_dynamic_batch(command, tmp_path):
    case = Case(tmp_path, "classifier", SMALL, 2, {})
    done = command(
        *("monai.bundle", "onnx_export", "network_def", "--config_file", "configs/inference.json"),
        *("--model", case.keys["model"], "--ckpt_file", str(tmp_path / "model.pt")),
        *("--filepath", str(tmp_path / "m.onnx"), "--input_shape", "[2,1,16,16]"),
        *("--converter_kwargs", "{'dynamic_axes': {'image': {0: 'batch'}}}"),
        cwd=case.bundle,
    )
    assert done.status == 0, done.err
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    images = case.images(batch=5)
    case.agrees(torch.from_numpy(session.run(None, {"image": images.numpy()})[0]), images)


def test_a_missing_file_is_one_sentence(command, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    done = command(
        *("monai.bundle", "ckpt_export", "--config_file", "configs/inference.json"),
        *("--model", str(tmp_path / "nothing.safetensors"), "--ckpt_file", str(tmp_path / "model.pt")),
        *("--filepath", str(tmp_path / "m.ts")),
        cwd=BUNDLES / "mixssl_classification",
    )
    assert done.status == 1
    assert done.last_line.startswith("monai-mixssl: error: The model file does not exist")
