"""PyNvVideoCodec's interface over libavcodec, for machines without a GPU.

As the library does, it takes packets in Annex B form by address, gives pictures as NV12 or P016 in the order of
display, each with the earliest of the times that came with packets and are left, writes its memory again with the next
packet, ends a stream at an empty packet, and conceals damage without a word in its interface. What it decodes, it
decodes by PyAV.
"""

from __future__ import annotations

import ctypes
import heapq
from types import SimpleNamespace

import av
import numpy as np
import torch


class Frame:
    def __init__(self, pts, memory):
        self._pts, self._memory = pts, memory

    def getPTS(self):  # noqa: N802, the library's name
        return self._pts

    def __dlpack__(self, **kwargs):
        return self._memory.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._memory.__dlpack_device__()


def as_nvdec_lays_it_out(frame):
    """uint8 or uint16 [3 H / 2, W]: luma, then Cb and Cr side by side."""
    deep = frame.format.name.endswith(("10le", "12le"))
    kind, shift = (np.dtype("<u2"), 6 if frame.format.name.endswith("10le") else 4) if deep else (np.dtype("u1"), 0)
    y, cb, cr = (np.frombuffer(p, kind).reshape(p.height, -1)[:, : p.width] << shift for p in frame.planes)
    chroma = np.stack([cb, cr], axis=2).reshape(cb.shape[0], -1)
    return torch.from_numpy(np.concatenate([y, chroma]))


class Decoder:
    def __init__(self, library, codec):
        self.library, self.codec = library, codec
        self.context = None
        self.memory = []
        self.times = []

    def Decode(self, packet):  # noqa: N802, the library's name
        self.library.packets += packet.bsl > 0
        if self.library.fails_at == self.library.packets:
            raise self.library.error
        if self.context is None:
            self.context = av.CodecContext.create(self.codec, "r")
            self.context.thread_count = 1
        if packet.bsl:
            copy = av.Packet(ctypes.string_at(packet.bsl_data, packet.bsl))
            copy.pts = packet.pts
            heapq.heappush(self.times, packet.pts)
            frames = self.context.decode(copy)
        else:
            frames = self.context.decode(None)
            self.context = None
        for held in self.memory:
            held.fill_(0)
        self.memory = []
        for frame in frames:
            self.library.pictures += 1
            if self.library.pictures != self.library.loses:
                self.memory.append(as_nvdec_lays_it_out(frame))
        given = [Frame(heapq.heappop(self.times), memory) for memory in self.memory]
        if not packet.bsl:
            self.times.clear()
        return given


class Library:
    """``packets`` counts what was decoded. ``able`` is what the chip can do, ``fails_at`` the packet at which it raises
    ``error``, ``loses`` the number of the picture that does not come, in the order of display."""

    cudaVideoCodec = SimpleNamespace(H264="h264", HEVC="hevc")  # noqa: N815
    cudaVideoChromaFormat = SimpleNamespace(**{"420": 1})  # noqa: N815

    def __init__(self):
        self.packets = self.pictures = 0
        self.able = {
            "supported": 1,
            "width_min": 48,
            "height_min": 16,
            "width_max": 4096,
            "height_max": 4096,
            "mb_num_max": 65536,
        }
        self.fails_at = self.loses = None
        self.error = RuntimeError("HW decoder failed")
        self.asked = []

    def PacketData(self):  # noqa: N802
        return SimpleNamespace(bsl=0, bsl_data=0, pts=0)

    def CreateDecoder(self, gpuid, codec, cudacontext, cudastream, usedevicememory):  # noqa: N802
        assert (gpuid, cudacontext, usedevicememory) == (0, 0, True)
        return Decoder(self, codec)

    def GetDecoderCaps(self, gpuid, codec, chromaformat, bitdepth):  # noqa: N802
        self.asked.append((codec, bitdepth))
        return self.able


def put_in(monkeypatch):
    """Puts the library in the place of PyNvVideoCodec, and returns it."""
    from halsted_ray.video import nvdec, nvdec_library

    library = Library()
    monkeypatch.setattr(nvdec, "device_problem", lambda: "")
    monkeypatch.setattr(nvdec_library, "problem", lambda: "")
    monkeypatch.setattr(nvdec_library, "load", lambda: library)
    monkeypatch.setattr(nvdec_library, "stream", lambda: None)
    return library
