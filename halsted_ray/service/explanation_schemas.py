"""The answer of the API that explains one moment."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from halsted_ray.sequences.explanation import Explanation


class EvidenceShown(BaseModel):
    """A row of the map. Times in seconds, as of the question."""

    row: int = Field(description="Its number among the rows of the map that you may read, from 1 on.")
    start_s: float
    stop_s: float
    task: str
    tag: str
    category: str
    confidence: float
    source: str


class StatementShown(BaseModel):
    """One statement, or what is not known."""

    level: Literal["perception", "relation", "context"]
    about: str = Field(description="A tag, `acts` (who acts on what), or such as `step before` and `step next`.")
    said: str | None = Field(description="The category, or a sentence; null where it is not known.")
    confidence: float | None = Field(description="Of the least sure of the rows, 0 to 1; null where it is not known.")
    rests_on: list[EvidenceShown]
    reason: str = Field(description="Why it is not known, in words; empty where it is.")
    why: Literal["", "no row", "not learned", "not mapped", "not asked", "none there", "nothing done"] = Field(
        description="The same for programs."
    )
    needs: tuple[str, str] | None = Field(
        description="Tag and category under which the tag is asked, where `why` is `not asked`."
    )
    missing: list[str] = Field(description="Tags of a relation that are not known.")


class ExplanationShown(BaseModel):
    """What a map says of one moment."""

    at_s: float
    model_version: str = Field(description="Of the first row; empty where the map has none.")
    statements: list[StatementShown] = Field(description="Perception first, then relation, then context.")


class VideoExplanationShown(ExplanationShown):
    """What the map of a video says of one of its seconds."""

    video_id: str


class CaseExplanationShown(ExplanationShown):
    """What the maps of a case say of one of its seconds, over all files that the caller may read."""

    case_id: str


def show_video_explanation(found: Explanation) -> VideoExplanationShown:
    """The answer about a video."""
    return VideoExplanationShown.model_validate(found.to_json())


def show_case_explanation(found: Explanation) -> CaseExplanationShown:
    """The answer about a case, whose id ``found`` has in the place of a video's."""
    return CaseExplanationShown.model_validate({**found.to_json(), "case_id": found.video_id})
