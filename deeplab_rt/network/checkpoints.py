"""Checkpoints: this project's own, and those of other projects, recognised by their keys.

A checkpoint format is one function that takes a state dict and returns a :class:`StateDictMapping`, or None
where the keys are not of that format; it is listed in :data:`FORMATS`. Files are read without
executing anything in them.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from deeplab_rt.errors import CheckpointError, LabelError
from deeplab_rt.field_checks import shown
from deeplab_rt.files import PartialFile
from deeplab_rt.labels import LabelSet
from deeplab_rt.network.encoders import LITE_SCALES, Stage, lite_stages
from deeplab_rt.network.model import Architecture, ArchitectureError, DeepLab

State = Mapping[str, Tensor]


@dataclass
class StateDictMapping:
    """How a foreign state dict becomes one of ours.

    Attributes:
        source: The project it comes from.
        architecture: The network that computes the same.
        modules: Their module's name to ours; the leaves (weight, bias, ...) keep their names.
        ignore: Prefixes of keys that take no part (auxiliary heads, ImageNet classifiers).
        rates_at_stride: Whether the project keeps its atrous rates at every output stride; others
            scale theirs along.
        first_last: Our convolutions that read a concatenation whose first part, of so many
            channels, comes last here.
        notes: What a user should know.
    """

    source: str
    architecture: Architecture
    modules: dict[str, str]
    ignore: tuple[str, ...] = ()
    rates_at_stride: bool = False
    first_last: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class Checkpoint:
    """A network with its weights, and what the file said of it.

    Attributes:
        model: In evaluation mode, float32.
        labels: The classes; None where the file does not say.
        size: Height and width of the network's input; None where the file does not say.
        extra: More keys for a manifest (training data, licence).
        source: The project it comes from.
        notes: What a user should know.
    """

    model: DeepLab
    labels: LabelSet | None
    size: tuple[int, int] | None
    extra: dict[str, Any]
    source: str
    notes: tuple[str, ...] = ()


def describe(
    model: DeepLab,
    labels: LabelSet,
    size: tuple[int, int],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The metadata that makes a checkpoint complete: each value is JSON."""
    return {
        "architecture": json.dumps(model.architecture.to_dict()),
        "labels": json.dumps(labels.to_list()),
        "input": json.dumps(size),
        "extra": json.dumps(dict(extra or {})),
    }


