"""Puts the gates of this code in force: a change is audited once, and whoever waits on a report of others is told.

Earlier passes are void for new promotions then. What was asked for before goes on by the report that it was asked with.
"""

from pipelines.domain.records import Evaluation, Promotion
from pipelines.governance.progress import report_progress
from pipelines.governance.standing import GATES, GATES_CHANGE, gates_in_force
from pipelines.ports import Transaction
from pipelines.releases.leases import confirm_leader
from pipelines.releases.services import Services


def put_gates_in_force(services: Services, digest: str) -> None:
    """Record the digest of the code that measures from now on, where it is another; raise LostLease."""
    if gates_in_force(services.records) == digest:
        return
    with services.records.write() as transaction:
        confirm_leader(services, within=transaction)
        was = gates_in_force(transaction)
        transaction.audit("executor", GATES_CHANGE, "outcome", subject=GATES, detail={"was": was, "digest": digest})
        for promotion in transaction.find(Promotion):
            if not promotion.state.final:
                _tell(transaction, promotion, digest)


def _tell(transaction: Transaction, promotion: Promotion, digest: str) -> None:
    report = transaction.get(Evaluation, promotion.evaluation_id).report
    if report is None or report.get("gates_digest") == digest:
        return
    told = (
        f"its report was made by the gates {report.get('gates_digest') or 'of a Slipway that did not record them'}, and"
        f" {digest} are in force now: it goes on by that report; to have it measured again, reject it and promote again"
    )
    report_progress(transaction, promotion.id, "gates changed", told)
