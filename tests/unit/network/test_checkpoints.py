"""Other projects' checkpoints give other projects' logits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deeplab_rt.errors import CheckpointError
from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.network.checkpoints import (
    FORMATS,
    describe,
    load_checkpoint,
    load_matching,
    read_state,
    save_checkpoint,
)
from deeplab_rt.network.model import Architecture, DeepLab
from tests.unit.network.reference_weights import reference_image, reference_state
from tests.unit.network.tiny import TINY

DATA = Path(__file__).parent / "data"


def reference(name: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    stored = np.load(DATA / f"{name}.npz")
    shapes = {}
    for line in stored["shapes"].tolist():
        key, *shape = line.split(" ")
        shapes[key] = [int(side) for side in shape if side]
    return reference_state(shapes), torch.from_numpy(stored["logits"])


def write(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state}, path)
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.npz")))
def test_logits_equal_those_of_the_project_itself(name: str, tmp_path: Path) -> None:
    state, expected = reference(name)
    stride = 8 if name.endswith("_os8") else None  # which the weights do not tell
    checkpoint = load_checkpoint(write(tmp_path, state), stride)
    # The references were normalised in the way of torchvision, whatever the encoder.
    with torch.no_grad():
        actual = checkpoint.model(torch.from_numpy(reference_image())[None])
    if expected.shape[-1] < actual.shape[-1]:  # DeepLab V3: logits of stride 8
        expected = nn.functional.interpolate(expected, scale_factor=2.0, mode="bilinear")
    assert actual.shape == expected.shape == (1, 5, 16, 24)
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual - expected).abs().max()) / scale < 1e-4


def test_each_format_recognises_only_its_own() -> None:
    own = {
        name: [f for f in FORMATS if f(reference(name)[0]) is not None]
        for name in ("vainf_mobilenet", "smp_mobilenet_v2", "torchvision_resnet50")
    }
    assert all(len(formats) == 1 for formats in own.values())
    assert len({formats[0] for formats in own.values()}) == 3


def test_the_output_stride_scales_the_rates(tmp_path: Path) -> None:
    state, _ = reference("vainf_mobilenet")
    model = load_checkpoint(write(tmp_path, state), output_stride=8).model
    assert model.architecture.rates() == [12, 24, 36]
    # smp keeps its own at every stride.
    state, _ = reference("smp_resnet18")
    for stride in (8, 16):
        model = load_checkpoint(write(tmp_path, state), stride).model
        assert model.architecture.rates() == [12, 24, 36]


def test_rates_can_be_given(tmp_path: Path) -> None:
    state, _ = reference("smp_resnet18")
    path = write(tmp_path, state)
    for stride in (8, 16):
        model = load_checkpoint(path, stride, (6, 12, 18)).model
        assert model.architecture.rates() == [6, 12, 18]
        assert Architecture.from_dict(model.architecture.to_dict()) == model.architecture
    with pytest.raises(CheckpointError, match="2 atrous rates; expected 3, as in 12,24,36"):
        load_checkpoint(path, None, (6, 12))


def test_one_channel_becomes_two_classes(tmp_path: Path) -> None:
    state, _ = reference("smp_resnet18")
    for key in ("segmentation_head.0.weight", "segmentation_head.0.bias"):
        state[key] = state[key][:1]
    checkpoint = load_checkpoint(write(tmp_path, state))
    assert checkpoint.model.classes == 2
    assert any("sigmoid" in note for note in checkpoint.notes)
    with torch.no_grad():
        logits = checkpoint.model(torch.from_numpy(reference_image())[None])
    assert not logits[:, 0].any()
    threshold = logits[:, 1].sigmoid() > 0.5
    assert torch.equal(logits.argmax(1).bool(), threshold)
    assert 0 < int(threshold.sum()) < threshold.numel()


def test_files_of_vainfs_main_are_read(tmp_path: Path) -> None:
    """Its save_ckpt: numbers of NumPy beside the weights."""
    state, _ = reference("vainf_mobilenet")
    path = tmp_path / "best.pth"
    content = {
        "cur_itrs": 30000,
        "model_state": state,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "scheduler_state": {"last_epoch": 3},
        "best_score": np.float64(0.71),
    }
    torch.save(content, path)
    assert load_checkpoint(path).source == "VainF/DeepLabV3Plus-Pytorch"


def test_a_new_class_starts_from_the_mean_and_known_ones_keep_their_rows(tmp_path: Path) -> None:
    labels = load_label_set("camvid11")
    model = DeepLab(TINY, len(labels))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, describe(model, labels, (64, 96)))
    mine = LabelSet.from_list(
        [
            {"id": 1, "name": "crate", "color": [1, 2, 3], "groups": []},
            {"id": 2, "name": "road", "color": [4, 5, 6], "groups": ["drivable"]},
        ]
    )
    tuned = DeepLab(TINY, 2)
    assert "1 of 2 classes by name, new: crate" in load_matching(tuned, path, mine)
    theirs, ours = model.classifier.weight, tuned.classifier.weight
    assert isinstance(theirs, torch.Tensor) and isinstance(ours, torch.Tensor)
    assert torch.equal(ours[1], theirs[labels.index("road")])
    assert torch.allclose(ours[0], theirs.mean(0))


def test_own_checkpoint_round_trip(tmp_path: Path) -> None:
    labels = load_label_set("camvid11")
    model = DeepLab(TINY, len(labels)).eval()
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, describe(model, labels, (64, 96), {"licence": "mine"}))
    checkpoint = load_checkpoint(path)
    assert checkpoint.model.architecture == TINY
    assert checkpoint.labels == labels
    assert checkpoint.size == (64, 96)
    assert checkpoint.extra == {"licence": "mine"}
    image = torch.from_numpy(reference_image())[None]
    with torch.no_grad():
        assert torch.equal(checkpoint.model(image), model(image))


def test_warm_start_takes_what_fits(tmp_path: Path) -> None:
    labels = load_label_set("camvid11")
    model = DeepLab(TINY, len(labels))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, describe(model, labels, (64, 96)))
    narrower = DeepLab(replace(TINY, aspp_channels=8, decoder_channels=8), len(labels))
    said = load_matching(narrower, path)
    assert torch.equal(narrower.encoder.stem.conv.weight, model.encoder.stem.conv.weight)
    total = len(narrower.state_dict())
    taken = int(said.split(": ")[1].split()[0])
    assert len(model.encoder.state_dict()) <= taken < total


def test_wrappers_are_looked_through(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model_state": {"module.a.weight": torch.ones(2)}, "epoch": 3}, path)
    state, metadata = read_state(path)
    assert list(state) == ["a.weight"]
    assert metadata == {}


def test_missing_left_over_and_misshapen_keys_are_named(tmp_path: Path) -> None:
    state, _ = reference("vainf_mobilenet")
    state["classifier.project.0.weight"] = torch.zeros(40, 24, 1, 1)
    with pytest.raises(
        CheckpointError, match=r"decoder.reduce.conv.weight is \[40, 24, 1, 1\], expected"
    ):
        load_checkpoint(write(tmp_path, state))
    state, _ = reference("vainf_mobilenet")
    state["classifier.novelty.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="no place.*classifier.novelty.weight"):
        load_checkpoint(write(tmp_path, state))
    state, _ = reference("vainf_mobilenet")
    del state["classifier.project.1.bias"]
    with pytest.raises(CheckpointError, match="decoder.reduce.norm.bias is missing"):
        load_checkpoint(write(tmp_path, state))


def test_another_class_count_is_named(tmp_path: Path) -> None:
    labels = load_label_set("camvid11")
    model = DeepLab(TINY, 7)
    metadata = describe(model, labels, (64, 96))
    path = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata)
    with pytest.raises(
        CheckpointError, match=r"classifier.weight is \[7, 16, 1, 1\], expected \[11"
    ):
        load_checkpoint(path)


def test_unknown_keys_list_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no known format.*VainF.*MMSegmentation"):
        load_checkpoint(write(tmp_path, {"conv.weight": torch.zeros(3)}))


class Trap:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    victim, path = tmp_path / "executed", tmp_path / "weights.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "trap": Trap(victim)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state(path)
    path.write_bytes(json.dumps({"not": "weights"}).encode())
    with pytest.raises(CheckpointError, match=r"weights\.\w+"):
        read_state(path)


def test_unknown_resnets_are_refused(tmp_path: Path) -> None:
    state, _ = reference("torchvision_resnet50")
    state = {key: value for key, value in state.items() if "layer3.5" not in key}
    with pytest.raises(CheckpointError, match="expected ResNet-18, 34, 50 or 101"):
        load_checkpoint(write(tmp_path, state))