def save_checkpoint(
    path: Path, model: DeepLab, metadata: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Write weights as safetensors with :func:`describe`'s metadata, atomically.

    Args:
        path: The file to write.
        model: The network.
        metadata: See :func:`describe`.
        dtype: Of the convolutions' weights; biases and BatchNorm stay in float32.
    """
    tensors = {
        name: value.to(dtype if value.ndim > 1 else value.dtype).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    with PartialFile(path, overwrite=True) as partial:
        save_file(tensors, partial.path, dict(metadata))
        partial.commit()


_NUMPY_SCALARS: list[Any] = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
]
"""What a NumPy number in a pickle needs: VainF's main.py saves its best score so."""


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict and the metadata of a file, executing nothing in it.

    Takes safetensors, and PyTorch files that hold a state dict, alone or under ``state_dict``,
    ``model_state``, ``model`` or (a run of this project: its averaged weights) ``ema``.

    Raises:
        CheckpointError: The file is missing, unreadable, holds objects other than tensors and plain
            values, or holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):  # not a pickle at all
            raise CheckpointError(_unreadable(path, error)) from error
        raise CheckpointError(
            f"{path} holds Python objects, which could run code when read; expected tensors alone. "
            "Where you trust it, save its state dict by itself: torch.save(torch.load(FILE, "
            "weights_only=False)['state_dict'], NEW)"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise nearly anything
        raise CheckpointError(_unreadable(path, error)) from error
    if isinstance(content, dict):
        metadata = content.get("metadata", {})
        if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
            metadata = {}  # another project's
        for key in ("ema", "state_dict", "model_state", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no state dict")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no state dict: there are no tensors in it")
    # Wrappers put their name before every key: DataParallel, AveragedModel, Lightning modules.
    tensors.pop("n_averaged", None)
    for prefix in ("module.", "model.", "net."):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors, metadata


def _unreadable(path: Path, error: Exception) -> str:
    lines = str(error).split(". ")[0].splitlines()
    reason = lines[0] if lines else "it ends too early"
    return f"{path} cannot be read ({reason}); expected safetensors or a file of torch.save"


def load_checkpoint(
    path: Path, output_stride: int | None = None, atrous_rates: Sequence[int] | None = None
) -> Checkpoint:
    """Read a checkpoint of this project or of another one.

    Args:
        path: The file.
        output_stride: For other projects' checkpoints, whose weights do not tell it; None takes
            that project's default. The atrous rates scale along where the project's do.
        atrous_rates: Likewise: the dilations of the ASPP's branches as they are at that output
            stride; None takes the project's default.

    Raises:
        CheckpointError: See :func:`read_state`; or no format is recognised, or keys or shapes do
            not fit (the message names them).
    """
    state, metadata = read_state(path)
    if "architecture" in metadata:
        architecture, labels, size, extra = _parse_metadata(path, metadata)
        model = DeepLab(architecture, len(labels))
        _fill(model, state, str(path))
        return Checkpoint(model, labels, size, extra, "deeplab_rt")
    for recognise in FORMATS:
        mapping = recognise(state)
        if mapping is not None:
            mapping.architecture = _with_stride(mapping, output_stride, atrous_rates)
            model = convert(state, mapping, str(path))
            return Checkpoint(model, None, None, {}, mapping.source, mapping.notes)
    some = ", ".join(sorted(state)[:3])
    raise CheckpointError(
        f"{path}: no known format has keys like {some}; expected DeepLab V3+ of this project, "
        "VainF/DeepLabV3Plus-Pytorch (mobilenet, resnet50, resnet101), segmentation_models.pytorch "
        "(mobilenet_v2, resnet18 to 101, timm-tf_efficientnet_lite0 to 4), MMSegmentation "
        "(r50, r101), or DeepLab V3 of torchvision (resnet50, resnet101)"
    )


def _parse_metadata(
    path: Path, metadata: Mapping[str, str]
) -> tuple[Architecture, LabelSet, tuple[int, int], dict[str, Any]]:
    """What :func:`describe` has written: architecture, labels, input size, extra.

    Raises:
        CheckpointError: It is malformed.
    """
    try:
        content = {name: json.loads(text) for name, text in metadata.items()}
        height, width = content["input"]
        extra = content.get("extra", {})
        if not (type(height) is type(width) is int and isinstance(extra, dict)):
            raise ValueError("input has to be two whole numbers, extra a mapping")
        labels = LabelSet.from_list(content["labels"], source=str(path))
        return Architecture.from_dict(content["architecture"]), labels, (height, width), extra
    except (
        ArchitectureError,
        LabelError,
        KeyError,
        ValueError,
        TypeError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            f"{path}: its metadata are malformed ({type(error).__name__}: {shown(str(error))}); "
            "expected those of `deeplab_rt train`"
        ) from error


def _with_stride(
    mapping: StateDictMapping, output_stride: int | None, atrous_rates: Sequence[int] | None
) -> Architecture:
    """The architecture at an output stride, its rates as the project or the user has them there."""
    architecture = mapping.architecture
    stride = output_stride or architecture.output_stride
    rates: Sequence[float] = architecture.aspp_rates
    if atrous_rates is not None:
        if len(atrous_rates) != len(rates):
            raise CheckpointError(
                f"{len(atrous_rates)} atrous rates; expected {len(rates)}, as in "
                f"{','.join(map(str, architecture.rates()))}"
            )
        rates = [rate * stride / 16 for rate in atrous_rates]
    elif mapping.rates_at_stride:
        rates = [rate * stride / 16 for rate in architecture.rates()]
    whole = tuple(int(rate) if rate == int(rate) else rate for rate in rates)
    return replace(architecture, output_stride=stride, aspp_rates=whole)


def convert(state: State, mapping: StateDictMapping, where: str = "state dict") -> DeepLab:
    """Build the mapped network and fill it.

    Raises:
        CheckpointError: Keys are missing, left over, or of other shapes.
    """
    ours: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        prefix, _, leaf = key.rpartition(".")
        if prefix in mapping.modules:
            ours[f"{mapping.modules[prefix]}.{leaf}"] = value
        elif not key.startswith(mapping.ignore or ("\0",)):
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f"{where}: looks like {mapping.source}, but {len(unknown)} key(s) have no place in its "
            f"{mapping.architecture.encoder} network: {', '.join(unknown[:4])}"
        )
    for module, channels in mapping.first_last.items():
        weight = ours[f"{module}.weight"]
        ours[f"{module}.weight"] = torch.cat([weight[:, channels:], weight[:, :channels]], dim=1)
    bias = next((k for k in ("classifier.bias", "classifier.1.bias") if k in ours), None)
    if bias is None:
        raise CheckpointError(
            f"{where}: looks like {mapping.source}, but its classifier is missing"
        )
    if ours[bias].numel() == 1:
        # A sigmoid's threshold at 0.5 is the winner of two classes whose first has the logit 0.
        for key in (bias, bias.replace("bias", "weight")):
            ours[key] = torch.cat([torch.zeros_like(ours[key]), ours[key]])
        mapping.notes += (
            "one output channel, taken for a sigmoid: exported as two classes, background first",
        )
    model = DeepLab(mapping.architecture, ours[bias].numel())
    _fill(model, ours, where)
    return model


