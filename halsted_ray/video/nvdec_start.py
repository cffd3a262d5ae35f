"""Makes the device ready for NVDEC, before the decoding process gives up its rights.

Drivers load libraries, open files and start threads when something is done for the first time. What a request needs of
the device is therefore done once before the first request: asking what the chip decodes, decoding a picture, copying
it, converting it.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch

from halsted_ray.gpu_waits import sleep_while_waiting
from halsted_ray.video import device_pictures, nvdec_library
from halsted_ray.video.colour import Colour
from halsted_ray.video.device_pictures import Planes
from halsted_ray.video.nvdec import BITS, CODECS, NvdecRefused
from halsted_ray.video.nvdec_decoder import capabilities

KEYFRAME = bytes.fromhex(
    "000000016742c00bdc204684000003000400000300f23c50ae0000000168ce0fc8000000016588843a2628000834c9c9c9c9c9c9c9"
    + "d75" * 28
    + "e0"
)
"""A grey picture of H.264: 128 x 128, luma 100, colour 128."""
SIDE, GREY, NO_COLOUR = 128, 100, 128

ASKED = tuple((codec, bits) for codec in CODECS for bits in sorted(set(BITS.values())))
"""All that a request may ask of the chip. Each answer takes a context of the device, for which a driver makes files in
memory (memfd_create): behind the limits, where no file may grow, that would end the process."""


def prepare() -> None:
    """Does everything once. Took 8 to 13 s on an H100, with the start of the process.

    Raises NvdecRefused where NVDEC can't be used, and whatever the library and torch raise.
    """
    sleep_while_waiting()
    library = nvdec_library.load()
    for codec, bits in ASKED:
        with suppress(NvdecRefused):  # of a kind that no request may bring
            capabilities(library, codec, bits)
    stream = nvdec_library.stream()
    decoder = library.CreateDecoder(
        gpuid=0,
        codec=library.cudaVideoCodec.H264,
        cudacontext=0,
        cudastream=stream.cuda_stream if stream else 0,
        usedevicememory=True,
    )
    packet, held = library.PacketData(), np.frombuffer(KEYFRAME, np.uint8)
    packet.bsl_data, packet.bsl, packet.pts = held.ctypes.data, len(KEYFRAME), 1
    with torch.cuda.stream(stream):
        # The library writes its memory again with the next packet, so each picture is copied at once.
        copies = [
            torch.from_dlpack(decoded).clone()
            for sent in (packet, library.PacketData())
            for decoded in decoder.Decode(sent)
        ]
        if not copies:
            raise NvdecRefused("NVDEC gave no picture of the first keyframe that it was given")
        rows = copies[0]
        planes = Planes(rows[:SIDE], rows[SIDE:].reshape(SIDE // 2, SIDE // 2, 2))
        device_pictures.to_rgb(planes, (SIDE // 2, SIDE // 2), Colour("BT.709", False)).cpu()
    if not (rows[:SIDE] == GREY).all() or not (rows[SIDE:] == NO_COLOUR).all():
        raise NvdecRefused("NVDEC shows the first keyframe that it was given otherwise than the CPU")
