# SPDX-License-Identifier: Apache-2.0
"""Encoder, light decoder, transparency head; weights in and out.

Importing this registers the small-stem ResNets in MONAI's ``FLEXUNET_BACKBONE``.
"""

from __future__ import annotations

from monai_mixssl.networks.classifier import EncoderClassifier, build_classifier
from monai_mixssl.networks.decoder import LightDecoder
from monai_mixssl.networks.decoder_file import save_decoder
from monai_mixssl.networks.embedding import EncoderEmbedding, embedding_size, pool_features
from monai_mixssl.networks.encoder_within import encoder_parameters, find_encoder
from monai_mixssl.networks.encoders import backbone_names, build_encoder, check_patch_size, encoder_stride
from monai_mixssl.networks.learning_rates import parameter_groups
from monai_mixssl.networks.load_report import LoadReport
from monai_mixssl.networks.loading import load_pretrained
from monai_mixssl.networks.mixssl_net import MixSSLNet
from monai_mixssl.networks.model_file import load_model, save_model
from monai_mixssl.networks.segmenter import build_segmenter
from monai_mixssl.networks.small_stem_resnet import SmallStemResNetEncoder
from monai_mixssl.networks.transparency_head import TransparencyHead
from monai_mixssl.networks.weights import load_embedding, load_encoder, read_encoder_metadata, save_encoder

__all__ = [
    "EncoderClassifier",
    "EncoderEmbedding",
    "LightDecoder",
    "LoadReport",
    "MixSSLNet",
    "SmallStemResNetEncoder",
    "TransparencyHead",
    "backbone_names",
    "build_classifier",
    "build_encoder",
    "build_segmenter",
    "check_patch_size",
    "embedding_size",
    "encoder_parameters",
    "encoder_stride",
    "find_encoder",
    "load_embedding",
    "load_encoder",
    "load_model",
    "load_pretrained",
    "parameter_groups",
    "pool_features",
    "read_encoder_metadata",
    "save_decoder",
    "save_encoder",
    "save_model",
]
