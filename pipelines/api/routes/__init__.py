"""The routes under /api/v1, a noun a module: each authenticates, calls one command or reads records, and translates."""

from pipelines.api.routes import (
    approvals,
    archives,
    audit,
    evaluations,
    maintenance,
    policy,
    promotions,
    releases,
    rollbacks,
    status,
    versions,
)

ROUTERS = tuple(
    noun.router
    for noun in (
        versions,
        evaluations,
        promotions,
        approvals,
        releases,
        rollbacks,
        policy,
        maintenance,
        archives,
        audit,
        status,
    )
)
