"""What people may ask for: each command checks the rules, records the request and its audit row, and no more.

The API calls these; the executor alone carries them out. One module a noun; this is the list of them all.
"""

from pipelines.commands.approvals import decide, waiting_promotion
from pipelines.commands.evalsets import add_evaluation_set
from pipelines.commands.evaluations import cancel_evaluation, request_evaluation
from pipelines.commands.feedback import TrueLabel, answered_by, give_feedback
from pipelines.commands.live_drift import request_look
from pipelines.commands.maintenance import end_maintenance, request_maintenance
from pipelines.commands.models import add_model, remove_model
from pipelines.commands.policy import request_policy
from pipelines.commands.promotions import request_promotion
from pipelines.commands.rollbacks import request_rollback

__all__ = [
    "TrueLabel",
    "add_evaluation_set",
    "add_model",
    "answered_by",
    "cancel_evaluation",
    "decide",
    "end_maintenance",
    "give_feedback",
    "remove_model",
    "request_evaluation",
    "request_look",
    "request_maintenance",
    "request_policy",
    "request_promotion",
    "request_rollback",
    "waiting_promotion",
]