def _fill(model: DeepLab, state: State, where: str) -> None:
    own = model.state_dict()
    wrong = [
        f"{key} is {list(value.shape)}, expected {list(own[key].shape)}"
        for key, value in state.items()
        if key in own and own[key].shape != value.shape
    ]
    wrong += [f"{key} is left over" for key in state if key not in own]
    # Old files lack BatchNorm's counters, which nothing here reads.
    wrong += [
        f"{key} is missing"
        for key in own
        if key not in state and not key.endswith("num_batches_tracked")
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise CheckpointError(
            f"{where} does not fit DeepLab on {model.architecture.encoder} with {model.classes} "
            f"classes: {'; '.join(wrong[:4])}{more}"
        )
    model.load_state_dict(dict(state), strict=False)
    model.eval()


def load_matching(model: DeepLab, path: Path, labels: LabelSet | None = None) -> str:
    """Fill what fits of a network from one of this project's checkpoints, to train on from it.

    Args:
        model: Is filled.
        path: The checkpoint.
        labels: The network's classes. A class that the checkpoint knows by name keeps its row of
            the last convolution; a new one starts from the mean of all rows, which loses to the
            right class nearly everywhere and is no worse placed than any other.

    Returns:
        What was taken, in words.

    Raises:
        CheckpointError: See :func:`read_state`; or nothing fits.
    """
    state, metadata = read_state(path)
    own = model.state_dict()
    notes = ""
    if labels is not None and "labels" in metadata:
        known = LabelSet.from_list(json.loads(metadata["labels"]), source=str(path)).names
        if known != labels.names:
            new = [name for name in labels.names if name not in known]
            for key in [key for key in state if key.startswith("classifier.")]:
                if state[key].shape[:1] != (len(known),):
                    continue
                rows = [
                    state[key][known.index(name)] if name in known else state[key].mean(0)
                    for name in labels.names
                ]
                state[key] = torch.stack(rows)
            notes = f"; {len(labels) - len(new)} of {len(labels)} classes by name"
            notes += f", new: {', '.join(new)}" if new else ""
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise CheckpointError(f"{path}: no tensor of it fits the recipe's architecture")
    model.load_state_dict(fitting, strict=False)
    return f"{path}: {len(fitting)} of {len(own)} tensors taken{notes}"


def _resnet(state: State, prefix: str, source: str) -> tuple[str, dict[str, str]]:
    """Encoder name and module names of a ResNet whose keys start with ``prefix``."""
    counts = []
    for stage in range(1, 5):
        pattern = re.compile(rf"{re.escape(prefix)}layer{stage}\.(\d+)\.")
        found = {int(m.group(1)) for key in state if (m := pattern.match(key))}
        counts.append(max(found, default=-1) + 1)
    bottleneck = f"{prefix}layer1.0.conv3.weight" in state
    names: dict[tuple[bool, tuple[int, ...]], str] = {
        (False, (2, 2, 2, 2)): "resnet18",
        (False, (3, 4, 6, 3)): "resnet34",
        (True, (3, 4, 6, 3)): "resnet50",
        (True, (3, 4, 23, 3)): "resnet101",
    }
    name = names.get((bottleneck, tuple(counts)))
    if name is None:
        raise CheckpointError(
            f"a checkpoint of {source} with a ResNet of {counts} "
            f"{'bottlenecks' if bottleneck else 'basic blocks'}; expected ResNet-18, 34, 50 or 101"
        )
    modules = {}
    if f"{prefix}stem.0.weight" in state:
        name += "_v1c"
        for index in range(3):
            modules[f"{prefix}stem.{3 * index}"] = f"stem.{index}.conv"
            modules[f"{prefix}stem.{3 * index + 1}"] = f"stem.{index}.norm"
    else:
        modules |= {f"{prefix}conv1": "stem.conv", f"{prefix}bn1": "stem.norm"}
    for stage, count in enumerate(counts):
        for block in range(count):
            theirs, ours = f"{prefix}layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for conv in (1, 2, 3) if bottleneck else (1, 2):
                modules[f"{theirs}.conv{conv}"] = f"{ours}.conv{conv}.conv"
                modules[f"{theirs}.bn{conv}"] = f"{ours}.conv{conv}.norm"
            modules[f"{theirs}.downsample.0"] = f"{ours}.shortcut.conv"
            modules[f"{theirs}.downsample.1"] = f"{ours}.shortcut.norm"
    return name, _in_encoder(modules)


def _mobilenet_v2(feature: Callable[[int], str]) -> dict[str, str]:
    """Module names of torchvision's MobileNetV2; ``feature`` names the n-th feature."""
    modules = {f"{feature(0)}.0": "stem.conv", f"{feature(0)}.1": "stem.norm"}
    for block in range(17):
        theirs, ours = f"{feature(block + 1)}.conv", f"blocks.{block}"
        parts = ["depthwise"] if block == 0 else ["expand", "depthwise"]
        for index, part in enumerate(parts):
            modules[f"{theirs}.{index}.0"] = f"{ours}.{part}.conv"
            modules[f"{theirs}.{index}.1"] = f"{ours}.{part}.norm"
        modules[f"{theirs}.{len(parts)}"] = f"{ours}.project.conv"
        modules[f"{theirs}.{len(parts) + 1}"] = f"{ours}.project.norm"
    modules |= {f"{feature(18)}.0": "head.conv", f"{feature(18)}.1": "head.norm"}
    return _in_encoder(modules)


def _timm_lite(state: State, prefix: str) -> tuple[str, dict[str, str]]:
    """Encoder name and module names of timm's EfficientNet-Lite."""
    pattern = re.compile(rf"{re.escape(prefix)}blocks\.(\d+)\.(\d+)\.")
    found = {(int(m.group(1)), int(m.group(2))) for key in state if (m := pattern.match(key))}

    def fits(stages: list[Stage]) -> bool:
        expected = [(s, b) for s, stage in enumerate(stages) for b in range(stage.repeats)]
        return blocks == expected and last == stages[-1].channels

    last = len(state.get(f"{prefix}blocks.6.0.conv_pwl.weight", ()))
    blocks = sorted(found)
    encoder = next((n for n, scale in LITE_SCALES.items() if fits(lite_stages(*scale))), None)
    if encoder is None:
        raise CheckpointError(
            f"a checkpoint of segmentation_models.pytorch with {len(found)} EfficientNet blocks; "
            "expected timm-tf_efficientnet_lite0 to 4 (no squeeze-excitation)"
        )
    modules = {f"{prefix}conv_stem": "stem.conv", f"{prefix}bn1": "stem.norm"}
    for position, (stage, block) in enumerate(blocks):
        theirs, ours = f"{prefix}blocks.{stage}.{block}", f"blocks.{position}"
        parts = {"conv_dw": "depthwise", "conv_pw": "project"}
        if stage > 0:
            parts = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
        for number, (their_part, part) in enumerate(parts.items(), start=1):
            modules[f"{theirs}.{their_part}"] = f"{ours}.{part}.conv"
            modules[f"{theirs}.bn{number}"] = f"{ours}.{part}.norm"
    return encoder, _in_encoder(modules)


def _in_encoder(modules: dict[str, str]) -> dict[str, str]:
    return {theirs: f"encoder.{ours}" for theirs, ours in modules.items()}


def _conv_norm(theirs: str, ours: str, first: int = 0) -> dict[str, str]:
    """A Sequential of convolution and BatchNorm, at ``first`` and after."""
    return {f"{theirs}.{first}": f"{ours}.conv", f"{theirs}.{first + 1}": f"{ours}.norm"}


def _aspp(state: State, prefix: str) -> tuple[bool, dict[str, str]]:
    """Whether torchvision's ASPP (as others extended it) is separable, and its module names."""
    modules = _conv_norm(f"{prefix}convs.0", "aspp.branches.0")
    modules |= _conv_norm(f"{prefix}convs.4", "aspp.pool", first=1)
    modules |= _conv_norm(f"{prefix}project", "aspp.project")
    separable = f"{prefix}convs.1.0.weight" not in state
    for branch in (1, 2, 3):
        theirs, ours = f"{prefix}convs.{branch}", f"aspp.branches.{branch}"
        modules |= (
            _separable(f"{theirs}.0", f"{theirs}.1", ours)
            if separable
            else _conv_norm(theirs, ours)
        )
    return separable, modules


def _separable(convs: str, norm: str, ours: str) -> dict[str, str]:
    return {
        f"{convs}.0": f"{ours}.depthwise.conv",
        f"{convs}.1": f"{ours}.pointwise.conv",
        norm: f"{ours}.pointwise.norm",
    }


def vainf(state: State) -> StateDictMapping | None:
    """VainF/DeepLabV3Plus-Pytorch: ``deeplabv3plus_{mobilenet,resnet50,resnet101}``.

    Its MobileNetV2 pads before the expansion, and its decoder joins the low-level before the deep
    features.
    """
    if "classifier.aspp.convs.0.0.weight" not in state:
        return None
    source = "VainF/DeepLabV3Plus-Pytorch"
    if "backbone.low_level_features.0.0.weight" in state:
        encoder = "mobilenet_v2"
        modules = _mobilenet_v2(
            lambda n: f"backbone.{'low' if n < 4 else 'high'}_level_features.{n}"
        )
    else:
        encoder, modules = _resnet(state, "backbone.", source)
    separable, aspp = _aspp(state, "classifier.aspp.")
    if separable:
        raise CheckpointError(
            f"a checkpoint of {source} with --separable_conv; expected its plain convolutions"
        )
    modules |= aspp | _conv_norm("classifier.project", "decoder.reduce")
    modules |= _conv_norm("classifier.classifier", "decoder.refine.0")
    modules["classifier.classifier.3"] = "classifier"
    architecture = Architecture(
        encoder=encoder,
        aspp_channels=256,
        aspp_separable=False,
        low_channels=48,
        decoder_channels=256,
        decoder_convs=1,
        decoder_separable=False,
        pad_first=encoder == "mobilenet_v2",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )
    return StateDictMapping(source, architecture, modules, first_last={"decoder.refine.0.conv": 48})


def smp(state: State) -> StateDictMapping | None:
    """qubvel segmentation_models.pytorch ``DeepLabV3Plus``.

    Its decoder upsamples with ``align_corners=True``, its encoder dilates the first block of a
    stage too, its separable convolutions have no norm between their halves, and its rates are 12,
    24, 36 at output stride 16. EfficientNet-Lite has timm's BatchNorm epsilon of 1e-5 there.
    """
    if "decoder.aspp.0.convs.0.0.weight" not in state:
        return None
    source = "segmentation_models.pytorch"
    eps = None
    ignore = ["classification_head."]
    if "encoder.features.0.0.weight" in state:
        encoder, modules = "mobilenet_v2_1280", _mobilenet_v2(lambda n: f"encoder.features.{n}")
    elif "encoder.conv_stem.weight" in state:
        encoder, modules = _timm_lite(state, "encoder.")
        eps = 1e-5
        ignore += ["encoder.conv_head.", "encoder.bn2."]
    elif "encoder.layer1.0.conv1.weight" in state:
        encoder, modules = _resnet(state, "encoder.", source)
    else:
        raise CheckpointError(
            f"a checkpoint of {source} with an unknown encoder; expected mobilenet_v2, resnet18, "
            "resnet34, resnet50, resnet101 or timm-tf_efficientnet_lite0 to 4"
        )
    separable, aspp = _aspp(state, "decoder.aspp.0.")
    modules |= aspp
    modules |= _separable("decoder.aspp.1", "decoder.aspp.2", "aspp.refine")
    modules |= _conv_norm("decoder.block1", "decoder.reduce")
    modules |= _separable("decoder.block2.0", "decoder.block2.1", "decoder.refine.0")
    modules["segmentation_head.0"] = "classifier"
    channels = len(state["decoder.aspp.0.project.0.weight"])
    architecture = Architecture(
        encoder=encoder,
        aspp_channels=channels,
        aspp_rates=(12, 24, 36),
        aspp_separable=separable,
        low_channels=48,
        decoder_channels=channels,
        decoder_convs=1,
        norm_between=False,
        aspp_refine=True,
        align_corners=True,
        dilate_first=True,
        encoder_eps=eps,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )
    notes = (
        f"{source} upsamples its logits with align_corners=True; here they are upsampled without: "
        "labels differ along boundaries by a fraction of a pixel",
    )
    return StateDictMapping(
        source, architecture, modules, tuple(ignore), rates_at_stride=True, notes=notes
    )


def mmsegmentation(state: State) -> StateDictMapping | None:
    """MMSegmentation ``deeplabv3plus_r50``/``r101`` (ResNet-V1c, output stride 8).

    Its ASPP joins image pooling first and fuses with a 3x3 convolution.
    """
    if "decode_head.c1_bottleneck.conv.weight" not in state:
        return None
    source = "MMSegmentation"
    encoder, modules = _resnet(state, "backbone.", source)

    def conv(theirs: str, ours: str) -> dict[str, str]:
        return {f"{theirs}.conv": f"{ours}.conv", f"{theirs}.bn": f"{ours}.norm"}

    def separable(theirs: str, ours: str) -> dict[str, str]:
        return conv(f"{theirs}.depthwise_conv", f"{ours}.depthwise") | conv(
            f"{theirs}.pointwise_conv", f"{ours}.pointwise"
        )

    head = "decode_head"
    modules |= conv(f"{head}.image_pool.1", "aspp.pool")
    modules |= conv(f"{head}.aspp_modules.0", "aspp.branches.0")
    for branch in (1, 2, 3):
        modules |= separable(f"{head}.aspp_modules.{branch}", f"aspp.branches.{branch}")
    modules |= conv(f"{head}.bottleneck", "aspp.project")
    modules |= conv(f"{head}.c1_bottleneck", "decoder.reduce")
    for index in (0, 1):
        modules |= separable(f"{head}.sep_bottleneck.{index}", f"decoder.refine.{index}")
    modules[f"{head}.conv_seg"] = "classifier"
    channels = len(state[f"{head}.bottleneck.conv.weight"])
    architecture = Architecture(
        encoder=encoder,
        output_stride=8,
        aspp_channels=channels,
        low_channels=len(state[f"{head}.c1_bottleneck.conv.weight"]),
        decoder_channels=channels,
        project_kernel=3,
    )
    return StateDictMapping(
        source,
        architecture,
        modules,
        ignore=("auxiliary_head.",),
        first_last={"aspp.project.conv": channels},
    )


def torchvision(state: State) -> StateDictMapping | None:
    """torchvision ``deeplabv3_resnet50``/``resnet101``: DeepLab V3, without the decoder."""
    if "classifier.0.convs.0.0.weight" not in state:
        return None
    source = "torchvision"
    if "backbone.conv1.weight" not in state:
        raise CheckpointError(
            f"a checkpoint of {source}'s DeepLab V3 that is not on a ResNet; expected "
            "deeplabv3_resnet50 or deeplabv3_resnet101"
        )
    encoder, modules = _resnet(state, "backbone.", source)
    separable, aspp = _aspp(state, "classifier.0.")
    modules |= aspp | _conv_norm("classifier", "classifier.0", first=1)
    modules["classifier.4"] = "classifier.1"
    architecture = Architecture(
        encoder=encoder,
        output_stride=8,
        aspp_channels=256,
        aspp_separable=separable,
        low_channels=0,
        decoder_channels=256,
    )
    notes = (
        "this is DeepLab V3, without the decoder of V3+: its logits are of stride 8 and upsampled to "
        "stride 4, so boundaries are coarser",
    )
    return StateDictMapping(source, architecture, modules, ("aux_classifier.",), notes=notes)


FORMATS: list[Callable[[State], StateDictMapping | None]] = [
    vainf,
    smp,
    mmsegmentation,
    torchvision,
]
"""Tried in order; the first that recognises the keys decides."""
