"""The body and the answer of the search of moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, Field, model_validator

from halsted_ray.search.text_question import LONGEST_TEXT
from halsted_ray.service.annotation_schemas import LONGEST_S, MomentShown, show_moment
from halsted_ray.service.similar_moments import Moment


class NewSearch(BaseModel):
    """What to look for: ``text``, or ``video_id`` with ``at_s``."""

    text: str | None = Field(None, min_length=1, max_length=LONGEST_TEXT, description="In English, as the model reads.")
    video_id: str | None = Field(None, pattern="^[0-9a-f]{16,64}$")
    at_s: float | None = Field(None, ge=0, le=LONGEST_S)
    procedure: str | None = Field(None, max_length=200, description="Only where the model's map says this procedure.")
    step: str | None = Field(None, max_length=200, description="Only where the model's map says this step.")
    tag: str | None = Field(None, max_length=200, description="Whose row is shown; null: the shortest row there.")
    limit: int = Field(12, ge=1, le=50)

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        by_example = self.video_id is not None and self.at_s is not None
        if (self.text is None) != by_example or (self.video_id is None) != (self.at_s is None):
            raise ValueError("expected text, or video_id with at_s")
        return self


class MomentsFound(BaseModel):
    """The moments that were found, the most similar first."""

    moments: list[MomentShown]


def show_found(moments: Sequence[Moment]) -> MomentsFound:
    """The answer that shows what a search found."""
    return MomentsFound(moments=[show_moment(moment) for moment in moments])
