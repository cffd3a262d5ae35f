"""``halsted encoder``: its options, and what it prints."""

from __future__ import annotations

import argparse

from halsted_ray.cli.options import DONE, Commands, add_command, add_group


def add_encoder(commands: Commands) -> None:
    """``halsted encoder ACTION``."""
    actions = add_group(
        commands, "encoder", "prepare the weights of an encoder for runs", example="halsted encoder add /models/giant"
    )
    add = add_command(
        actions,
        "add",
        "read an encoder's weights once, and write its identity beside them",
        add_one,
        example="halsted encoder add s3://hospital/encoders/giant",
        more="without it the first run does the same before it starts",
    )
    add.add_argument("encoder", metavar="ENCODER", help="a folder with config.json, or a file of VideoMAE V2 weights")


def add_one(options: argparse.Namespace) -> int:
    """Prints what the encoder is."""
    from halsted_ray.model.encoder_identity import encoder_identity

    found = encoder_identity(options.encoder)
    height, width = found.image_size
    print(f"fingerprint {found.fingerprint}: {found.frames} frames of {height}×{width}, vectors of width {found.dim}")
    return DONE
