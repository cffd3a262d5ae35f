"""The answer of the API that shows the stitches of a video."""

from __future__ import annotations

from pydantic import BaseModel, Field


class StitchShown(BaseModel):
    """One stitch. Times in seconds of the video; a phase that the map does not show has 0 seconds."""

    index: int = Field(description="From 1 on, in order of time.")
    start_s: float
    stop_s: float
    target: str | None = Field(description="What is driven through; null where the map does not say.")
    direction: str | None
    extent: str | None
    handling_s: float
    driving_s: float
    withdrawal_s: float
    proficiency: str | None
    proficiency_probability: float | None = Field(description="Of this proficiency, 0 to 1.")
    confidence: float = Field(description="Of the least sure phase, 0 to 1.")


class StitchTotalsShown(BaseModel):
    """Medians over the stitches that show the phase, and the share of high proficiency, each with the borders of its
    95% interval; null where there are too few stitches for it."""

    count: int
    handling_s: float | None
    handling_low_s: float | None
    handling_high_s: float | None
    handling_n: int
    driving_s: float | None
    driving_low_s: float | None
    driving_high_s: float | None
    driving_n: int
    withdrawal_s: float | None
    withdrawal_low_s: float | None
    withdrawal_high_s: float | None
    withdrawal_n: int
    high_share: float | None
    high_low: float | None
    high_high: float | None
    proficiency_n: int = Field(description="How many stitches have a proficiency.")


class StitchesShown(BaseModel):
    """The stitches of a video."""

    video_id: str
    model_version: str
    asked: bool = Field(description="Whether the map was asked for the phases of suturing.")
    complete: bool = Field(description="false: parts of the video could not be mapped for suturing, or are unknown.")
    why_none: str = Field(description="Why there is no stitch, in words; empty where there is one.")
    stitches: list[StitchShown]
    totals: StitchTotalsShown


class CaseStitchShown(StitchShown):
    """A stitch of a case. Times in seconds of the case, but for ``file_start_s``."""

    video_id: str = Field(description="The file in which it begins.")
    file: int = Field(description="The number of that file.")
    file_start_s: float = Field(description="When it begins, in seconds of that file.")


class CaseStitchesShown(BaseModel):
    """The stitches of a case, over all of its files."""

    case_id: str
    model_version: str = Field(description="Several, with commas, where the files were mapped by several.")
    asked: bool = Field(description="Whether some map was asked for the phases of suturing.")
    complete: bool = Field(description="false: parts of the case are not mapped for suturing, unknown, or hidden.")
    why_none: str = Field(description="Why there is no stitch, in words; empty where there is one.")
    stitches: list[CaseStitchShown]
    totals: StitchTotalsShown
