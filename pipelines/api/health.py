"""/health, open to everybody: whether the API lives."""

from typing import Literal

from fastapi import APIRouter

from pipelines.api.responses import ResponseBody

router = APIRouter(tags=["health"])


class Health(ResponseBody):
    """Answered while the process lives."""

    status: Literal["ok"]


@router.get("/health")
async def show_health() -> Health:
    """Answer while the API lives; nothing behind it is asked, and it needs no thread, which others may have taken."""
    return Health(status="ok")
