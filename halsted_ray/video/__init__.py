"""From a file, wherever it lies, to the frames that a model looks at. No Ray, no model.

The way of a video, file by file; each file takes what the file before it gives:

    archive.py          which files of an archive are videos
    left_out.py         which files are left out for their names
    file_head.py        what a file is, told from its first bytes: a container, DICOM
    cases.py            which files are chapters of one case
    identity.py         the id of a video, from its bytes
    container.py        one opened file: its packets, its times, seeking; every file comes in through here
    refusal.py          why a file is no video, and what a person can do about it
    keyframe_index.py   where the keyframes are, from the container's index
    matroska.py         where to begin reading in a Matroska file without an index, over a network
    probe.py            what a video is: length, size, rate, codec
    windows.py          segments, their windows, and the times of the frames that they need
    slices.py           whether a packet holds a picture at all
    walk.py             from one wanted time to the next: seek, read packets, decode
    streams.py          which of several video streams is the picture
    geometry.py         how a stored picture is turned and mirrored, and holds the pictures of two eyes
    colour.py           what the numbers of a decoded frame mean: matrix, range, high dynamic range
    pictures.py         from a decoded frame to the picture that a model looks at
    frames.py           pictures with the times at which they were shown; spans without picture
    readers.py          frames at given times, by PyAV (the default) or decord: `read_frames`
    presence.py         whether a window has enough pictures, and what stands in for the frames that it lacks

Files of unknown origin are decoded in a process that can be killed and has no network:

    decode_process.py   the parent's end: `DecodeProcess`, with the same functions as readers.py and probe.py
    decode_worker.py    the child's end: the decoding process itself
    wire.py             the messages between the two ends
    isolation.py        what the decoding process gives up before it reads a byte of a video

How a file of each kind is read. `container.DEMUXERS` lists the kinds; all of them go through the same code, and differ
in how the keyframe before a wanted time is found (`walk.Walk.start_before`):

    MP4, MOV            by the file's index, which lists every keyframe (`keyframe_index.KeyframeIndex`)
    Matroska, WebM      by its index (the cues); without cues, on a disk by libavformat's own search, over a network by
                        looking for clusters at guessed places (`matroska.Clusters`)
    MPEG-TS, FLV, ASF,  no index is trusted: seek 2 s before the wanted time, then 8, 32 and 128 s before it, until a
    MXF, AVI            keyframe at or before that time is found (`walk.BACK_OFF_S`); else read from the file's start
    MPEG-PS             as MPEG-TS, and half a second earlier, since some of its times are guesses
                        (`walk.PROGRAM_STREAM_SETTLES_S`)

The length of an MP4 stands in its index. The length of any other file is read from the packets of its last 5 s, or from
all packets where the file does not even declare a length (`probe.TAIL_S`). A local file is opened by libav itself, a
remote file is read by byte ranges (`storage.ranges.RangeFile`); all other code is the same for both.
"""
