"""Motion between frames (TV-L1, OpenCV's methods, RAFT, temporal gradient) behind one protocol, and its int8 code."""

from tadkit.flow.codec import EncodedFlow, decode, encode
from tadkit.flow.methods import FlowMethod, build_flow

__all__ = ["EncodedFlow", "FlowMethod", "build_flow", "decode", "encode"]
