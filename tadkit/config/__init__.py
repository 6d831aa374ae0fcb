"""All settings of tadkit, validated and frozen; ``docs/settings.md`` is generated from them.

Defaults are defined only here; the command line's help and that page read them from here.
"""

from tadkit.config.backbones import (
    BackboneKindSettings,
    BackboneSettings,
    I3DSettings,
    PluginBackboneSettings,
    SlowFastSettings,
    TemporalShiftSettings,
    TorchvisionClipSettings,
    TorchvisionConvolutionalSettings,
    TsmResnetSettings,
    VideoMaeSettings,
)
from tadkit.config.base import Settings
from tadkit.config.decode import DecodeSettings
from tadkit.config.distill import Branch, DistillSettings, FeatureLoss, FusionSettings, Method
from tadkit.config.flow import (
    FlowMethodSettings,
    FlowSettings,
    OpencvDisSettings,
    OpencvTvl1Settings,
    PluginFlowSettings,
    RaftSettings,
    TemporalGradientSettings,
    Tvl1Settings,
)
from tadkit.config.heads import (
    ActionFormerSettings,
    AnchorFreeSettings,
    BmnSettings,
    HeadSettings,
    PluginHeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
    WholeWindowSettings,
)
from tadkit.config.recipe import ROWS, EvaluationSettings, ModelSettings, Protocol, Recipe, Streams
from tadkit.config.sources import ComposeSource, FeaturesSource, FilesSource, Source, SplitSettings, SynthSource
from tadkit.config.training import HeadTrainSettings, StageTraining, TeacherTrainSettings, TrainSettings
from tadkit.config.video import SQUARE_VIEWS, VideoSettings, View

__all__ = [
    "ROWS",
    "SQUARE_VIEWS",
    "ActionFormerSettings",
    "AnchorFreeSettings",
    "BackboneKindSettings",
    "BackboneSettings",
    "BmnSettings",
    "Branch",
    "ComposeSource",
    "DecodeSettings",
    "DistillSettings",
    "EvaluationSettings",
    "FeatureLoss",
    "FeaturesSource",
    "FilesSource",
    "FlowMethodSettings",
    "FlowSettings",
    "FusionSettings",
    "HeadSettings",
    "HeadTrainSettings",
    "I3DSettings",
    "Method",
    "ModelSettings",
    "OpencvDisSettings",
    "OpencvTvl1Settings",
    "PluginBackboneSettings",
    "PluginFlowSettings",
    "PluginHeadSettings",
    "Protocol",
    "RaftSettings",
    "Recipe",
    "Settings",
    "SlowFastSettings",
    "Source",
    "SplitSettings",
    "StageTraining",
    "Streams",
    "SynthSource",
    "TadtrSettings",
    "TagsSettings",
    "TeacherTrainSettings",
    "TemporalGradientSettings",
    "TemporalMaxerSettings",
    "TemporalShiftSettings",
    "TorchvisionClipSettings",
    "TorchvisionConvolutionalSettings",
    "TrainSettings",
    "TriDetSettings",
    "TsmResnetSettings",
    "Tvl1Settings",
    "VideoMaeSettings",
    "VideoSettings",
    "View",
    "WholeWindowSettings",
]
