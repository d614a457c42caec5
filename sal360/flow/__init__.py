"""How the picture moves from one frame to the next.

Flow is ``(2, H, W)`` pixels per frame, right and then down, across the seam the short way:
what stands in a pixel of the first frame stands that much further in the second. Methods that
know flat pictures only (DIS, Farneback, RAFT) are lent views of the sphere, so that seam and
poles are like any other place (:func:`sphere_flow`); :func:`endpoint_error` says in degrees how
far an answer is off. Chapter 14 uses it, chapter 15 warps with it.
"""

from sal360.flow.angles import endpoint_error, flow_directions, tangent_flow
from sal360.flow.colors import color_wheel, flow_to_color
from sal360.flow.difference import frame_difference
from sal360.flow.files import load_flow, save_flow
from sal360.flow.planar import FlatMethod, dis_flow, farneback_flow, planar_flow
from sal360.flow.spherical import reliable_flow, sphere_flow
from sal360.flow.store import FlowStore, flow_of

__all__ = [
    "FlatMethod",
    "FlowStore",
    "color_wheel",
    "dis_flow",
    "endpoint_error",
    "farneback_flow",
    "flow_directions",
    "flow_of",
    "flow_to_color",
    "frame_difference",
    "load_flow",
    "planar_flow",
    "reliable_flow",
    "save_flow",
    "sphere_flow",
    "tangent_flow",
]
