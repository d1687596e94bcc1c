"""Who may write what in MLflow: each of its routes that writes, and the role that may.

What stands nowhere is nobody's, so what a later MLflow adds is refused until somebody has thought about it; a test
compares this table with the routes of the MLflow that is installed.
"""

import re
from enum import Enum, auto


class Role(Enum):
    """Who may write."""

    # Everybody whom MLflow knows: it is sent like something that writes, and writes nothing.
    READER = auto()
    # Whoever may edit all experiments, where MLflow's permissions on this one or the registered model allow it too.
    MEMBER = auto()
    PROMOTER = auto()
    ADMIN = auto()
    NOBODY = auto()


_TABLE = {
    Role.READER: """
        POST   /2.0/mlflow/experiments/search
        POST   /2.0/mlflow/experiments/search-datasets
        POST   /2.0/mlflow/logged-models/search
        POST   /2.0/mlflow/registered-models/get-latest-versions
        POST   /2.0/mlflow/runs/search
        POST   /3.0/mlflow/datasets/search
        POST   /3.0/mlflow/issues/search
        POST   /3.0/mlflow/traces/batchGetInfos
        POST   /3.0/mlflow/traces/calculate-filter-correlation
        POST   /3.0/mlflow/traces/metrics
        POST   /3.0/mlflow/traces/search
        POST   /graphql
    """,
    Role.MEMBER: """
        POST   /2.0/mlflow/experiments/create
        POST   /2.0/mlflow/experiments/set-experiment-tag
        POST   /2.0/mlflow/logged-models
        PATCH  /2.0/mlflow/logged-models/<model_id>
        POST   /2.0/mlflow/logged-models/<model_id>/params
        PATCH  /2.0/mlflow/logged-models/<model_id>/tags
        POST   /2.0/mlflow/model-versions/create
        DELETE /2.0/mlflow/model-versions/delete-tag
        POST   /2.0/mlflow/model-versions/set-tag
        PATCH  /2.0/mlflow/model-versions/update
        POST   /2.0/mlflow/registered-models/create
        POST   /2.0/mlflow/runs/create
        POST   /2.0/mlflow/runs/log-batch
        POST   /2.0/mlflow/runs/log-inputs
        POST   /2.0/mlflow/runs/log-metric
        POST   /2.0/mlflow/runs/log-model
        POST   /2.0/mlflow/runs/log-parameter
        POST   /2.0/mlflow/runs/outputs
        POST   /2.0/mlflow/runs/set-tag
        POST   /2.0/mlflow/runs/update
        PUT    /2.0/mlflow-artifacts/artifacts/<path:artifact_path>
    """,
    Role.PROMOTER: """
        DELETE /2.0/mlflow/model-versions/delete
        POST   /2.0/mlflow/model-versions/transition-stage
        DELETE /2.0/mlflow/registered-models/alias
        POST   /2.0/mlflow/registered-models/alias
        DELETE /2.0/mlflow/registered-models/delete
        DELETE /2.0/mlflow/registered-models/delete-tag
        POST   /2.0/mlflow/registered-models/rename
        POST   /2.0/mlflow/registered-models/set-tag
        PATCH  /2.0/mlflow/registered-models/update
    """,
    Role.ADMIN: """
        POST   /2.0/mlflow/experiments/delete
        POST   /2.0/mlflow/experiments/delete-experiment-tag
        POST   /2.0/mlflow/experiments/restore
        POST   /2.0/mlflow/experiments/update
        DELETE /2.0/mlflow/logged-models/<model_id>
        DELETE /2.0/mlflow/logged-models/<model_id>/tags/<tag_key>
        POST   /2.0/mlflow/runs/delete
        POST   /2.0/mlflow/runs/delete-tag
        POST   /2.0/mlflow/runs/restore
        POST   /2.0/mlflow/users/create
        DELETE /2.0/mlflow/users/delete
        PATCH  /2.0/mlflow/users/update-admin
        PATCH  /2.0/mlflow/users/update-password
        POST   /3.0/mlflow/users/permissions/grant
        POST   /3.0/mlflow/users/permissions/revoke
    """,
}
_ROLES = {tuple(line.split()): role for role, lines in _TABLE.items() for line in lines.strip().splitlines()}
# Parts of MLflow that an installation has no use for, and other ways to write files: thought about, and refused.
_NOBODYS = re.compile(
    r"/2\.0/mlflow-artifacts/(?:artifacts|mpu)/.*"
    r"|/2\.0/mlflow/(?:artifacts/presigned-(?:down|up)load-url|gateway-proxy|traces|upload-artifact|webhooks)(?:/.*)?"
    r"|/2\.0/mlflow/(?:runs/create-promptlab-run|users/create-ui)"
    r"|/2\.0mlflow/experiments/search-datasets"
    r"|/3\.0/mlflow/(?:assistant|datasets|demo|gateway|genai|issues|jobs|label-schemas|mcp-servers|prompt-optimization"
    r"|review-queues|roles|scorers?|traces|ui-telemetry|workspaces)(?:/.*)?"
    r"|/3\.0/jobs(?:/.*)?"
    r"|/(?:gateway|v1)/.*"
)
_PREFIX = re.compile(r"/(?:ajax-)?api(?=/)")


def role_of(method: str, route: str) -> Role | None:
    """Return who may send `method` to a route, as MLflow names it; None where nobody has thought about it."""
    path = _PREFIX.sub("", route, count=1)
    if role := _ROLES.get((method, path)):
        return role
    return Role.NOBODY if _NOBODYS.fullmatch(path) else None


def known() -> set[tuple[str, str]]:
    """Return the routes that somebody may write to."""
    return set(_ROLES)  # type: ignore[arg-type]  # each line has two words
