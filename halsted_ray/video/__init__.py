"""From a file, wherever it lies, to the frames that a model looks at. No Ray, no model.

The way of a video, file by file; each file takes what the file before it gives:

    archive.py          which files of an archive are videos
    left_out.py         which files are left out for their names
    file_head.py        what a file is, told from its first bytes: a container, DICOM
    encapsulated.py     the video stream in a DICOM file, as bytes of that file
    cases.py            which files are chapters of one case
    identity.py         the id of a video, from its bytes
    container.py        one opened file: its packets, its times, seeking; every file comes in through here
    refusal.py          why a file is no video, and what a person can do about it
    first_frame.py      the first displayed frame, which may lie far behind the first byte
    packet_index.py     takes, keyframes and holes of a recording, from one pass over its packets
    packet_times.py     the times of packets and frames
    true_keyframes.py   whether a packet is a keyframe, where the container claims that all are
    keyframe_index.py   where the keyframes are, from the container's index or from that pass
    joined.py           what libavformat does not read of files that were joined byte by byte
    matroska.py         where to begin reading in a Matroska file without an index, over a network
    probe.py            what a video is: length, size, rate, codec
    probers.py          many files identified and probed side by side
    describe.py         all that is known of one file, for `halsted probe`
    windows.py          segments, their windows, and the times of the frames that they need
    slices.py           whether a packet holds a picture at all
    walk.py             from one wanted time to the next: seek, read packets
    display_walk.py     the frames displayed at wanted times; damage and holes
    needed_packets.py   which packets must be decoded for them
    keyframe_walk.py    the last keyframes at wanted times
    streams.py          which of several video streams is the picture
    geometry.py         how a stored picture is turned and mirrored, and holds the pictures of two eyes
    colour.py           what the numbers of a decoded frame mean: matrix, range, high dynamic range
    pictures.py         from a decoded frame to the picture that a model looks at
    frames.py           pictures with the times at which they were shown; spans without picture
    libav_decoder.py    what a walk needs of a decoder, and libavcodec as one
    pyav_reader.py      frames at given times, by PyAV
    nvdec.py            the same by NVDEC, and by PyAV where NVDEC would not give the same
    nvdec_decoder.py    NVDEC as the decoder of a walk, with all the checks of what it gives
    nvdec_library.py    PyNvVideoCodec, where it can be used, and why not
    nvdec_start.py      what is done once on the device before the decoding process gives up its rights
    h264_sps.py         what a stream's parameter sets say of its pictures
    device_pictures.py  from planes on a GPU to the picture that a model looks at
    playable.py         a copy of a video, or a clip of it, that every browser plays
    burnt_labels.py     words that are drawn into the pictures of a clip
    readers.py          frames at given times, by PyAV (the default), NVDEC or decord: `read_frames`
    presence.py         whether a window has enough pictures, and what stands in for the frames that it lacks

Files of unknown origin are decoded in a process that can be killed and has no network:

    decode_process.py   the parent's end: `DecodeProcess`, with the same functions as readers.py and probe.py
    decode_worker.py    the child's end: the decoding process itself
    wire.py             the messages between the two ends
    isolation.py        what the decoding process gives up before it reads a byte of a video

A decoding actor has one such process on its core, and one on a GPU while it holds a session there:

    nvdec_slots.py      the sessions of a machine, shared by locks; how much of a run is left
    hybrid_process.py   for each segment NVDEC or the core, by what is free and by the measured rates
    decoder_tally.py    how many segments which of them decoded, and why

How a file of each kind is read. `container.DEMUXERS` lists the kinds; all of them go through the same code, and differ
in how the keyframe before a wanted time is found (`keyframe_index.KeyframeIndex`):

    MP4, MOV            by the file's index, where it lists keyframes and not every frame
    Matroska, WebM      by its index, the cues, where they cover the file
    all others          by the packet index: one pass over all packets, made when the file is probed and kept with the
                        maps (`maps.packet_indexes`)

A container without an index that can be trusted says nothing about its whole until every packet was read: its clock may
start again (`packet_index.Take`), and stretches may be missing (`PacketIndex.holes`). All times are on the video's own
axis, on which the takes lie one after another: `VideoFile.packets` gives each packet its time there.

The length of a video is where its index or its packets end. A declared length counts only where the file was cut before
it (`probe.DECLARED`). A local file is opened by libav itself, a remote file is read by byte ranges
(`storage.ranges.RangeFile`); all other code is the same for both.
"""
