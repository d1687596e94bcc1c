"""The trainer's side of a real MLflow: logs runs and registers versions as the tests want them."""

import tempfile
import warnings
from pathlib import Path

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LogisticRegression

from pipelines.domain.version import RegisteredVersion


class MlflowTrainer:
    """Registers any model with any signature on the server at `uri`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(uri)

    def register(
        self,
        model: str,
        *,
        onnx: bytes | None,
        input_types: dict[str, str],
        artifacts: dict[str, bytes],
        run_tags: dict[str, str],
    ) -> RegisteredVersion:
        """Log a run and register its model; `onnx` None registers a scikit-learn model instead."""
        mlflow.set_tracking_uri(self._uri)
        try:
            mlflow.set_experiment(model)
            with mlflow.start_run(tags=run_tags) as run:
                for path, content in artifacts.items():
                    self.log_file(run.info.run_id, path, content)
                uri = _logged(onnx, input_types)
            made = mlflow.register_model(uri, model)
        finally:
            # A registry that relied on the process-wide address would then find nobody there.
            mlflow.set_tracking_uri("http://127.0.0.1:9")
        return RegisteredVersion(model, str(made.version), run.info.run_id, str(made.source))

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        """Write, or overwrite, one artifact of a run."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(path).name
            local.write_bytes(content)
            self._client.log_artifact(run_id, str(local), str(Path(path).parent))

    def overwrite(self, version: RegisteredVersion, name: str, content: bytes) -> None:
        """Overwrite one file of a registered version, as anyone with rights on the experiment can."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / name
            local.parent.mkdir(exist_ok=True)
            local.write_bytes(content)
            self._client.log_model_artifacts(version.source.removeprefix("models:/"), folder)


def _logged(content: bytes | None, input_types: dict[str, str]) -> str:
    columns: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in input_types.items()]
    signature = ModelSignature(Schema(columns), Schema([ColSpec("string", "label")])) if columns else None
    with warnings.catch_warnings():
        # MLflow itself warns of a model without signature.
        warnings.simplefilter("ignore")
        if content is None:
            fitted = LogisticRegression().fit([[0.0], [1.0]], ["a", "b"])
            info = mlflow.sklearn.log_model(
                fitted, name="sklearn", signature=signature, pip_requirements=["scikit-learn"]
            )
        else:
            info = mlflow.onnx.log_model(
                onnx.load_model_from_string(content),
                name="onnx",
                signature=signature,
                pip_requirements=["onnxruntime"],
                save_as_external_data=False,
            )
    return str(info.model_uri)
