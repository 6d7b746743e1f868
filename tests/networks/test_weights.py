# SPDX-License-Identifier: Apache-2.0
"""The encoder file: what comes back, and what a wrong file does."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import MixSSLNet, load_embedding, load_encoder, save_encoder

NETWORKS = [
    {},
    {"backbone": "resnet18_s16_thin", "spatial_dims": 3, "norm": ["group", {"num_groups": 4}]},
    {"backbone": "resnet10", "in_channels": 3},
    {"backbone": "efficientnet-b0", "norm": "instance"},
    {"backbone": "swin_unetr", "feature_size": 12},
]


def stepped(**arguments: object) -> MixSSLNet:
    """A network after one training step, so that weights and batch-norm statistics are not the initial ones."""
    torch.manual_seed(0)
    net = MixSSLNet(**arguments).train()  # type: ignore[arg-type]  # arguments by name, of many types
    record = net.record
    net(torch.rand(2, record["in_channels"], *[64] * record["spatial_dims"]))["embedding"].sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    return net.eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_encoder(tmp_path / "encoder.safetensors", stepped())
    return tmp_path / "encoder.safetensors"


@pytest.mark.parametrize("arguments", NETWORKS)
def test_the_loaded_encoder_equals_the_saved_one_bit_for_bit(tmp_path: Path, arguments: dict) -> None:
    if arguments.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    net = stepped(**arguments)
    save_encoder(tmp_path / "encoder.safetensors", net)
    encoder, metadata = load_encoder(tmp_path / "encoder.safetensors")
    assert metadata["record"] == net.record
    saved = net.encoder.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in encoder.state_dict().items())
    image = torch.rand(1, net.record["in_channels"], *[64] * net.record["spatial_dims"])
    for ours, theirs in zip(encoder(image), net.encoder(image), strict=True):
        assert torch.equal(ours, theirs)


def test_the_callers_metadata_come_back(tmp_path: Path) -> None:
    extra = {"patch_size": [64, 64], "spacing": None, "normalization": {"CT": [-1000, 1000]}, "axis_order": "RAS"}
    save_encoder(tmp_path / "e.safetensors", MixSSLNet(), extra)
    metadata = load_encoder(tmp_path / "e.safetensors")[1]
    assert {key: metadata[key] for key in extra} == extra
    assert {"record", "monai_version", "monai_mixssl_version", "torch_version"} <= set(metadata)


@pytest.mark.parametrize("extra", [{"record": {}}, {"path": Path("a")}, {"spacing": float("nan")}])
def test_metadata_that_clash_or_are_not_json_are_refused(tmp_path: Path, extra: dict) -> None:
    with pytest.raises(ConfigError, match="metadata"):
        save_encoder(tmp_path / "e.safetensors", MixSSLNet(), extra)
    assert list(tmp_path.iterdir()) == []


def test_equal_weights_give_equal_bytes_whatever_their_memory_format(tmp_path: Path) -> None:
    contents = set()
    for number in range(4):
        net = stepped()
        if number == 3:
            net = net.to(memory_format=torch.channels_last)
        save_encoder(tmp_path / "e.safetensors", net, {"b": 1, "a": 2})
        contents.add((tmp_path / "e.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_failing_write_leaves_the_earlier_file_and_nothing_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_encoder(file, MixSSLNet())
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_the_file_has_the_mode_that_any_new_file_gets(file: Path) -> None:
    other = file.with_name("other")
    other.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_the_embedding_of_a_file_equals_that_of_the_network(file: Path) -> None:
    net, image = stepped(), torch.rand(3, 1, 32, 32)
    embedding = load_embedding(file)
    assert not embedding.training
    torch.testing.assert_close(embedding(image), net(image)["embedding"], rtol=0, atol=0)
    assert load_embedding(file, "last2x2")(image).shape == (3, 4 * 192)


class _Exploding:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was executed",))


def _rewrite(file: Path, change: dict) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = json.loads(opened.metadata()["monai_mixssl"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    metadata["record"].update(change.get("record", {}))
    metadata.update({key: value for key, value in change.items() if key != "record"})
    safetensors.torch.save_file(tensors, file, {"monai_mixssl": json.dumps(metadata)})


def _damage(kind: str, file: Path) -> None:
    content = file.read_bytes()
    if kind == "missing":
        file.unlink()
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "garbled header":
        file.write_bytes(content[:8] + b"\xff" * 64 + content[72:])
    elif kind == "pickle":
        file.write_bytes(pickle.dumps(_Exploding()))
    elif kind == "torch checkpoint":
        torch.save({"weight": torch.zeros(2)}, file)
    elif kind == "foreign safetensors":
        safetensors.torch.save_file({"weight": torch.zeros(2)}, file)
    elif kind == "foreign metadata":
        safetensors.torch.save_file({"weight": torch.zeros(2)}, file, {"monai_mixssl": "[1]"})
    elif kind == "newer format":
        _rewrite(file, {"format_version": 99})
    elif kind == "unknown backbone":
        _rewrite(file, {"record": {"backbone": "resnet99_s8"}})
    elif kind == "other architecture":
        _rewrite(file, {"record": {"arguments": {"layers": [9, 9, 9, 9]}}})
    else:
        assert kind == "weights of another encoder"
        safe = stepped(backbone="resnet18_s8_thin")
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata()
        safetensors.torch.save_file(safe.encoder.state_dict(), file, header)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "does not exist"),
        ("folder", "damaged or of another kind"),
        ("empty", "damaged or of another kind"),
        ("truncated", "damaged or of another kind"),
        ("garbled header", "damaged or of another kind"),
        ("pickle", "damaged or of another kind"),
        ("torch checkpoint", "damaged or of another kind"),
        ("foreign safetensors", "no encoder of monai-mixssl"),
        ("foreign metadata", "no encoder of monai-mixssl"),
        ("newer format", "update the package"),
        ("unknown backbone", "resnet99_s8"),
        ("other architecture", "arguments"),
        ("weights of another encoder", "do not fit"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason_and_without_its_path(file: Path, kind: str, reason: str) -> None:
    _damage(kind, file)
    with pytest.raises(DataError, match=reason) as caught:
        load_encoder(file)
    assert str(file.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)
