"""TV-L1 optical flow in torch: many frame pairs at once, on any device.

Sources: Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007; Sanchez,
Meinhardt-Llopis, Facciolo, "TV-L1 optical flow estimation", IPOL 2013; Chambolle, Pock, JMIV 40, 2011, section 6.3.3.

Deviations: every pair is solved with the same fixed number of steps, so that its flow does not depend on its batch; the
median filters are OpenCV's. The presets ``fast`` and ``faster`` also start from the flow of dense inverse search
(Kroeger et al., ECCV 2016) instead of zero, see :mod:`tadkit.flow.tvl1.start`, and use bicubic interpolation and
five-point differences of both frames, as Sun, Roth and Black do ("Secrets of optical flow estimation and their
principles", CVPR 2010).
"""

from tadkit.flow.tvl1.solver import Tvl1

__all__ = ["Tvl1"]
