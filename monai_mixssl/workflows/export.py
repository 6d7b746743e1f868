# SPDX-License-Identifier: Apache-2.0
"""Networks that MONAI's ``ckpt_export`` and ``onnx_export`` can take out of a bundle."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]  # public, but not in its __all__

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import load_embedding, read_encoder_metadata
from monai_mixssl.networks.embedding import Pooling
from monai_mixssl.networks.encoders import encoder_stride
from monai_mixssl.workflows import last_line
from monai_mixssl.workflows.classification_evaluation import load_classifier, model_metadata
from monai_mixssl.workflows.segmentation_evaluation import load_segmenter, segmenter_metadata

__all__ = ["exportable", "exportable_classifier", "exportable_embedding", "exportable_segmenter", "save_state"]

# their windows and masks are computed from the size in Python: a trace holds them as numbers
_FIXED_SIZE = ("swin_unetr",)
_TOLERANCE = 1e-4


def exportable(network: nn.Module, size: Sequence[int], record: Mapping[str, Any] | None = None) -> nn.Module:
    """Make ``torch.jit.script``, and with it ``ckpt_export``, work on a network, by tracing it.

    MONAI's and our encoders hold Python that TorchScript's compiler does not know. What is exported in its place is a
    trace at one size that checks the size of its input, where a trace alone would go on to wrong results. Convolutional
    networks then take images of any size in whole strides; transformers that of the trace alone. ``onnx_export`` traces
    by itself; it is kept from exporting a transformer with dynamic image sizes, which gives wrong results, too.

    Args:
        network: of :func:`~monai_mixssl.networks.load_model` or
            :func:`~monai_mixssl.networks.load_embedding`; changed in place, its keys stay as they are.
        size: of an image, pixels or voxels along each axis; rounded up to whole strides.
        record: of its encoder; None: ``network.record``.

    Returns:
        The network.
    """
    entry: Mapping[str, Any] = network.record if record is None else record  # type: ignore[assignment]  # torch types attributes loosely
    stride = encoder_stride(dict(entry))
    whole = [-(-int(side) // stride) * stride for side in size]
    fixed = entry["backbone"] in _FIXED_SIZE

    def prepare(self: nn.Module) -> nn.Module:
        return _traced(self, int(entry["in_channels"]), whole, 1 if fixed else stride, fixed)

    for module in network.modules():
        if isinstance(shortcut := getattr(module, "downsample", None), partial):
            module.__dict__["downsample"] = partial(_shortcut_of_type_a, **shortcut.keywords)
    # torch.jit.script asks each module for a method of this name; bound, so that a copy exports itself
    network.__dict__["__prepare_scriptable__"] = MethodType(prepare, network)
    if fixed:
        network.register_forward_pre_hook(_refuse_dynamic_size)
    return network


def exportable_classifier(path: str | Path, size: Sequence[int] | None = None) -> nn.Module:
    """The classifier of a file, in evaluation mode, made :func:`exportable`.

    Args:
        path: the ``model.safetensors`` of a fine-tuning run.
        size: see :func:`exportable`; None: the size that the run brought images to.

    Returns:
        Network from images (B, C, \\*spatial) to logits (B, K).

    Raises:
        DataError: where the file cannot be read or holds no classifier.
    """
    last_line.install_for_run()  # the export commands run nothing of what ``initialize`` lists
    return exportable(load_classifier(path), size or model_metadata(path)["image_size"])


def exportable_segmenter(path: str | Path, size: Sequence[int] | None = None) -> nn.Module:
    """The segmentation network of a file, in evaluation mode, made :func:`exportable`.

    Args:
        path: the ``model.safetensors`` of a fine-tuning run.
        size: see :func:`exportable`; None: the size of a training patch.

    Returns:
        Network from images (B, C, \\*spatial) to logits (B, K, \\*spatial).

    Raises:
        DataError: where the file cannot be read or holds no segmentation network.
    """
    last_line.install_for_run()
    return exportable(load_segmenter(path), size or segmenter_metadata(path)["patch_size"])


def exportable_embedding(path: str | Path, pooling: Pooling = "last", size: Sequence[int] | None = None) -> nn.Module:
    """The encoder of a file as a network that gives one vector an image, made :func:`exportable`.

    Args:
        path: the ``encoder.safetensors`` of a pretraining run.
        pooling: see :func:`~monai_mixssl.networks.load_embedding`.
        size: see :func:`exportable`; None: the size of a training patch.

    Returns:
        Network from images (B, C, \\*spatial) to embeddings (B, D).

    Raises:
        DataError: where the file cannot be read.
        ConfigError: where the pooling is not known.
    """
    last_line.install_for_run()
    metadata = read_encoder_metadata(path)
    record = metadata["record"]
    if size is None:
        # a file that a user of the library has saved need not say at what size it was trained
        patch = metadata.get("preparation", {}).get("patch_size")
        size = patch or [4 * encoder_stride(record)] * record["spatial_dims"]
    return exportable(load_embedding(path, pooling), size, record)


def save_state(network: nn.Module, path: str | Path) -> None:
    """Write a network's ``state_dict`` with ``torch.save``: the file that MONAI's export commands ask for.

    Args:
        network: the network.
        path: the file, usually ``models/model.pt``; its folder is made.

    Raises:
        RunFolderError: when the disk is full or the folder cannot be written.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    write_atomically(file, lambda opened: torch.save(state, opened), "the weights")
    print(f"Wrote {file.name}, for --ckpt_file of ckpt_export and onnx_export.", flush=True)


