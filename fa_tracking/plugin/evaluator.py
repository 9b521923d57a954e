"""Model evaluator ``fa_protocol``: ``mlflow.models.evaluate`` runs the protocol on a PyTorch model.

    mlflow.models.evaluate(
        model=uri, data=inputs, targets=labels, model_type="feedback_alignment", evaluators="fa_protocol"
    )

MLflow loads this whenever anything is evaluated, so what measures is imported only when it does.
"""

from typing import TYPE_CHECKING, Any

from mlflow.models import EvaluationResult
from mlflow.models.evaluation import ModelEvaluator
from mlflow.models.evaluation.artifacts import JsonEvaluationArtifact, TextEvaluationArtifact

from fa_tracking.errors import UsageError
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from mlflow.data.evaluation_dataset import EvaluationDataset
    from mlflow.pyfunc import PyFuncModel

MODEL_TYPE = "feedback_alignment"
REPORTS = {"txt": TextEvaluationArtifact, "html": TextEvaluationArtifact, "json": JsonEvaluationArtifact}


class FAProtocolEvaluator(ModelEvaluator):
    """Measures a model logged with ``mlflow.pytorch.log_model``; verdict, report and metrics go to the active run.

    Without a model, ``data`` is a frame of diagnostics that were logged elsewhere, and the evidence is partial.
    What ``evaluator_config`` takes: ``fa_tracking.auditor.evaluate.Config``.
    """

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, evaluator_config: dict[str, Any] | None, **_: Any) -> bool:
        """Whether this evaluator is meant."""
        return model_type == MODEL_TYPE

    def evaluate(
        self,
        *,
        dataset: "EvaluationDataset",
        run_id: str,
        evaluator_config: dict[str, Any] | None,
        model: "PyFuncModel | None" = None,
        model_id: str | None = None,
        **others: Any,
    ) -> EvaluationResult:
        """What MLflow calls.

        Returns:
            The metrics by their standard names, and the reports as artifacts; ``report.json`` holds the verdict.

        Raises:
            UsageError: the configuration or the data makes no sense.
            FATrackError: the model cannot be measured, or the store failed.
        """
        from fa_tracking.auditor.evaluate import evaluate, log_metrics

        if unused := [name for name in ("extra_metrics", "custom_artifacts") if others.get(name)]:
            raise UsageError(f"fa_protocol takes no {' and no '.join(unused)}")
        found = evaluate(run_id, model, dataset, evaluator_config or {})
        if model_id is None:  # of a logged model, MLflow itself logs what is returned
            log_metrics(run_id, found.history)
        folder = f"{found.run.info.artifact_uri.rstrip('/')}/{names.AUDIT}"
        reports = {f"report.{kind}": artifact(f"{folder}/report.{kind}") for kind, artifact in REPORTS.items()}
        for report in reports.values():
            report._load()  # EvaluationResult.save writes only what has been loaded
        return EvaluationResult(found.metrics, reports, run_id)
