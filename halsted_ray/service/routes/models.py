"""/v1/models: the model that is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from halsted_ray.service.deps import Components, Reader

router = APIRouter(prefix="/v1/models")


@router.get("")
async def show_models(caller: Reader, components: Components) -> dict[str, Any]:
    """The deployed model: version, lineage, card, and the instructions that it knows. ``serving`` is the model that
    tags clips at this moment: for a few seconds after a change that is the version before."""
    served = await run_in_threadpool(components.model_source)
    serving = await components.serving_model() if components.serving_model else None
    return {"models": [served.described()], "serving": serving}