def _shortcut_of_type_a(x: torch.Tensor, planes: int, stride: int, spatial_dims: int) -> torch.Tensor:
    """What MONAI's ResNets have as shortcut of type A: every so many positions, and channels of zeros.

    Theirs goes through ``.data``, which a trace takes for a constant, the first image's, and of which the exporter to
    ONNX makes nothing that can be used.
    """
    thinned = x.detach()[(slice(None), slice(None), *[slice(None, None, stride)] * spatial_dims)]
    return torch.nn.functional.pad(thinned, [0, 0] * spatial_dims + [0, planes - x.shape[1]])


def _refuse_dynamic_size(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    if any(isinstance(side, torch.SymInt) for side in inputs[0].shape[2:]):
        raise ConfigError(
            "a transformer can be exported for one image size only; leave the axes of the image out of dynamic_axes "
            "(the batch may be dynamic)."
        )


class _CheckedTrace(nn.Module):
    """A trace, and the sizes that it is good for. Compiled by TorchScript: plain statements only."""

    def __init__(self, network: torch.jit.ScriptModule, size: list[int], multiple: int, fixed: bool) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.multiple = multiple
        self.fixed = fixed
        shown = " x ".join(str(side) for side in size)
        self.refusal = (
            f"this network was exported for images of {shown}; resize or pad to that, or export it at another size"
            if fixed
            else f"image sides must be multiples of {multiple}; pad the image"
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fits = image.dim() == len(self.size) + 2
        if fits:
            for axis in range(len(self.size)):
                side = image.size(axis + 2)
                if side % self.multiple != 0 or (self.fixed and side != self.size[axis]):
                    fits = False
        if not fits:
            raise ValueError(self.refusal)
        return self.network(image)


def _traced(network: nn.Module, channels: int, size: list[int], multiple: int, fixed: bool) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    parameter = next(network.parameters())
    first, second = (
        torch.rand(1, channels, *size, generator=generator).to(parameter.device, parameter.dtype) for _ in range(2)
    )
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TracerWarning)  # of sizes, which _CheckedTrace looks at
                trace = torch.jit.trace(network, first, check_trace=False)
            expected = network(second)
            difference = float((trace(second) - expected).abs().max() / expected.abs().max().clamp_min(1e-9))
    finally:
        for module, training in modes:
            module.training = training
    if not difference <= _TOLERANCE:
        raise ConfigError(
            f"the network cannot be exported to TorchScript: on another image its trace differs by {difference:.1e} of "
            "the largest output; export it to ONNX."
        )
    return _CheckedTrace(trace, size, multiple, fixed)
