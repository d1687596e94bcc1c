"""The ways of work: which state may follow which, for everything that people ask for.

States change along these ways only, whoever changes them: a command, the executor or a workflow.
"""

from collections.abc import Mapping

from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, Maintenance, PolicyChange, Promotion, Rollback

Work = Evaluation | Promotion | Rollback | PolicyChange | AddedSet | Maintenance

_REQUESTED, _RUNNING, _WAITING = RunState.REQUESTED, RunState.RUNNING, RunState.WAITING
_APPROVED, _DONE, _STOPPED = RunState.APPROVED, RunState.DONE, RunState.STOPPED

# A workflow is started before it is written down as running, so it may end before that.
_CARRIED_OUT = {_REQUESTED: {_RUNNING, _DONE, _STOPPED}, _RUNNING: {_DONE, _STOPPED}}

_WAYS: Mapping[type[Work], Mapping[RunState, set[RunState]]] = {
    Evaluation: _CARRIED_OUT,
    Rollback: _CARRIED_OUT,
    Maintenance: _CARRIED_OUT,
    AddedSet: _CARRIED_OUT,
    PolicyChange: {_REQUESTED: {_DONE, _STOPPED}},
    # First measured, then decided on by people, then released.
    Promotion: {
        _REQUESTED: {_WAITING, _STOPPED},
        _WAITING: {_APPROVED, _STOPPED},
        _APPROVED: {_RUNNING, _DONE, _STOPPED},
        _RUNNING: {_DONE, _STOPPED},
    },
}


def may_become(work: Work, state: RunState) -> bool:
    """Whether work may go on to a state; from a final one nothing follows."""
    return state in _WAYS[type(work)].get(work.state, set())
