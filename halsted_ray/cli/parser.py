"""The parser of ``halsted``: all commands, put together."""

from __future__ import annotations

from halsted_ray import __version__
from halsted_ray.cli.atlas import add_atlas
from halsted_ray.cli.benchmark import add_benchmark
from halsted_ray.cli.deidentify import add_deidentify
from halsted_ray.cli.dicom import add_dicom
from halsted_ray.cli.doctor import add_completion, add_doctor
from halsted_ray.cli.economy import add_economy
from halsted_ray.cli.embed import add_embed
from halsted_ray.cli.embeddings import add_embeddings
from halsted_ray.cli.encoder import add_encoder
from halsted_ray.cli.evaluate import add_evaluate
from halsted_ray.cli.explain import add_explain
from halsted_ray.cli.forecast import add_forecast
from halsted_ray.cli.language import add_few_shot, add_recall, add_zero_shot
from halsted_ray.cli.map import add_map, add_status
from halsted_ray.cli.options import Parser
from halsted_ray.cli.out_of_body import add_out_of_body
from halsted_ray.cli.plan import add_plan
from halsted_ray.cli.probe import add_probe
from halsted_ray.cli.registry import add_lineage, add_registry
from halsted_ray.cli.search import add_search, add_search_index
from halsted_ray.cli.selflabel import add_review, add_self_label
from halsted_ray.cli.serve import add_serve
from halsted_ray.cli.stitches import add_stitches
from halsted_ray.cli.synthesize import add_synthesize
from halsted_ray.cli.train import add_phantom, add_train
from halsted_ray.cli.view import add_export, add_report, add_show

ADD = (
    add_phantom,
    add_map,
    add_status,
    add_show,
    add_stitches,
    add_explain,
    add_economy,
    add_forecast,
    add_export,
    add_report,
    add_search,
    add_search_index,
    add_plan,
    add_probe,
    add_out_of_body,
    add_deidentify,
    add_embed,
    add_encoder,
    add_embeddings,
    add_atlas,
    add_synthesize,
    add_train,
    add_evaluate,
    add_zero_shot,
    add_few_shot,
    add_recall,
    add_benchmark,
    add_self_label,
    add_review,
    add_registry,
    add_lineage,
    add_dicom,
    add_serve,
    add_doctor,
    add_completion,
)
"""In the order of the help: map an archive, improve a model, serve it, examine the machine."""


def build_parser() -> Parser:
    """The parser of ``halsted``. Every command sets ``do``, the function that runs it."""
    parser = Parser(
        prog="halsted",
        description="Temporal maps of surgical video archives. Research software, not a medical device.",
        epilog="ARCHIVE, OUT and DIR are folders or URLs (s3://…). Start with `halsted phantom --help`; "
        "`halsted COMMAND --help` explains a command and shows an example.",
    )
    parser.add_argument("--version", action="version", version=f"halsted_ray {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for add in ADD:
        add(commands)
    return parser
