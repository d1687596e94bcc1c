"""Promotions between their workflows: measured ones wait for people, and those that nobody decides on expire."""

from collections.abc import Callable

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Promotion
from pipelines.errors import ApprovalExpired
from pipelines.governance.standing import expiry
from pipelines.governance.work import move, stop
from pipelines.releases.services import Services


def let_wait(services: Services, beat: Callable[[], None]) -> None:
    """Ask people about each promotion whose evaluation is done; call `beat` before each."""
    for promotion in services.records.find(Promotion, state=RunState.REQUESTED):
        beat()
        if services.records.get(Evaluation, promotion.evaluation_id).state is not RunState.DONE:
            continue
        until = expiry(services.policy(promotion.model), services.now())
        with services.records.write() as transaction:
            current = transaction.get(Promotion, promotion.id)
            if current.state is RunState.REQUESTED:
                move(transaction, current, RunState.WAITING, expires_at=until)
                detail = {"state": str(RunState.WAITING), "error": None}
                transaction.audit("executor", "promotion.move", "outcome", subject=promotion.id, detail=detail)


def expire(services: Services, beat: Callable[[], None]) -> None:
    """Stop each promotion that nobody decided on in time; call `beat` before each."""
    for promotion in services.records.find(Promotion, state=RunState.WAITING):
        beat()
        if not promotion.expires_at or promotion.expires_at >= services.now():
            continue
        again = f'ask again: "make promote VERSION={promotion.version}"'
        error = ApprovalExpired(f"nobody decided on {promotion.id} in time", next=again)
        with services.records.write() as transaction:
            current = transaction.get(Promotion, promotion.id)
            if current.state is RunState.WAITING:
                stop(transaction, current, error, at=services.now())
                detail = {"state": str(RunState.STOPPED), "error": error.as_dict()}
                transaction.audit("executor", "promotion.move", "outcome", subject=promotion.id, detail=detail)
