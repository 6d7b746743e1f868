# SPDX-License-Identifier: Apache-2.0
"""Embeddings against numpy's averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import EncoderEmbedding, MixSSLNet, build_encoder, pool_features


def test_each_pooling_is_the_average_that_its_name_says() -> None:
    rng = np.random.RandomState(0)
    first, last = rng.rand(2, 3, 8, 8).astype(np.float32), rng.rand(2, 5, 4, 4).astype(np.float32)
    features = [torch.from_numpy(first), torch.from_numpy(last)]
    quarters = last.reshape(2, 5, 2, 2, 2, 2).mean(axis=(3, 5)).reshape(2, 20)
    means = [feature.mean(axis=(2, 3)) for feature in (first, last)]
    np.testing.assert_allclose(pool_features(features, "last"), means[1], rtol=1e-5)
    np.testing.assert_allclose(pool_features(features, "all"), np.concatenate(means, axis=1), rtol=1e-5)
    np.testing.assert_allclose(pool_features(features, "last2x2"), quarters, rtol=1e-5)


@pytest.mark.parametrize(("pooling", "length"), [("last", 192), ("all", 48 + 96 + 192), ("last2x2", 8 * 192)])
def test_an_embedding_in_3d_is_one_plain_tensor(pooling: str, length: int) -> None:
    encoder, _ = build_encoder("resnet10_s8_thin", 3, in_channels=1)
    embedding = EncoderEmbedding(encoder, pooling)(torch.rand(2, 1, 24, 16, 17))  # type: ignore[arg-type]  # a parameter
    assert embedding.shape == (2, length)
    assert embedding.dtype == torch.float32


def test_a_whole_network_is_embedded_by_its_encoder() -> None:
    net = MixSSLNet().eval()
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(EncoderEmbedding(net)(image), net(image)["embedding"])
    assert EncoderEmbedding(net).encoder is net.encoder


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ConfigError, match="last2x2"):
        EncoderEmbedding(MixSSLNet(), "mean")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ConfigError, match="last2x2"):
        pool_features([torch.rand(1, 1, 2, 2)], "mean")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("sizes", [(4, 6), (3, 5), (1, 2), (3, 4, 1), (2, 5, 7)])
def test_quarters_are_those_of_adaptive_pooling_at_odd_sizes_too(sizes):
    last = torch.rand(2, 3, *sizes, generator=torch.Generator().manual_seed(0))
    pool = torch.nn.functional.adaptive_avg_pool2d if len(sizes) == 2 else torch.nn.functional.adaptive_avg_pool3d
    assert torch.allclose(pool_features([last], "last2x2"), pool(last, 2).flatten(1), atol=1e-6)
