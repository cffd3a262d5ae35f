"""What an evaluation judges beside the model, and on which videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from halsted_ray.errors import UsageError
from halsted_ray.evaluation.baselines import BASELINES
from halsted_ray.evaluation.left_out import LEAVE_OUT
from halsted_ray.evaluation.sais import SaisRecipe

PARTS = ("test", "validation", "all")
STRATEGIES = ("per_procedure", "global")


@dataclass(frozen=True)
class EvaluationPlan:
    """Which videos judge, and which methods beside the model are judged on them. Raises UsageError.

    A model that is given is judged on one ``part`` of the release's split. Without a model, a recipe is
    cross-validated: a model is trained for each of ``folds`` folds, or for each of ``splits``.
    """

    release: str | None = None
    """Of the atlas; None is the latest release, ``head`` the newest version."""
    part: str = "test"
    """Which part judges a given model: ``test``, ``validation``, or ``all`` for every video of an archive that the
    model never learned from."""
    test_on: str | None = None
    """Another annotated archive: all of its videos judge, in the place of the release's own test part."""
    folds: int = 5
    strategy: str | None = None
    """How folds are drawn (``folds.draw_folds``): ``per_procedure``, as the paper, or ``global``. None takes
    ``per_procedure`` unless it would hold out more than half of the videos."""
    splits: tuple[Mapping[str, str], ...] | None = None
    """Per fold video_id → ``train``, ``validation`` or ``test``, in the place of folds that are drawn."""
    published: bool = False
    """Judge on the test part that the release fixes, as a published data set wants it, and add the literature's figures
    (``evaluation.published_split``). Each of ``folds`` then draws its own validation videos; a single fold takes the
    release's validation part, where it has one."""
    leave_out: str | None = None
    """``specialty`` or ``procedure``: one fold for each of them, which tests on all of its videos and learns from the
    others (``evaluation.left_out``); then ``folds``, ``strategy`` and ``seed`` draw nothing."""
    learn_from: int | None = None
    """Train each fold on so many of its training videos only: what would a model be worth with fewer?"""
    seed: int = 0
    """Of the folds and of ``learn_from``."""
    baselines: tuple[str, ...] = BASELINES
    """Methods that are trained and judged on the same videos: any of ``chance``, ``majority``, ``linear``, ``sais``."""
    sais: SaisRecipe = SaisRecipe()
    sais_encoder: str | None = None
    """The self-supervised ViT whose vectors per frame SAIS reads, as published; None gives SAIS's head the time steps
    of the model's own encoder."""
    llama: str | None = None
    """Folder of a Llama that each fold fine-tunes beside the model, to compare with: it writes tags as text."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.baselines) - set(BASELINES)):
            raise UsageError(f"unknown baseline {unknown[0]!r}; expected any of {', '.join(BASELINES)}")
        if self.sais_encoder and "sais" not in self.baselines:
            raise UsageError("a SAIS encoder needs the baseline sais; add it to --baselines, or leave the encoder out")
        if self.part not in PARTS:
            raise UsageError(f"unknown part {self.part!r}; expected one of {', '.join(PARTS)}")
        if self.strategy is not None and self.strategy not in STRATEGIES:
            raise UsageError(f"unknown strategy {self.strategy!r}; expected one of {', '.join(STRATEGIES)}")
        if self.folds < 1:
            raise UsageError(f"folds={self.folds}; expected at least 1")
        if self.learn_from is not None and self.learn_from < 1:
            raise UsageError(f"learn from {self.learn_from} videos; expected at least 1")
        if self.published and (self.test_on is not None or self.splits is not None or self.part != "test"):
            raise UsageError(
                "the published test part judges, and another part is named too; leave one of the two out (--part, "
                "--test-on, or --split published)"
            )
        if self.leave_out is not None:
            if self.leave_out not in LEAVE_OUT:
                raise UsageError(f"can't leave out {self.leave_out!r}; expected one of {', '.join(LEAVE_OUT)}")
            if self.published or self.test_on is not None or self.splits is not None or self.strategy is not None:
                raise UsageError(
                    f"each {self.leave_out} is left out once, and another part is named too; leave one of the two out "
                    "(--leave-out, or --test-on, --split published, --strategy)"
                )
        if self.splits is not None and not self.splits:
            raise UsageError("no split is given; expected at least 1")
