"""Query head: a fixed set of learned queries, each of which names at most one action and where it lies.

After TadTR (Liu et al., End-to-end temporal action detection with transformer, IEEE TIP 2022), as OpenTAD configures
it, or as its authors' code does (``variant``). Matched one to one in training, queries do not repeat each other and
need no suppression. Where we leave it: padding is never read unless asked for (both read it: ``padding = "counted"``),
and actionness is predicted only where asked for (``actionness``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import TadtrSettings
from tadkit.models.heads.head import Candidates, Head
from tadkit.models.heads.layers import TimeGroupNorm, zero_padding
from tadkit.models.heads.ranking import ranked
from tadkit.models.heads.tadtr_actionness import Actionness
from tadkit.models.heads.tadtr_layers import DeformableLayer, sine_positions, three_layers


class QueryPredictions(NamedTuple):
    """What the queries say.

    Attributes:
        logits: (batch, queries, classes), before the sigmoid.
        segments: (batch, queries, 2), start and end as fractional feature positions, start not after end; they may
            reach past the track.
        mask: (batch, time), True at the steps that were read; their number is the unit of normalised segments.
        earlier: logits and segments of the decoder's earlier layers, which learn from the same truth.
        actionness: (batch, queries), overlap that each segment may have with an action, in [0, 1]; None where the head
            predicts none.
    """

    logits: Float[Tensor, "batch queries classes"]
    segments: Float[Tensor, "batch queries 2"]
    mask: Bool[Tensor, "batch time"]
    earlier: tuple[tuple[Float[Tensor, "batch queries classes"], Float[Tensor, "batch queries 2"]], ...] = ()
    actionness: Float[Tensor, "batch queries"] | None = None


class TadtrHead(Head):
    """Embedding, deformable encoder, decoder of queries whose segments each layer refines.

    Args:
        settings: sizes and costs.
        in_channels: channels of the feature track.
        num_classes: classes; each has a sigmoid of its own.
    """

    settings: TadtrSettings

    def __init__(self, settings: TadtrSettings, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.in_channels, self.num_classes = in_channels, num_classes
        dim = settings.dim
        self.embedding = nn.Conv1d(in_channels, dim, 1, bias=settings.variant == "authors")
        self.embedding_norm = TimeGroupNorm(settings.norm_groups, dim)
        self.place = nn.Parameter(torch.randn(dim))
        self.encoder = nn.ModuleList(_layer(settings, queries=False) for _ in range(settings.encoder_layers))
        self.decoder = nn.ModuleList(_layer(settings, queries=True) for _ in range(settings.decoder_layers))
        self.queries = nn.Parameter(torch.randn(settings.queries, 2 * dim))
        self.reference = nn.Linear(dim, 1)
        self.classifiers = nn.ModuleList(nn.Linear(dim, num_classes) for _ in self.decoder)
        self.regressors = nn.ModuleList(three_layers(dim, dim, 2) for _ in self.decoder)
        bins, context = settings.actionness_bins, settings.actionness_context
        self.actionness = Actionness(dim, bins=bins, context=context) if settings.actionness else None
        self._initialise()

    def _initialise(self) -> None:
        """References spread by the queries' places, first widths of 0.12 of the track, classes at their prior."""
        nn.init.xavier_normal_(self.reference.weight)
        nn.init.zeros_(self.reference.bias)
        if self.embedding.bias is not None:
            nn.init.zeros_(self.embedding.bias)
        prior = self.settings.prior_probability
        for classifier, regressor in zip(self.classifiers, self.regressors, strict=True):
            nn.init.constant_(classifier.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
            nn.init.zeros_(regressor[-1].weight)  # type: ignore[index]
            nn.init.zeros_(regressor[-1].bias)  # type: ignore[index]
        nn.init.constant_(self.regressors[0][-1].bias[1:], -2.0)  # type: ignore[index]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> QueryPredictions:
        """Predict.

        Args:
            features: the track; what stands at masked steps is never read.
            mask: True where a step is real; real steps come first.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        missing = max(self.settings.pad_to_steps - mask.shape[1], 0)
        features, mask = nnf.pad(features, (0, missing)), nnf.pad(mask, (0, missing))
        read = mask if self.settings.padding == "masked" else torch.ones_like(mask)
        memory = self._encoded(self._embedded(features, mask, read), read)
        places, content = (part.expand(len(mask), -1, -1) for part in self.queries.chunk(2, dim=1))
        reference = self.reference(places).sigmoid()
        length = read.sum(dim=1).float()[:, None, None]
        layers = []
        for layer, classifier, regressor in zip(self.decoder, self.classifiers, self.regressors, strict=True):
            content = layer(content, places, reference, memory, read)
            refined = _refined(regressor(content).float(), reference.float())  # half precision has no places of steps
            layers.append((classifier(content), _segments(refined, length)))
            reference = refined.detach()  # each layer learns from its own refinement only
        logits, segments = layers[-1]
        actionness = None if self.actionness is None else self.actionness(memory, segments, length)
        return QueryPredictions(logits, segments, read, tuple(layers[:-1]), actionness)

    def _embedded(
        self,
        features: Float[Tensor, "batch in_channels time"],
        mask: Bool[Tensor, "batch time"],
        read: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time dim"]:
        """The track in the head's channels; where padding is read, the authors' variant keeps its bias there."""
        x = self.embedding_norm(self.embedding(zero_padding(features, mask)), read)
        return zero_padding(x, read if self.settings.variant == "authors" else mask).transpose(1, 2)

    def _encoded(
        self, x: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time dim"]:
        """The track after the encoder; masked steps hold nothing of use."""
        at = 1.0 if self.settings.variant == "authors" else 0.5
        positions = sine_positions(mask, x.shape[-1], at=at).to(x.dtype) + self.place
        steps = torch.arange(mask.shape[1], device=mask.device) + 0.5
        reference = (steps / mask.sum(dim=1, keepdim=True).clamp(min=1))[..., None].to(x.dtype)
        for layer in self.encoder:
            x = layer(x, positions, reference, x, mask)
        return x


def query_candidates(predictions: QueryPredictions, *, min_score: float, limit: int) -> Candidates:
    """The best candidates of one video: each query once for each class, by probability times actionness, if predicted.

    Args:
        predictions: of one video (batch 1).
        min_score: candidates below it are left out.
        limit: most candidates.

    Raises:
        WeightsError: a prediction is not a finite number.
    """
    assert len(predictions.logits) == 1, "candidates are of one video"
    scores = predictions.logits[0].sigmoid()
    if predictions.actionness is not None:
        scores = scores * predictions.actionness[0][:, None]
    return ranked(predictions.segments[0], scores, min_score=min_score, limit=limit)


def _layer(settings: TadtrSettings, *, queries: bool) -> DeformableLayer:
    """A layer of the encoder, or of the decoder's ``queries``."""
    return DeformableLayer(
        settings.dim,
        heads=settings.attention_heads,
        points=settings.points,
        mlp_dim=settings.mlp_dim,
        dropout=settings.dropout,
        queries=queries,
    )


def _refined(change: Float[Tensor, "*batch 2"], reference: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch 2"]:
    """Centre and width as fractions: the change is added before the sigmoid; a reference may lack its width."""
    before = reference.clamp(min=1e-5) / (1 - reference).clamp(min=1e-5)
    before = torch.cat((before.log(), torch.zeros_like(change[..., reference.shape[-1] :])), dim=-1)
    return (change + before).sigmoid()


def _segments(box: Float[Tensor, "*batch 2"], length: Float[Tensor, "batch 1 1"]) -> Float[Tensor, "*batch 2"]:
    """Start and end as positions, from centre and width as fractions of ``length``."""
    centre, half = box[..., :1] * length, box[..., 1:] * length / 2
    return torch.cat((centre - half, centre + half), dim=-1)
