"""The routes under /api/v1, a noun a module: each authenticates, calls one command or reads records, and translates."""

from pipelines.api.routes import (
    approvals,
    archives,
    audit,
    evalsets,
    evaluations,
    feedback,
    lineage,
    live,
    maintenance,
    models,
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
        models,
        archives,
        audit,
        evalsets,
        lineage,
        status,
        live,
        feedback,
    )
)
