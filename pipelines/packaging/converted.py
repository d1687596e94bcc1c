"""What goes into the conversion of a version and what comes back, which moves on as bytes: nobody here reads it."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, FiniteFloat, StringConstraints

from pipelines.packaging.confined import Form

# Names of what a conversion answers with: the files of an ONNX model as MLflow keeps it, and the estimator's answers.
MODEL_FILES = ("MLmodel", "model.onnx", "requirements.txt")
PREDICTIONS_FILE = "predictions.parquet"
_MetricName = Annotated[str, StringConstraints(pattern="^[a-z0-9_]{1,60}$")]


class ConversionTask(Form):
    """Asks for the ONNX form of a version whose files and evaluation rows are in the job's directory."""

    version: str = Field(description="How the version is called in a refusal.")
    model: str = Field(description="The registered model.")


class ConvertedVersion(Form):
    """The files of the converted model and the estimator's own predictions in base64, and its metrics."""

    files: dict[str, str] = Field(max_length=len(MODEL_FILES))
    predictions: str
    metrics: dict[_MetricName, FiniteFloat] = Field(max_length=50)

    def write(self, folder: Path) -> None:
        """Write the files into a folder: those of the model into `model`; raise ValueError for what is none."""
        if set(self.files) != set(MODEL_FILES):
            raise ValueError(f"it has the files {sorted(self.files)}")
        (folder / "model").mkdir(parents=True)
        for name, content in self.files.items():
            (folder / "model" / name).write_bytes(base64.b64decode(content, validate=True))
        (folder / PREDICTIONS_FILE).write_bytes(base64.b64decode(self.predictions, validate=True))


@dataclass(frozen=True)
class ConvertedFolder:
    """What is registered of a converted version beside the files in its folder: the name, tags and metrics of a run."""

    EVALUATION: ClassVar[str] = "evaluation.parquet"
    # Where the version that was converted has logged one.
    REFERENCE: ClassVar[str] = "reference.parquet"
    _FILE: ClassVar[str] = "converted.json"

    model: str
    tags: dict[str, str]
    metrics: dict[str, float]

    def write(self, folder: Path) -> None:
        """Write it into its folder."""
        (folder / self._FILE).write_text(json.dumps(vars(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ConvertedFolder":
        """Return what `write` wrote."""
        return cls(**json.loads((folder / cls._FILE).read_text(encoding="utf-8")))
