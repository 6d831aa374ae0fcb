"""Published datasets: counts and splits, and for THUMOS14 and ActivityNet 1.3 also classes and thresholds.

The recipes for these two are ``examples/thumos14.toml`` and ``examples/activitynet.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never

PresetName = Literal["thumos14", "activitynet", "multithumos", "charades", "epic-kitchens"]
_SAME_S = 0.05
"""THUMOS14's seconds are rounded to tenths."""


@dataclass(frozen=True)
class Counts:
    """Counts of one published version of a dataset: videos with actions, and instances that are not ambiguous."""

    form: str
    videos: int
    instances: int


@dataclass(frozen=True)
class Preset:
    """A dataset as published.

    Attributes:
        name: as given to commands.
        counts: by subset (as tadkit names it), the counts of each published version; these subsets must be present.
        classes: labels with the dataset's own class numbers; empty if any label is allowed.
        training: subset to train on.
        held_out: subset to evaluate on.
        tiou: thresholds for reported results; empty without a recipe.
        left_out: labels in the annotations that are not classes.
        uncounted: other subsets, whose annotations are withheld or not counted here; they may be absent.
        past_end_s: by video, start of each published action that lies past its end.
    """

    name: PresetName
    counts: Mapping[str, tuple[Counts, ...]]
    classes: Mapping[str, int] = field(default_factory=dict)
    training: str = "training"
    held_out: str = "testing"
    tiou: tuple[float, ...] = ()
    left_out: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    past_end_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes in order of their numbers."""
        return tuple(self.classes)

    def lies_past_end(self, video: str, start_s: float) -> bool:
        """Whether the published files also have this action past the end of the video."""
        return any(abs(start_s - published_s) < _SAME_S for published_s in self.past_end_s.get(video, ()))


def preset(name: PresetName) -> Preset:
    """The preset called ``name``."""
    match name:
        case "thumos14":
            return THUMOS14
        case "activitynet":
            return ACTIVITYNET
        case "multithumos":
            return MULTITHUMOS
        case "charades":
            return CHARADES
        case "epic-kitchens":
            return EPIC_KITCHENS
        case _:
            assert_never(name)


_THUMOS14_PAST_END_S = {
    "video_validation_0000364": (113.6, 120.5),
    "video_validation_0000856": (84.3, 85.9),
    "video_test_0000270": (
        *(187.3, 206.5, 216.1, 253.4, 277.7, 322.7, 348.8, 360.0, 372.6, 394.3, 403.1),
        *(439.3, 465.4, 476.3, 537.4, 555.3, 591.8, 612.0, 631.7, 665.4, 689.1, 706.3),
    ),
    "video_test_0000814": (233.6, 305.5, 331.7),
    "video_test_0001081": (127.5,),
}

THUMOS14 = Preset(
    name="thumos14",
    classes={
        "BaseballPitch": 7,
        "BasketballDunk": 9,
        "Billiards": 12,
        "CleanAndJerk": 21,
        "CliffDiving": 22,
        "CricketBowling": 23,
        "CricketShot": 24,
        "Diving": 26,
        "FrisbeeCatch": 31,
        "GolfSwing": 33,
        "HammerThrow": 36,
        "HighJump": 40,
        "JavelinThrow": 45,
        "LongJump": 51,
        "PoleVault": 68,
        "Shotput": 79,
        "SoccerPenalty": 85,
        "TennisSwing": 92,
        "ThrowDiscus": 93,
        "VolleyballSpiking": 97,
    },
    counts={
        "training": (Counts("official and AFSD", 200, 3007),),
        "testing": (
            Counts("AFSD", 210, 3311),
            Counts("OpenTAD", 211, 3325),
            Counts("official and ActionFormer", 212, 3358),
        ),
    },
    training="training",
    held_out="testing",
    tiou=(0.3, 0.4, 0.5, 0.6, 0.7),
    left_out=("Ambiguous",),
    past_end_s=_THUMOS14_PAST_END_S,
)
"""THUMOS challenge 2014: its validation videos are ``training`` here, its test videos ``testing``."""

_ACTIVITYNET_LABELS = """
Applying sunscreen; Archery; Arm wrestling; Assembling bicycle; BMX; Baking cookies; Ballet; Bathing dog; Baton
twirling; Beach soccer; Beer pong; Belly dance; Blow-drying hair; Blowing leaves; Braiding hair; Breakdancing;
Brushing hair; Brushing teeth; Building sandcastles; Bullfighting; Bungee jumping; Calf roping; Camel ride; Canoeing;
Capoeira; Carving jack-o-lanterns; Changing car wheel; Cheerleading; Chopping wood; Clean and jerk; Cleaning shoes;
Cleaning sink; Cleaning windows; Clipping cat claws; Cricket; Croquet; Cumbia; Curling; Cutting the grass; Decorating
the Christmas tree; Disc dog; Discus throw; Dodgeball; Doing a powerbomb; Doing crunches; Doing fencing; Doing karate;
Doing kickboxing; Doing motocross; Doing nails; Doing step aerobics; Drinking beer; Drinking coffee; Drum corps;
Elliptical trainer; Fixing bicycle; Fixing the roof; Fun sliding down; Futsal; Gargling mouthwash; Getting a haircut;
Getting a piercing; Getting a tattoo; Grooming dog; Grooming horse; Hammer throw; Hand car wash; Hand washing clothes;
Hanging wallpaper; Having an ice cream; High jump; Hitting a pinata; Hopscotch; Horseback riding; Hula hoop; Hurling;
Ice fishing; Installing carpet; Ironing clothes; Javelin throw; Kayaking; Kite flying; Kneeling; Knitting; Laying
tile; Layup drill in basketball; Long jump; Longboarding; Making a cake; Making a lemonade; Making a sandwich; Making
an omelette; Mixing drinks; Mooping floor; Mowing the lawn; Paintball; Painting; Painting fence; Painting furniture;
Peeling potatoes; Ping-pong; Plastering; Plataform diving; Playing accordion; Playing badminton; Playing bagpipes;
Playing beach volleyball; Playing blackjack; Playing congas; Playing drums; Playing field hockey; Playing flauta;
Playing guitarra; Playing harmonica; Playing ice hockey; Playing kickball; Playing lacrosse; Playing piano; Playing
polo; Playing pool; Playing racquetball; Playing rubik cube; Playing saxophone; Playing squash; Playing ten pins;
Playing violin; Playing water polo; Pole vault; Polishing forniture; Polishing shoes; Powerbocking; Preparing pasta;
Preparing salad; Putting in contact lenses; Putting on makeup; Putting on shoes; Rafting; Raking leaves; Removing
curlers; Removing ice from car; Riding bumper cars; River tubing; Rock climbing; Rock-paper-scissors; Rollerblading;
Roof shingle removal; Rope skipping; Running a marathon; Sailing; Scuba diving; Sharpening knives; Shaving; Shaving
legs; Shot put; Shoveling snow; Shuffleboard; Skateboarding; Skiing; Slacklining; Smoking a cigarette; Smoking hookah;
Snatch; Snow tubing; Snowboarding; Spinning; Spread mulch; Springboard diving; Starting a campfire; Sumo; Surfing;
Swimming; Swinging at the playground; Table soccer; Tai chi; Tango; Tennis serve with ball bouncing; Throwing darts;
Trimming branches or hedges; Triple jump; Tug of war; Tumbling; Using parallel bars; Using the balance beam; Using the
monkey bar; Using the pommel horse; Using the rowing machine; Using uneven bars; Vacuuming floor; Volleyball;
Wakeboarding; Walking the dog; Washing dishes; Washing face; Washing hands; Waterskiing; Waxing skis; Welding;
Windsurfing; Wrapping presents; Zumba
"""

ACTIVITYNET = Preset(
    name="activitynet",
    classes={label: number for number, label in enumerate(" ".join(_ACTIVITYNET_LABELS.split()).split("; "))},
    counts={
        "training": (Counts("official", 10024, 15410), Counts("BMN", 9649, 14859)),
        "validation": (Counts("official", 4926, 7654), Counts("BMN", 4728, 7293)),
    },
    training="training",
    held_out="validation",
    tiou=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    uncounted=("testing",),
)
"""ActivityNet 1.3 (activity-net.org/download.html); class numbers are in alphabetical order.

