"""EfficientNet-Lite0 with temporal shifts as an ONNX graph that reads a video in pieces.

Built by hand from the weights in some milliseconds, so nothing has to be traced, and no graph is stored. Inputs: frames
(n, height, width, 3) as uint8, or what a net with changes reads of them, and, if blocks shift, ``end`` (one number with
the last piece, else none) and the kept frames of each of them; outputs: features (n, channels) and the frames to keep;
see ``TemporalShiftBackbone.piece``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from tadkit.models.backbones import TemporalShiftBackbone
from tadkit.models.backbones.efficientnet_lite import ConvNorm, MobileBlock
from tadkit.models.backbones.temporal_shift import shifted_channels
from tadkit.version import __version__

OPSET, IR_VERSION = 17, 8
"""Old enough for runtimes of the last years."""
_FAR = np.iinfo(np.int64).max


class StreamedGraph(NamedTuple):
    """A serialised graph, and (channels, height, width) of what each block that shifts keeps of a frame."""

    content: bytes
    kept_shapes: list[tuple[int, int, int]]


class _Map(NamedTuple):
    """A value of the graph: frames of ``channels`` of ``height`` x ``width``."""

    name: str
    channels: int
    height: int
    width: int


def streamed_graph(backbone: TemporalShiftBackbone, *, size_hw: tuple[int, int]) -> StreamedGraph:
    """The graph of a backbone for RGB frames of one size.

    The backbone is EfficientNet-Lite0 with frozen norms, in evaluation mode.
    """
    graph = _Graph()
    x = graph.prepared(backbone, size_hw)
    shapes: list[tuple[int, int, int]] = []
    for number, block in enumerate(backbone.blocks):
        last = number + 1 == len(backbone.blocks)
        if isinstance(block, ConvNorm):
            x = graph.convolution(block, x)
            continue
        assert isinstance(block, MobileBlock)
        shifted = x
        if number >= backbone.first_shift:
            shapes.append(x[1:])
            x, shifted = graph.shift(x, len(shapes) - 1, fraction=backbone.shift_fraction)
        x = graph.block(block, x, shifted, pooled=last)
    prepared = backbone.in_channels if backbone.changes_frames else None
    return StreamedGraph(graph.content(x, shapes, size_hw, prepared=prepared), shapes)


class _Graph:
    """Nodes and weights of a graph that is being built."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}

    def prepared(self, backbone: TemporalShiftBackbone, size_hw: tuple[int, int]) -> _Map:
        """Frames as the net reads them: see ``Backbone.prepare``. With changes, they come so: see ``read``."""
        if backbone.changes_frames:
            return _Map("frames", backbone.in_channels, *size_hw)
        frames = self._add("Cast", self._add("Transpose", "frames", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
        mean, std = (np.array(x, dtype=np.float32).reshape(3, 1, 1) for x in (backbone.rgb_mean, backbone.rgb_std))
        centred = self._add("Sub", frames, self._constant(mean))
        return _Map(self._add("Div", centred, self._constant(std)), 3, *size_hw)

    def convolution(self, layer: ConvNorm, x: _Map) -> _Map:
        """Convolution with its norm folded in, and ReLU6 if the layer has one."""
        conv, _ = layer.parts()
        weight, bias = layer.folded()
        left, right, top, bottom = conv.pads(torch.empty(0, x.channels, x.height, x.width, device="meta"))
        y = self._add(
            "Conv",
            x.name,
            self._constant(_array(weight)),
            self._constant(_array(bias)),
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[top, left, bottom, right],
            group=conv.groups,
        )
        if layer.active:
            y = self._add("Clip", y, self._constant(np.float32(0)), self._constant(np.float32(6)))
        return _Map(y, len(weight), -(-x.height // conv.stride[0]), -(-x.width // conv.stride[1]))

    def block(self, block: MobileBlock, x: _Map, shifted: _Map, *, pooled: bool) -> _Map:
        """An inverted residual; ``pooled`` averages it over space, before the projection where that is the same."""
        inner = self.convolution(block.expand, shifted) if block.expand is not None else shifted
        inner = self.convolution(block.depthwise, inner)
        if pooled and not block.residual:
            inner = _Map(self._add("GlobalAveragePool", inner.name), inner.channels, 1, 1)
        out = self.convolution(block.project, inner)
        if block.residual:
            out = out._replace(name=self._add("Add", x.name, out.name))
        if pooled and block.residual:
            out = out._replace(name=self._add("GlobalAveragePool", out.name))
        return out

    def shift(self, x: _Map, number: int, *, fraction: float) -> tuple[_Map, _Map]:
        """The frames whose neighbours are known, as they are and with channels of these neighbours."""
        count = self._add("Concat", self._add("Shape", "end"), self._constant(np.array(x[1:], dtype=np.int64)), axis=0)
        zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
        tail = self._add("ConstantOfShape", count, value=zero)
        seen = self._add("Concat", f"kept_{number}", x.name, tail, axis=0)
        before, after = shifted_channels(x.channels, fraction, "previous")
        parts = {
            before.start: self._slice(seen, (0, -2), (before.start, before.stop)),
            after.start: self._slice(seen, (2, _FAR), (after.start, after.stop)),
            2 * before.stop: self._slice(seen, (1, -1), (after.stop, x.channels)),
        }
        self._slice(seen, (-2, _FAR), (0, x.channels), name=f"keep_{number}")
        shifted = self._add("Concat", *parts.values(), axis=1)
        return x._replace(name=self._slice(seen, (1, -1), (0, x.channels))), x._replace(name=shifted)

    def content(
        self, x: _Map, shapes: list[tuple[int, int, int]], size_hw: tuple[int, int], *, prepared: int | None
    ) -> bytes:
        """The graph whose features are ``x``, serialised; ``prepared`` are the channels of frames that come so."""
        self._add("Flatten", x.name, axis=1, name="features")
        kept = [(f"kept_{i}", TensorProto.FLOAT, ["kept", *shape]) for i, shape in enumerate(shapes)]
        inputs: list[tuple[str, Any, list[Any]]] = [("frames", TensorProto.UINT8, ["frames", *size_hw, 3])]
        if prepared is not None:
            inputs = [("frames", TensorProto.FLOAT, ["frames", prepared, *size_hw])]
        inputs += [("end", TensorProto.UINT8, ["end"]), *kept] if kept else []
        outputs = [("features", TensorProto.FLOAT, ["done", x.channels])]
        outputs += [(f"keep_{i}", TensorProto.FLOAT, ["keep", *shape]) for i, shape in enumerate(shapes)]
        infos = [[helper.make_tensor_value_info(*one) for one in some] for some in (inputs, outputs)]
        graph = helper.make_graph(self._nodes, "backbone", *infos, initializer=list(self._weights.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tadkit")
        model.producer_version = __version__
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content

    def _slice(self, x: str, frames: tuple[int, int], channels: tuple[int, int], *, name: str = "") -> str:
        """Some frames and channels of a value."""
        starts, stops = zip(frames, channels, strict=True)
        limits = [np.array(limit, dtype=np.int64) for limit in (starts, stops, (0, 1))]
        return self._add("Slice", x, *map(self._constant, limits), name=name)

    def _add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node and name its output."""
        name = name or f"x{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _constant(self, value: np.ndarray | np.generic) -> str:
        name = f"w{len(self._weights)}"
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        return name


def _array(x: Tensor) -> np.ndarray:
    array: np.ndarray = x.detach().cpu().numpy()
    return array
