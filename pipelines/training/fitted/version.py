"""Lays out an estimator that was fitted elsewhere as the stages lay out theirs: one way into the registry for both.

What can't be converted, or answers otherwise in ONNX, is refused here, before anything is logged.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from pipelines.domain.description import Label, Task, label_text
from pipelines.errors import NotServable, UsageError
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot, write_snapshot
from pipelines.training.advice import advice, named
from pipelines.training.fitted.estimator import (
    categories_known,
    checked_estimator,
    classes_of,
    columns_taken,
    exported,
    positions_used,
)
from pipelines.training.fitted.rows import (
    checked_frame,
    checked_target,
    described,
    labels_of,
    positive_of,
    refuse_absent_labels,
    typed_rows,
)
from pipelines.training.register import Registration
from pipelines.training.score import compared, predict, refuse_other_gaps, write_measured
from pipelines.training.train import stable_skops
from pipelines.training.workspace import Workspace, report


@dataclass(frozen=True)
class Told:
    """What a person says of a fitted estimator: `features` in the words of model.yaml, `ids` name no features."""

    model: str
    task: Task
    positive: Label | None = None
    features: Mapping[str, Mapping[str, Any]] | None = None
    protected: Sequence[str] = ()
    ids: Sequence[str] = ()
    source: str | None = None


def checked_task(task: str) -> Task:
    """Return the task of that name; raise UsageError for another."""
    try:
        return Task(task)
    except ValueError:
        raise UsageError(f"{task!r} is no task", next=f"one of {', '.join(Task)}") from None


def lay_out(
    workspace: Workspace, estimator: Any, rows: Any, truth: Any, told: Told, *, train: tuple[Any, Any] | None = None
) -> Registration:
    """Write evaluation rows, model, export, predictions and metrics into `workspace`; return what is registered of it.

    `rows` (n, columns) are as the estimator takes them and `truth` (n,) is what was to be answered; `train` are such
    rows that it was fitted on. Raises UsageError for what is wrong with them, and NotServable.
    """
    given, y = checked_frame(rows, "X"), checked_target(truth, len(rows), "y")
    _refuse_absent_ids(given, told.ids)
    pipeline = checked_estimator(estimator, told.task)
    taken = columns_taken(pipeline, given, told.ids)
    used = positions_used(pipeline, len(taken))
    names = [taken[position] for position in used]
    if among := sorted(set(told.ids) & set(names)):
        raise UsageError(f"the estimator takes {', '.join(map(repr, among))}, which are ids", next="fit without them")
    if left_out := [name for name in given.columns if name not in (*names, *told.ids)]:
        report(f"no features, since the estimator does not look at them: {', '.join(left_out)}")
    trained = _training(train, given, told)
    everything = pd.concat([given[names], *([trained[0][names]] if trained else [])], ignore_index=True)
    labels = labels_of(y)
    classes = classes_of(pipeline, labels) if told.task is not Task.REGRESSION else ()
    if told.task is Task.MULTICLASS and told.positive is None and len(classes) <= 2:
        raise UsageError(f"{_counted(classes)}, and task multiclass needs more than two", next="task='binary'")
    description = described(
        everything,
        model=told.model,
        target=_target(y, names),
        task=told.task,
        classes=classes,
        positive=_positive(told, labels, classes),
        declared=told.features,
        protected=told.protected,
        known=categories_known(pipeline, taken),
    )
    evaluation = typed_rows(given[names], y, description)
    refuse_absent_labels(evaluation, description)
    write_snapshot(workspace.evaluation, evaluation, description)
    if trained:
        typed = typed_rows(trained[0][names], trained[1], description)
        # Nobody has said which of them are for reference, so all are.
        for path in (workspace.train, workspace.reference):
            write_snapshot(path, typed, description)
    evaluated = read_snapshot(workspace.evaluation)
    done = converted(pipeline, given[taken], evaluated, used, classes, trained=trained[0] if trained else None)
    workspace.onnx_model.parent.mkdir(parents=True, exist_ok=True)
    workspace.onnx_model.write_bytes(done.onnx)
    workspace.sklearn_model.write_bytes(stable_skops(pipeline))
    write_measured(workspace, done.predictions, done.metrics)
    file = Path(told.source) if told.source else None
    return Registration(
        model=told.model,
        parameters=_parameters(pipeline, description),
        source=told.source or "notebook",
        source_digest=digest_of_file(file) if file and file.is_file() else None,
        git_root=Path.cwd(),
    )


def lay_out_rows(workspace: Workspace, rows: Any, truth: Any, told: Told) -> None:
    """Write evaluation rows of a model that somebody exports himself, whose labels are those of `truth`."""
    given, y = checked_frame(rows, "X"), checked_target(truth, len(rows), "y")
    labels = labels_of(y)
    classes = tuple(set(labels)) if told.task is not Task.REGRESSION else ()
    description = described(
        given,
        model=told.model,
        target=_target(y, list(given.columns)),
        task=told.task,
        classes=classes,
        positive=_positive(told, labels, classes),
        declared=told.features,
        protected=told.protected,
    )
    write_snapshot(workspace.evaluation, typed_rows(given, y, description), description)


@dataclass(frozen=True)
class Converted:
    """The ONNX form of an estimator, what the estimator itself answers to each evaluation row, and how well."""

    onnx: bytes
    predictions: pd.DataFrame
    metrics: dict[str, float]


def converted(
    pipeline: Pipeline,
    given: pd.DataFrame,
    evaluation: Snapshot,
    used: Sequence[int],
    classes: Sequence[Label],
    *,
    trained: pd.DataFrame | None = None,
) -> Converted:
    """Export a fitted pipeline and compare its answers; `given` are the evaluation rows as it takes them.

    `used` are the positions in `given` of the columns that are features, and `classes` are the pipeline's own labels.
    `trained` are rows that it was fitted on. Raises NotServable where ONNX can't say what it answers, or says
    otherwise.
    """
    texts = tuple(map(label_text, classes))
    with warnings.catch_warnings():
        # Of rows with names that it was fitted without, of converters of their own age: what matters is compared.
        warnings.simplefilter("ignore")
        content = exported(pipeline, evaluation.description, used, texts)
        try:
            predictions = predict(pipeline, given, evaluation.description, texts)
            metrics = compared(content, evaluation, predictions)
        except NotServable as error:
            next_step = advice(
                pipeline, otherwise=f"fit it on numbers of float32, as the model is given: {_AS_FLOAT32}"
            )
            raise NotServable(f"{named(pipeline)}: {error.message}", next=error.next or next_step) from error

        def answers(name: str, rows: pd.DataFrame) -> pd.DataFrame:
            asked = given.iloc[rows.index].copy()
            asked[name] = _gaps(name, len(rows), given, trained)
            return predict(pipeline, asked, evaluation.description, texts)

        refuse_other_gaps(content, evaluation, answers, what=named(pipeline))
    return Converted(content, predictions, metrics)


def _gaps(name: str, count: int, given: pd.DataFrame, trained: pd.DataFrame | None) -> Any:
    """Return so many missing values of a column, as the rows write them, or else as pandas does."""
    for rows in (given, trained):
        if rows is not None and rows[name].isna().any():
            return rows[name][rows[name].isna()].iloc[[0] * count].array
    column = given[name].iloc[[0] * count]
    # Masked as they are, truths would become objects, which boosting libraries refuse.
    known = column.astype(np.float64) if column.dtype == np.bool_ else column
    return known.mask(np.ones(count, dtype=bool)).array


_AS_FLOAT32 = "X.astype({name: 'float32' for name in X.select_dtypes('number')})"


def _training(
    train: tuple[Any, Any] | None, given: pd.DataFrame, told: Told
) -> "tuple[pd.DataFrame, pd.Series] | None":
    """Return the rows that the estimator was fitted on; raise UsageError where one of them evaluates as well."""
    if train is None:
        return None
    rows = checked_frame(train[0], "X of train")
    absent = [name for name in given.columns if name not in rows.columns]
    if absent:
        raise UsageError(f"train has no column {', '.join(map(repr, absent))}", next="give it the columns of X")
    if told.ids:
        ids = list(told.ids)
        same = int(given[ids].merge(rows[ids].drop_duplicates(), on=ids).shape[0])
        if same:
            raise UsageError(
                f"{same} of {len(given)} evaluation rows are among those of train, by {', '.join(ids)}",
                next="evaluate on rows that the estimator was not fitted on",
            )
    return rows, checked_target(train[1], len(rows), "y of train")


def _refuse_absent_ids(rows: pd.DataFrame, ids: Sequence[str]) -> None:
    if absent := [name for name in ids if name not in rows.columns]:
        raise UsageError(
            f"X has no column {', '.join(map(repr, absent))}, which ids names",
            next="give it with its ids, as columns that the estimator does not take, or leave ids out",
        )


def _target(y: "pd.Series[Any]", features: Sequence[str]) -> str:
    name = str(y.name) if y.name is not None else "target"
    while name in features:
        name = f"{name} (target)"
    return name


def _positive(told: Told, labels: Sequence[Label], classes: Sequence[Label]) -> Label | None:
    if told.task is not Task.BINARY:
        if told.positive is not None:
            raise UsageError(f"task {told.task} has no positive label", next="leave positive out, or task='binary'")
        return None
    if len(classes) != 2:
        raise UsageError(
            f"{_counted(classes)}, and task binary needs two",
            next="task='multiclass'" if len(classes) > 2 else "give rows of both",
        )
    # As the estimator answers it: the labels of the rows may be of another type.
    by_text = {label_text(label): label for label in classes}
    if told.positive is not None:
        if label_text(told.positive) not in by_text:
            raise UsageError(f"the estimator never answers {told.positive!r}", next=f"name one of {list(classes)}")
        return by_text[label_text(told.positive)]
    known = [by_text[text] for text in map(label_text, labels) if text in by_text]
    positive = positive_of(known or classes)
    report(f"positive label: {positive!r}; positive=... names another")
    return positive


def _counted(classes: Sequence[Label]) -> str:
    named = ", ".join(map(repr, sorted(classes, key=label_text)[:5]))
    return f"there are {len(classes)} labels ({named})"


def _parameters(pipeline: Pipeline, description: SnapshotDescription) -> dict[str, str]:
    last = pipeline.steps[-1][1]
    own = {
        f"estimator.parameters.{key}": str(value)[:500]
        for key, value in sorted(last.get_params(deep=False).items())
        if isinstance(value, str | int | float | bool)
    }
    kind = type(last)
    # A person's own run may have a parameter of a plainer name.
    described = {"slipway.task": str(description.task), "slipway.target": description.target}
    return {**described, "estimator.path": f"{kind.__module__}.{kind.__name__}", **own}