Labels of the testing videos are withheld."""

MULTITHUMOS = Preset(
    name="multithumos",
    counts={"training": (Counts("official", 200, 18482),), "testing": (Counts("official", 213, 20208),)},
    past_end_s={
        **_THUMOS14_PAST_END_S,
        "video_validation_0000411": (842.5, 870.0),
        "video_validation_0000413": (728.4, 814.8),
        "video_test_0001255": (
            *(1282.8, 1294.8, 1296.0, 1299.6, 1309.2, 1311.6, 1329.6, 1334.4, 1336.8, 1386.0, 1398.0, 1411.2, 1414.8),
            *(1425.6, 1432.8, 1454.4, 1458.0, 1459.2, 1466.4, 1468.8, 1471.2, 1494.0, 1496.4, 1497.6, 1500.0),
        ),
    },
)
"""Yeung et al., IJCV 2018: 65 classes on THUMOS14's videos."""

CHARADES = Preset(
    name="charades",
    counts={
        "training": (Counts("official, without its 7 reversed segments", 7811, 49802),),
        "testing": (Counts("official", 1814, 16691),),
    },
)
"""Sigurdsson et al., ECCV 2016: 157 classes; 7985 and 1863 videos, some without an action."""

EPIC_KITCHENS = Preset(
    name="epic-kitchens",
    counts={"validation": (Counts("official", 138, 9668),)},
    held_out="validation",
    uncounted=("training", "testing"),
)
"""Damen et al., IJCV 2022 (EPIC-KITCHENS-100): verbs or nouns. Only the validation split was counted."""
