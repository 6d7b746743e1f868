# SPDX-License-Identifier: Apache-2.0
"""Encoder, light decoder, transparency head; weights in and out.

Importing this registers the small-stem ResNets in MONAI's ``FLEXUNET_BACKBONE``.
"""

from __future__ import annotations

from monai_mixssl.networks.decoder import LightDecoder
from monai_mixssl.networks.embedding import EncoderEmbedding, pool_features
from monai_mixssl.networks.encoders import backbone_names, build_encoder, check_patch_size, encoder_stride
from monai_mixssl.networks.mixssl_net import MixSSLNet
from monai_mixssl.networks.small_stem_resnet import SmallStemResNetEncoder
from monai_mixssl.networks.transparency_head import TransparencyHead
from monai_mixssl.networks.weights import load_embedding, load_encoder, save_encoder

__all__ = [
    "EncoderEmbedding",
    "LightDecoder",
    "MixSSLNet",
    "SmallStemResNetEncoder",
    "TransparencyHead",
    "backbone_names",
    "build_encoder",
    "check_patch_size",
    "encoder_stride",
    "load_embedding",
    "load_encoder",
    "pool_features",
    "save_encoder",
]
