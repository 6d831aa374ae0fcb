"""``train-head`` on the feature store of a recipe, which replaces its videos."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped

from tadkit.config import TrainSettings
from tadkit.distill import JointHeadObjective
from tadkit.errors import StoreError
from tadkit.keys import features_head_key
from tadkit.models.fusion import JointHead
from tadkit.models.head_file import save_head
from tadkit.models.heads import head_labels
from tadkit.progress import Progress
from tadkit.recipe.inputs import is_up_to_date
from tadkit.recipe.train import stage_folder, training_videos
from tadkit.recipe.workspace import Workspace
from tadkit.store import TrackReader, read_store
from tadkit.timeline import Timeline
from tadkit.training import fit
from tadkit.training.batches import FeatureBatches
from tadkit.training.windows import WindowPlan, window_steps


class _OneStream:
    """Reads imported features as one track, those of flow beside those of RGB."""

    def __init__(self, store: TrackReader) -> None:
        self._store = store
        self.stamps_s, self.key = store.stamps_s, store.key

    def read(
        self,
        video: str,
        track: str,  # noqa: ARG002 - there is one
        start: int = 0,
        stop: int | None = None,
    ) -> Shaped[np.ndarray, "steps channels ..."]:
        """Steps ``start`` to ``stop`` (half open; None is the end)."""
        return self._store.features(video, start, stop)


def train_on_features(workspace: Workspace, *, device: torch.device, progress: Progress) -> bool:
    """Train a head on the recipe's feature store and write it; returns False if it was up to date.

    Raises:
        StoreError: videos have features of different numbers of channels.
    """
    recipe, path = workspace.recipe, workspace.features_head
    train = recipe.train.head.model_copy(update={"views": ("original",)})  # features have no other view
    with read_store(workspace.features_source, kind="features") as store:
        key = features_head_key(
            [store.key(item.name) for item in workspace.training],
            model=workspace.recipe.model_settings,
            train=recipe.train.head,
            truth=workspace.training_truth,
        )
        if is_up_to_date(path, kind="head", key=key):
            return False
        channels = _channels(store, [item.name for item in workspace.items])
        plan = _features_plan(workspace, store, train)
        torch.manual_seed(train.seed)
        model = JointHead(
            fusion=recipe.fusion,
            head=recipe.detector_head,
            dim=channels,
            num_classes=len(recipe.labels),
            two_branches=False,
            trained_steps=plan.window_frames,
        )
        trained = fit(
            JointHeadObjective(model),
            FeatureBatches(plan, features=_OneStream(store), tracks=("appearance",)),
            train,
            folder=stage_folder(workspace, "train-head-features"),
            key=key,
            device=device,
            progress=progress,
            task="train-head (features)",
        )
    model.head.load_state_dict({name.removeprefix("model.head."): value for name, value in trained.tensors.items()})
    parts = {"training_videos": workspace.training, "held_out_videos": workspace.held_out}
    names = {part: [item.name for item in items] for part, items in parts.items()}
    labels = head_labels(recipe.detector_head, recipe.labels)
    provenance = {"key": key, "recipe": recipe.name, **names, "trained": trained.provenance}
    save_head(path, model.head, labels=labels, provenance=provenance)
    return True


def _features_plan(workspace: Workspace, store: TrackReader, train: TrainSettings) -> WindowPlan:
    """Windows of feature steps over the training videos."""
    videos = training_videos(workspace, store, stride=1)
    step_s = float(np.median([Timeline(store.stamps_s(item.name)).step_s for item in workspace.training]))
    window, align = window_steps(workspace.recipe.detector_head, train, step_s=step_s)
    return WindowPlan(videos, train, window_frames=window, align_frames=align)


def _channels(store: TrackReader, videos: list[str]) -> int:
    found = {video: store.feature_channels(video) for video in videos}
    counts = sorted(set(found.values()))
    if len(counts) > 1:
        names = [next(video for video, channels in found.items() if channels == count) for count in counts[:2]]
        raise StoreError(
            f"{store.path}: '{names[0]}' has {counts[0]} channels and '{names[1]}' {counts[1]}; import them together"
        )
    return counts[0]
