"""``halsted encoder``: its options, and what it prints."""

from __future__ import annotations

import argparse

from halsted_ray.cli.options import DONE, Commands, add_command, add_group

DEVICES = {"cpu": "CPU", "cuda": "GPU"}
"""Kinds of devices by PyTorch's names, as messages name them."""


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
        example="halsted encoder add vit_g.pth --out s3://hospital/encoders/giant-bf16",
        more="without it the first run does the same before it starts",
    )
    add.add_argument(
        "encoder", metavar="ENCODER", help="a folder with config.json or encoder.json, or a file of VideoMAE V2 weights"
    )
    add.add_argument(
        "--out",
        metavar="FOLDER",
        help="also keep the weights there, in the precision they run in: half the size, and the same vectors",
    )
    add.add_argument(
        "--precision",
        choices=["bf16", "fp32"],
        default="bf16",
        help="of the weights in --out (default bf16, for a GPU; fp32 for CPUs)",
    )


def add_one(options: argparse.Namespace) -> int:
    """Prints what the encoder is, and the name of its vectors by precision."""
    from halsted_ray.model.encoder_identity import identify_encoder, keep_encoder

    found = identify_encoder(options.encoder)
    if options.out:
        found = keep_encoder(options.encoder, options.out, options.precision)
    height, width = found.image_size
    print(f"fingerprint {found.fingerprint}: {found.frames} frames of {height}×{width}, vectors of width {found.dim}")
    names = ", ".join(f"{found.vectors_name(found.precision(device))} on a {what}" for device, what in DEVICES.items())
    print(f"weights kept in {found.kept_in}; vectors are named {names}")
    return DONE
