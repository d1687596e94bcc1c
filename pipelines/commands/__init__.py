"""What people may ask for: each command checks the rules, records the request and its audit row, and no more.

The API calls these; the executor alone carries them out. One module a noun; this is the list of them all.
"""

from pipelines.commands.approvals import decide, waiting_promotion
from pipelines.commands.evaluations import cancel_evaluation, request_evaluation
from pipelines.commands.maintenance import end_maintenance, request_maintenance
from pipelines.commands.policy import request_policy
from pipelines.commands.promotions import request_promotion
from pipelines.commands.rollbacks import request_rollback

__all__ = [
    "cancel_evaluation",
    "decide",
    "end_maintenance",
    "request_evaluation",
    "request_maintenance",
    "request_policy",
    "request_promotion",
    "request_rollback",
    "waiting_promotion",
]
