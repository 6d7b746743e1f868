# SPDX-License-Identifier: Apache-2.0
"""The decoder's file: what it says of the decoder, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretrained import pretrained

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import LightDecoder, build_classifier, save_decoder
from monai_mixssl.networks.decoder_file import read_decoder_arguments, read_decoder_tensors


def test_a_decoder_built_from_the_file_gives_the_same_image(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path, skip_connections=True, norm="group", decoder_channels=[16, 8, 8])
    file = file.with_name("decoder.safetensors")
    decoder = LightDecoder(2, net.record["feature_channels"], 1, **read_decoder_arguments(file))
    decoder.load_state_dict(read_decoder_tensors(file), strict=True)
    image = torch.rand(1, 1, 33, 24)
    with torch.no_grad():
        assert torch.equal(decoder.eval()(net.encoder(image), image.shape[2:]), net(image)["reconstruction"])


def test_a_network_without_a_light_decoder_has_none_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this network has none"):
        save_decoder(tmp_path / "decoder.safetensors", build_classifier(2))
    assert list(tmp_path.iterdir()) == []
