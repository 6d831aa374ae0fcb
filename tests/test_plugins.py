"""Backbones, heads and flow methods of other packages, installed as pip installs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.config import ModelSettings, PluginBackboneSettings, PluginFlowSettings, PluginHeadSettings, TrainSettings
from tadkit.config.loading import check_settings
from tadkit.errors import SettingsError
from tadkit.flow import build_flow
from tadkit.keys import TrainingTruth, flow_key, student_key, teacher_key
from tadkit.models.backbones import Backbone, build_backbone
from tadkit.models.detector import build_student, new_student
from tadkit.models.heads import build_head
from tadkit.records import read_detections
from tadkit.runtime.plugins import plugins

EXAMPLE = Path(__file__).parents[1] / "examples" / "backbone-plugin"
NET = PluginBackboneSettings(name="entry-point", entry_point="example-net")
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed by pip into a folder of its own."""
    folder = tmp_path_factory.mktemp("example")
    source, target = folder / "source", folder / "target"
    shutil.copytree(EXAMPLE, source)
    words = ["install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    return target


@pytest.fixture
def example(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example package is installed."""
    monkeypatch.syspath_prepend(built)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package of one module with entry points: its files as an installer leaves them."""

    def call(package: str, code: str, **entries: str) -> None:
        module = package.replace("-", "_")
        info = tmp_path / package / f"{module}-2.1.dist-info"
        info.mkdir(parents=True)
        (info.parent / f"{module}.py").write_text(dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.1\n")
        lines = [f"[tadkit.{group}]\nmine = {module}:{function}\n" for group, function in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(info.parent)

    return call


def backbone_of(name: str = "mine", **chosen: object) -> Backbone:
    settings = PluginBackboneSettings.model_validate({"name": "entry-point", "entry_point": name, **chosen})
    return build_backbone(settings, in_channels=2, pretrained=False)


@pytest.mark.usefixtures("example")
@torch.no_grad()
def test_the_example_is_a_backbone_of_its_own_scale_that_averages_frames() -> None:
    torch.manual_seed(0)
    net = build_backbone(NET, in_channels=3, pretrained=False)
    assert (net.channels, net.stride, net.halo_frames, net.align_frames) == (48, 2, 0, 2)
    frames = torch.randint(0, 256, (1, 5, 32, 32, 3), dtype=torch.uint8)
    mask = torch.arange(5)[None] < 3
    each = net.net(((frames[0, :3].float() - 128) / 64).movedim(-1, 1)).mean(dim=(2, 3))
    expected = torch.stack([each[:2].mean(dim=0), each[2], torch.zeros(48)])
    torch.testing.assert_close(net(frames, mask)[0].T, expected)
    assert build_backbone(NET, in_channels=2, pretrained=False)(torch.randn(1, 4, 2, 32, 32), mask[:, :4]).shape == (
        1,
        48,
        2,
    )


@pytest.mark.usefixtures("example")
def test_doctor_lists_what_is_installed(tadkit) -> None:
    ran = tadkit("doctor")
    (line,) = (line for line in ran.out.splitlines() if "tadkit.backbones" in line)
    assert line.split() == ["tadkit.backbones", "example-net", "ok", "tadkit-example-backbone", "0.1.0"]


def test_doctor_says_why_an_entry_point_does_not_load_and_stays_healthy(install, tadkit) -> None:
    install("bad-package", "raise OSError('no library')", flow="flow")
    ran = tadkit("doctor")
    (line,) = (line for line in ran.out.splitlines() if "tadkit.flow" in line)
    assert "broken" in line
    assert (
        "entry_point 'mine' (group tadkit.flow) of bad-package 2.1 does not load (OSError: no library); report it"
        in line
    )
    assert ran.code == 0


def test_without_packages_there_are_no_plugins_and_a_name_is_refused_in_one_line() -> None:
    assert [plugin.name for plugin in plugins() if plugin.name == "mine"] == []
    with pytest.raises(
        SettingsError, match=r"^entry_point 'mine' \(group tadkit\.backbones\): no installed package has it .*$"
    ) as error:
        backbone_of()
    assert "\n" not in str(error.value)


def test_a_backbone_of_another_package_may_see_several_frames(install) -> None:
    code = """
        from tadkit.models.backbones import Backbone

        class Net(Backbone):
            channels, stride, halo_frames, align_frames = 1, 4, 3, 8

            def forward(self, inputs, mask):
                return self.prepare(inputs).mean(dim=(2, 3, 4))[:, None, :: self.stride]

        def net(in_channels):
            return Net()
    """
    install("net-package", code, backbones="net")
    net = backbone_of(stride=4)
    assert (net.halo_frames, net.align_frames) == (3, 8)
    with pytest.raises(SettingsError, match=r"of net-package 2\.1 has stride 4; set stride = 4 beside entry_point$"):
        backbone_of()


def test_training_windows_hold_whole_clips_of_a_backbone_of_another_package(install, toy: Path, run_toy) -> None:
    code = """
        import torch
        from tadkit.models.backbones import Backbone

        class Net(Backbone):
            channels, stride, halo_frames, align_frames = 1, 4, 12, 16

            def __init__(self):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.ones(()))

            def forward(self, inputs, mask):
                x = self.prepare(inputs).mean(dim=(2, 3, 4)) * mask
                return self.scale * torch.nn.functional.avg_pool1d(x[:, None], 4, ceil_mode=True)

        def net(in_channels):
            return Net()
    """
    install("clip-package", code, backbones="net")
    toy.write_text(toy.read_text().replace('name = "tiny"\npretrained = false', 'name = "entry-point"\nstride = 4'))
    entries = [f"{part}.entry_point=mine" for part in ("backbone", "teacher_backbone")]
    short = [f"train.{stage}.{name}" for stage in ("teacher", "student") for name in ("epochs=1", "window_s=4.0")]
    changes = (*entries, *short, "head.levels=1", "distill.method=rgb", 'compare=["teacher", "rgb"]')
    for stage in ("extract-flow", "train-teacher", "distill"):
        run_toy(toy, *changes, only=stage)
    folder = toy.parent / "runs" / "toy"
    for kind, name in (("teacher", "teacher"), ("student", "student-rgb")):  # 4 s are 20 frames: two clips of 16
        assert load_checkpoint(folder / f"{name}.safetensors", kind=kind).trained_steps == 32 // 4


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def net(in_channels): return 3", "returned int; expected a Backbone, or a module with channels"),
        ("import torch\ndef net(in_channels): return torch.nn.ReLU()", "without the attribute channels"),
        (
            "from tadkit.models.backbones import Backbone\n"
            "class Net(Backbone):\n    stride = 2\n    def forward(self, inputs, mask): ...\n"
            "def net(in_channels): return Net()",
            "returned a Backbone without channels, halo_frames, align_frames",
        ),
        (
            "def net(in_channels): return 1 / 0",
            "failed (ZeroDivisionError: division by zero) when called with in_channels; report it to the authors of "
            "wrong-package",
        ),
        ("def net(): return 1", "failed (TypeError: net() got an unexpected keyword argument 'in_channels')"),
        (
            "import gone_module",
            "No module named 'gone_module'); install that module, or report it to the authors of wrong-package",
        ),
        ("net = 3", "is no function; wrong_package:net must be callable"),
        ("", "does not load (AttributeError"),
    ],
)
def test_a_package_that_does_not_keep_to_the_documentation_is_named_in_one_line(install, code: str, said: str) -> None:
    sys.modules.pop("wrong_package", None)
    install("wrong-package", code, backbones="net")
    with pytest.raises(SettingsError) as error:
        backbone_of()
    message = str(error.value)
    assert message.startswith("entry_point 'mine' (group tadkit.backbones) of wrong-package 2.1 ")
    assert said in message
    assert "\n" not in message


def test_a_net_that_gives_other_channels_than_it_says_is_named(install) -> None:
    code = """
        from torch import nn

        def net(in_channels):
            made = nn.Conv2d(in_channels, 5, 1)
            made.channels = 4
            return made
    """
    install("odd-package", code, backbones="net")
    with pytest.raises(SettingsError, match=r"gives \(3, 5, 8, 8\) for 3 frames and 4 channels$"):
        backbone_of()(torch.zeros(1, 3, 2, 8, 8), torch.ones(1, 3, dtype=torch.bool))


def test_two_packages_with_one_name_are_refused(install) -> None:
    install("one-package", "def net(in_channels): ...", backbones="net")
    install("other-package", "def net(in_channels): ...", backbones="net")
    with pytest.raises(SettingsError, match=r"\): one-package 2\.1 and other-package 2\.1 both have it; uninstall"):
        backbone_of()


def test_a_flow_method_of_another_package(install) -> None:
    code = """
        import torch

        class Still:
            channels = 2

            def __init__(self, device):
                self.device = device

            def __call__(self, frames):
                return torch.zeros(len(frames) - 1, 2, *frames.shape[1:3], device=self.device)
    """
    install("still-package", code, flow="Still")
    settings = PluginFlowSettings(method="entry-point", entry_point="mine")
    assert build_flow(settings, device=CPU)(torch.zeros(3, 4, 5, 3, dtype=torch.uint8)).shape == (2, 2, 4, 5)


def test_what_is_no_flow_method_is_named(install) -> None:
    install("colour-package", "class Colour:\n    channels = 3\n    def __init__(self, device): ...", flow="Colour")
    with pytest.raises(
        SettingsError, match=r"^entry_point 'mine' \(group tadkit\.flow\) of colour-package 2\.1 is no flow method"
    ):
        build_flow(PluginFlowSettings(method="entry-point", entry_point="mine"), device=CPU)


HEAD = """
    from tadkit.config import TagsSettings
    from tadkit.models.heads.tags import TagsHead

    class Head(TagsHead):
        def __init__(self, *, in_channels, num_classes, window_steps, prior_probability):
            settings = TagsSettings(window_steps=window_steps, prior_probability=prior_probability, dim=8)
            super().__init__(settings, in_channels=in_channels, num_classes=num_classes)
"""


def test_a_head_of_another_package(install) -> None:
    install("head-package", HEAD, heads="Head")
    settings = PluginHeadSettings(entry_point="mine", window_steps=16)
    head = build_head(settings, in_channels=6, num_classes=3, trained_steps=16)
    assert (head.in_channels, head.num_classes, head.window_steps, head.trained_steps) == (6, 3, 16, 16)
    predictions = head.eval()(torch.randn(1, 6, 16), torch.ones(1, 16, dtype=torch.bool))
    assert len(head.candidates(predictions, min_score=0.0, limit=5).scores) == 5


def test_what_is_no_head_is_named(install) -> None:
    code = "def head(*, in_channels, num_classes, window_steps, prior_probability): return None"
    install("none-package", code, heads="head")
    with pytest.raises(
        SettingsError, match=r"^entry_point 'mine' \(group tadkit\.heads\) of none-package 2\.1 returned NoneType"
    ):
        build_head(PluginHeadSettings(entry_point="mine"), in_channels=6, num_classes=3)


def test_another_version_of_the_package_makes_what_it_trained_stale(install, tmp_path: Path) -> None:
    install("dated-package", "", backbones="net", flow="net", heads="net")
    entry = {"entry_point": "mine"}
    values = {"backbone": {"name": "entry-point", **entry}, "flow": {"method": "entry-point", **entry}}
    model = check_settings(ModelSettings, values | {"head": {"kind": "entry-point", **entry}}, name="recipe")

    def keys() -> list[str]:
        rest = {"model": model, "train": TrainSettings(), "truth": TrainingTruth(["t"], ("a",))}
        return [teacher_key(["f"], **rest), student_key(["s"], ["t"], **rest), flow_key("s", model.flow, model.video)]

    before = keys()
    assert before == keys()
    metadata = tmp_path / "dated-package" / "dated_package-2.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("2.1\n", "2.2\n"))
    assert not {*before} & {*keys()}


@pytest.mark.usefixtures("example")
def test_a_model_of_another_packages_net_is_rebuilt_only_where_it_is_installed(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ModelSettings(backbone=NET)
    path, dumped = tmp_path / "student.safetensors", settings.model_dump(mode="json")
    student = new_student(settings, num_classes=2)
    save_checkpoint(path, Checkpoint("student", dumped, ("a", "b"), student.state_dict()))
    checkpoint = load_checkpoint(path, kind="student")
    assert build_student(checkpoint)[0] == settings
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(built)])
    with pytest.raises(
        SettingsError, match=r"^entry_point 'example-net' \(group tadkit\.backbones\): no installed package has it"
    ):
        build_student(checkpoint)


@pytest.mark.slow
@pytest.mark.usefixtures("example")
def test_the_example_is_trained_distilled_and_detects(toy: Path, run_toy, tadkit, tmp_path: Path) -> None:
    chosen = [
        f"{net}.{key}"
        for net in ("backbone", "teacher_backbone")
        for key in ('name="entry-point"', 'entry_point="example-net"')
    ]
    states = run_toy(toy, *chosen)
    assert set(states.values()) == {"done"}
    assert set(run_toy(toy, *chosen).values()) == {"up to date"}
    detector = toy.parent / "runs" / "toy" / "detector-decomposed.safetensors"
    settings = load_checkpoint(detector, kind="detector").settings
    assert settings["backbone"]["entry_point"] == "example-net"
    video = next((toy.parent / "data" / "videos").glob("*.mp4"))
    out = tmp_path / "found.json"
    ran = tadkit("detect", video, "--model", detector, "--out", out)
    assert (ran.code, list(read_detections(out))) == (0, [video.stem])


@pytest.mark.slow
def test_a_head_and_a_flow_method_of_another_package_go_through_all_stages(toy: Path, install, run_toy) -> None:
    flow = """
    import torch

    class Difference:
        channels = 2

        def __init__(self, device):
            self.device = device

        def __call__(self, frames):
            grey = torch.as_tensor(frames).float().mean(dim=3).to(self.device) / 16
            return torch.stack([grey[1:] - grey[:-1]] * 2, dim=1)
    """
    install("whole-package", HEAD + flow, heads="Head", flow="Difference")
    text = toy.read_text()
    before, after = text.index("[flow]"), text.index("[teacher_backbone]")
    text = text[:before] + '[flow]\nmethod = "entry-point"\nentry_point = "mine"\n' + text[after:]
    before, after = text.index("[head]"), text.index("[distill]")
    text = text[:before] + '[head]\nkind = "entry-point"\nentry_point = "mine"\nwindow_steps = 16\n' + text[after:]
    toy.write_text(text)
    assert set(run_toy(toy).values()) == {"done"}
    assert set(run_toy(toy).values()) == {"up to date"}
