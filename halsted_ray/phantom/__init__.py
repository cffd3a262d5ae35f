"""The synthetic archive: videos of surgery that never happened, whose truth is known to the frame.

    catalogue.py        which procedures, actions, instruments and organs there are, and which go together
    script.py           what happens in a video: the truth
    motion.py           where the hands are at a time
    tissue.py           pictures of the tissue behind them
    painter.py          draws shapes on a picture
    instruments.py      how each instrument looks
    props.py            what the hands work on: threads, clips, smoke
    room.py             what a camera sees outside of the body
    disturbed.py        views inside the body that look least like it
    interruptions.py    when the camera is outside or disturbed, and the pictures of that time
    natural_tissue.py   tissue of smooth shapes and soft light, for detectors that must not know the fields by heart
    render.py           the picture of a script at a time
    shifted.py          another camera than the one that models learn from
    write.py            a script as a video file
    training_clips.py   single clips for training, without a file
    frame_number.py     frame numbers painted on pictures, for tests of decoding

>>> from halsted_ray.phantom.script import make_script
>>> make_script(seed=1, duration_s=120.0, procedure="Prostatectomy").tags_at(3.0)["step"]
'Suturing'
"""
