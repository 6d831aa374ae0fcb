"""Motion between frames: TV-L1, OpenCV's TV-L1, RAFT, the temporal gradient, behind one protocol; their int8 code."""

from tadkit.flow.codec import EncodedFlow, decode, encode
from tadkit.flow.methods import FlowMethod, build_flow

__all__ = ["EncodedFlow", "FlowMethod", "build_flow", "decode", "encode"]
