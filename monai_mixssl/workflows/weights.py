# SPDX-License-Identifier: Apache-2.0
"""Weights into and out of a run."""

from __future__ import annotations

from pathlib import Path

from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.errors import ConfigError
from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.networks import MixSSLNet, load_encoder, save_decoder, save_encoder
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = ["save_pretrained", "start_from"]


def start_from(network: MixSSLNet, path: str | Path | None) -> MixSSLNet:
    """Start a new run from the weights of an earlier one's encoder; decoder and head begin anew.

    Args:
        network: the network, changed in place.
        path: an ``encoder.safetensors``; None leaves the network as it is.

    Returns:
        The network.

    Raises:
        DataError: where the file cannot be read.
        ConfigError: where it holds another encoder than the network's.
    """
    if path is None:
        return network
    encoder, metadata = load_encoder(path)
    if metadata["record"] != network.record:
        theirs, ours = metadata["record"], network.record
        other = ", ".join(
            f"{name} {theirs.get(name)!r} instead of {ours.get(name)!r}"
            for name in ("backbone", "spatial_dims", "in_channels", "norm")
            if theirs.get(name) != ours.get(name)
        )
        raise ConfigError(f"init_weights holds another encoder ({other or 'of another version'}); set the same keys.")
    network.encoder.load_state_dict(encoder.state_dict())
    return network


def save_pretrained(folder: RunFolder, network: MixSSLNet, data: PreparedData, loss: DualObjectiveLoss) -> None:
    """Write ``encoder.safetensors`` and ``decoder.safetensors``, and say where they are; in the first process only.

    Args:
        folder: the run's output folder.
        network: the trained network.
        data: what it was trained on.
        loss: the objectives.
    """
    if not folder.main:
        return
    objectives = {
        "reconstruction": loss.reconstruction_weight,
        "transparency": loss.transparency_weight,
        "agreement": loss.agreement_weight,
    }
    axes = "RAS" if data.settings.spatial_dims == 3 else "rows, columns"
    metadata = {"preparation": data.settings.as_dict(), "data_hash": data.data_hash}
    save_encoder(folder.encoder, network, {**metadata, "objectives": objectives, "axis_order": axes})
    decoder = folder.encoder.with_name("decoder.safetensors")
    save_decoder(decoder, network, {"data_hash": data.data_hash})
    slices = sum(len(n) for record in data.records.values() for n in record.get("left_out_slices", {}).values())
    also = f" and {slices} slices of the others (manifest.json)" if slices else ""
    print(
        f"Done: {folder.encoder.name}, {decoder.name}, pictures/, log.jsonl and the rest are in the output folder; "
        f"{len(data.excluded)} files and images were left out (excluded.jsonl){also}. Keep private/ to yourself.",
        flush=True,
    )
