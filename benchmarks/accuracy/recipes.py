# SPDX-License-Identifier: Apache-2.0
"""Our method and everything that is varied about it, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.distributions import Bernoulli, Beta, Distribution

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """One way to pretrain by mixing; the field names are those of the pretraining bundle's keys.

    Attributes:
        source: see ``source_pool.SOURCES``.
        transparency: range that is drawn from uniformly, or a distribution.
        transparency_map_cells: cells along an axis of a map, 0 for one number an image.
        match: intensities of the source, ``"mean_std"`` or None.
        renormalize: whether the blend is given the target's mean and deviation.
        reconstruction_weight, transparency_weight, agreement_weight: of the objectives.
        agreement: ``"infonce"``, ``"vicreg"``, or ``"teacher"``: of each view's blend, predict the embedding that a
            teacher, whose weights follow the network's, has of the other view, which it sees unblended; ``"both"``:
            that and ``"infonce"``; or ``"soft"``: a blend is to be like its target by t, and like its source by
            1 - t, with one blended view.
        temperature: of ``"infonce"``.
        jitter: strength of random brightness and contrast, 0 for none.
        views: 1, or 2 where the agreement has a weight.
        blended_views: how many of the views are blended.
        sources: how many images are averaged into the source of one blend.
        reconstruct_source: whether the source is reconstructed beside the target.
        reconstruct_differences: whether the differences of neighbouring pixels are compared, too.
        spectra: whether amplitudes are blended, and not pixels; without a map.
        similarity_weight: of 1 - SSIM beside the squared error of the reconstruction.
        map_scales: from how many of the encoder's maps, counted from the last, the transparency map is predicted.
        decoder_channels, skip_connections: see ``monai_mixssl.networks.LightDecoder``.
        share_sources: how many targets, neighbours in the batch, are blended with one source.
        own_projectors: whether both objectives see the last map through a projector of their own.
        projector_width: of the agreement's hidden layer; None for the embedding's length.
        spectral_weight: of the squared error between the amplitudes of reconstruction and target.
        feature_target_weight: of the error to the last map that an EMA teacher has of the unblended target.
        from_embedding: whether the decoder sees the last map's mean alone, the embedding.
        reconstruct_whole: whether the target without crop and jitter (mirrored like its view) is reconstructed.
        blend_maps: whether the first stage's maps are blended, and not pixels; without a map.
    """

    source: str = "dead_leaves"
    transparency: tuple[float, float] | Distribution = (0.0, 1.0)
    transparency_map_cells: int = 0
    match: str | None = None
    renormalize: bool = False
    reconstruction_weight: float = 1.0
    transparency_weight: float = 1.0
    agreement_weight: float = 0.0
    agreement: str = "infonce"
    temperature: float = 0.2
    jitter: float = 0.0
    views: int = 1
    blended_views: int = 2
    sources: int = 1
    reconstruct_source: bool = False
    reconstruct_differences: bool = False
    spectra: bool = False
    similarity_weight: float = 0.0
    map_scales: int = 1
    decoder_channels: tuple[int, ...] | None = None
    skip_connections: bool = False
    share_sources: int = 1
    own_projectors: bool = False
    projector_width: int | None = None
    spectral_weight: float = 0.0
    feature_target_weight: float = 0.0
    blend_maps: bool = False
    from_embedding: bool = False
    reconstruct_whole: bool = False


PLAIN = Recipe()
PLAIN_CELLS = replace(PLAIN, transparency=Bernoulli(0.4), transparency_map_cells=7)
MATCHED = replace(PLAIN, match="mean_std", renormalize=True)
MATCHED_MAP = replace(MATCHED, transparency_map_cells=4)
AGREE = replace(PLAIN, transparency=(0.5, 1.0), transparency_map_cells=4, jitter=0.4, agreement_weight=1.0, views=2)
JITTERED = replace(AGREE, reconstruction_weight=10.0, transparency_weight=10.0)
NO_JITTER = replace(JITTERED, jitter=0.0)
MIXSSL = replace(NO_JITTER, source="installed")
CELLS = replace(JITTERED, transparency=Bernoulli(0.7), transparency_map_cells=7)
WHOLE = replace(PLAIN, from_embedding=True, reconstruct_whole=True, jitter=0.4)

RECIPES: dict[str, Recipe] = {
    # the paper's method as far as its abstract tells
    "mixssl_plain": PLAIN,
    # the best of what needs nothing but installed packages, on validation images over three seeds and sets; the
    # bundle's configs/two_views.json has it with other crops
    "mixssl": MIXSSL,
    # matched intensities and renormalised blends: the default of the first release
    "matched": MATCHED,
    "matched_map": MATCHED_MAP,
    # around the plain method
    "plain_map": replace(PLAIN, transparency_map_cells=4),
    "plain_jitter": replace(PLAIN, jitter=0.4),
    "plain_map_jitter": replace(PLAIN, transparency_map_cells=4, jitter=0.4),
    "plain_wide": replace(PLAIN, transparency=(0.3, 1.0)),
    "plain_t100": replace(PLAIN, transparency_weight=100.0),
    "plain_strong_t": replace(PLAIN, transparency_weight=10.0),
    "wide_strong_t": replace(PLAIN, transparency=(0.3, 1.0), transparency_weight=10.0),
    "transparency_only": replace(PLAIN, reconstruction_weight=0.0),
    "reconstruction_only": replace(PLAIN, transparency_weight=0.0),
    "plain_agree": replace(
        PLAIN, transparency_map_cells=4, jitter=0.4, agreement_weight=0.03, views=2, transparency=(0.2, 1.0)
    ),
    # controls: the second domain of the plain method
    "plain_photographs": replace(PLAIN, source="photographs"),
    "plain_noise": replace(PLAIN, source="noise"),
    "plain_fractal": replace(PLAIN, source="fractal"),
    "plain_same_domain": replace(PLAIN, source="same_domain"),
    # what is left of it when a part goes, or comes back
    "mixssl_no_objectives": replace(MIXSSL, reconstruction_weight=0.0, transparency_weight=0.0),
    "mixssl_no_reconstruction": replace(MIXSSL, reconstruction_weight=0.0),
    "mixssl_no_transparency": replace(MIXSSL, transparency_weight=0.0),
    "mixssl_dead_leaves": NO_JITTER,
    "mixssl_photographs": replace(NO_JITTER, source="photographs"),
    "mixssl_mixed": replace(NO_JITTER, source="mixed"),
    "mixssl_noise": replace(NO_JITTER, source="noise"),
    "mixssl_fractal": replace(NO_JITTER, source="fractal"),
    "mixssl_same_domain": replace(NO_JITTER, source="same_domain"),
    # what was called mixssl before: with jitter, and dead leaves
    "jittered": JITTERED,
    # what is left of that one when a part goes
    "jittered_no_objectives": replace(JITTERED, reconstruction_weight=0.0, transparency_weight=0.0),
    "jittered_no_blend": replace(
        JITTERED, transparency=(1.0, 1.0), transparency_map_cells=0, reconstruction_weight=0.0, transparency_weight=0.0
    ),
    "jittered_no_reconstruction": replace(JITTERED, reconstruction_weight=0.0),
    "jittered_no_transparency": replace(JITTERED, transparency_weight=0.0),
    "jittered_no_map": replace(JITTERED, transparency_map_cells=0),
    # around the best one without its transparency
    "teacher_no_transparency": replace(JITTERED, agreement="teacher", transparency_weight=0.0),
    "vicreg_no_transparency": replace(JITTERED, agreement="vicreg", transparency_weight=0.0),
    "wide_no_transparency": replace(JITTERED, transparency=(0.2, 1.0), transparency_weight=0.0),
    "number_no_transparency": replace(JITTERED, transparency_map_cells=0, transparency_weight=0.0),
    # the fourth search: cells of 4 x 4 pixels that are wholly of one image, and variants of the plain method
    "plain_cells": PLAIN_CELLS,
    "jittered_cells": CELLS,
    "plain_skewed": replace(PLAIN, transparency=Beta(2.0, 1.0)),
    "plain_two_sources": replace(PLAIN, sources=2),
    "plain_both": replace(PLAIN, reconstruct_source=True),
    "plain_differences": replace(PLAIN, reconstruct_differences=True),
    "plain_spectra": replace(PLAIN, spectra=True),
    # the fifth: what was left of the leads
    "plain_similarity": replace(PLAIN, similarity_weight=0.1),
    "plain_map_scales": replace(PLAIN, transparency_map_cells=4, map_scales=3),
    "plain_narrow_decoder": replace(PLAIN, decoder_channels=(16, 16, 16)),
    "plain_wide_decoder": replace(PLAIN, decoder_channels=(192, 96, 48)),
    "plain_skips": replace(PLAIN, skip_connections=True),
    # the seventh: the last leads, and what might make the agreement ours
    "plain_maps": replace(PLAIN, blend_maps=True),
    "plain_feature_target": replace(PLAIN, feature_target_weight=1.0),
    "plain_projectors": replace(PLAIN, own_projectors=True),
    "plain_spectral": replace(PLAIN, spectral_weight=1.0),
    "jittered_shared_source": replace(JITTERED, share_sources=16),
    "jittered_soft": replace(
        JITTERED, agreement="soft", transparency=(0.2, 1.0), transparency_map_cells=0, blended_views=1, share_sources=4
    ),
    "jittered_t05": replace(JITTERED, temperature=0.5),
    "jittered_feature_target": replace(JITTERED, feature_target_weight=1.0),
    # the eighth: reconstruct from the embedding, and the whole image from any view of it
    "plain_embedding": replace(PLAIN, from_embedding=True),
    "whole": WHOLE,
    "jittered_whole": replace(JITTERED, from_embedding=True, reconstruct_whole=True),
    # the ninth: what gained a little, together
    "cells_t05": replace(CELLS, temperature=0.5),
    "jittered_t05_whole": replace(JITTERED, temperature=0.5, from_embedding=True, reconstruct_whole=True),
    "cells_t05_whole": replace(CELLS, temperature=0.5, from_embedding=True, reconstruct_whole=True),
    # the tenth: a second domain that is the first without its anatomy
    "plain_scrambled": replace(PLAIN, source="scrambled"),
    "plain_shuffled": replace(PLAIN, source="shuffled"),
    # the eleventh: photographs with what had gained something, and what is left of them without a part
    **{
        f"{name}_photographs": replace(recipe, source="photographs")
        for name, recipe in {
            "plain_cells": PLAIN_CELLS,
            "reconstruction": replace(PLAIN, transparency_weight=0.0),
            "jittered": JITTERED,
            "jittered_cells": CELLS,
            "jittered_no_objectives": replace(JITTERED, reconstruction_weight=0.0, transparency_weight=0.0),
            "jittered_t05": replace(JITTERED, temperature=0.5),
            "mixssl_no_objectives": replace(NO_JITTER, reconstruction_weight=0.0, transparency_weight=0.0),
            "mixssl_no_reconstruction": replace(NO_JITTER, reconstruction_weight=0.0),
            "mixssl_no_transparency": replace(NO_JITTER, transparency_weight=0.0),
            "mixssl_cells": replace(CELLS, jitter=0.0),
            "mixssl_wide": replace(NO_JITTER, transparency=(0.2, 1.0)),
        }.items()
    },
    "plain_installed": replace(PLAIN, source="installed"),
    "jittered_installed": replace(JITTERED, source="installed"),
    "jittered_mixed": replace(JITTERED, source="mixed"),
    # the twelfth: around the new one, for chest X-rays
    "mixssl_teacher": replace(MIXSSL, agreement="teacher"),
    "mixssl_both": replace(MIXSSL, agreement="both"),
    "mixssl_weak_jitter": replace(MIXSSL, jitter=0.2),
    # the first search
    "agree": AGREE,
    "agree_r10_t1": replace(AGREE, reconstruction_weight=10.0),
    "agree_no_objectives": replace(AGREE, reconstruction_weight=0.0, transparency_weight=0.0),
    "agree_strong30": replace(AGREE, reconstruction_weight=30.0, transparency_weight=30.0),
    "agree_strong_matched": replace(JITTERED, match="mean_std", renormalize=True),
    "agree_vicreg_strong": replace(JITTERED, agreement="vicreg"),
    "teacher_strong": replace(JITTERED, agreement="teacher"),
}
