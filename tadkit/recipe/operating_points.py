"""The operating points of a run's detector, from videos that neither student nor head of a group has seen."""

from __future__ import annotations

from tadkit.evaluation.operating_points import choose_operating_points
from tadkit.files import digest_of, digest_of_file
from tadkit.models.heads import head_labels
from tadkit.recipe.judge import found_by_detector, held_out_truth
from tadkit.recipe.workspace import Workspace
from tadkit.records import Annotation, Detection, write_detections

CHOSEN_BY = 1
"""Increased when a change of decoding or choice changes the operating points of the same detectors."""


def points_key(workspace: Workspace, row: str) -> str:
    """What the operating points depend on, apart from the ground truth: the groups' detectors, and decoding."""
    detectors = [digest_of_file(group.detector(row)) for group in workspace.groups_of(row)]
    return digest_of([CHOSEN_BY, detectors, workspace.of_row(row).decode.model_dump(mode="json")])


def operating_points(workspace: Workspace, row: str, *, device: str) -> dict[str, float]:
    """Operating points by label, from the detections of every group's detector in the videos of its group.

    The detections are kept in the group's folder.
    """
    head, labels = workspace.of_row(row).detector_head, workspace.recipe.labels
    truth: dict[str, list[Annotation]] = {}
    found: dict[str, list[Detection]] = {}
    for group in workspace.groups_of(row):
        truth |= held_out_truth(group, head)
        in_group = found_by_detector(group, row, device)
        external = {"recipe": workspace.recipe.name, "row": row, "group": group.group}
        write_detections(group.detections(row), in_group, external=external)
        found |= in_group
    return choose_operating_points(truth, found, labels=head_labels(head, labels))
