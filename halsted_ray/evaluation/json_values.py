"""Figures as JSON values."""

from __future__ import annotations

import math
from typing import Any

Figures = dict[str, Any]
"""JSON values: what `evaluation.json` and the reports hold."""


def without_nan(value: Any) -> Any:
    """``value`` with None in the place of each NaN: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
