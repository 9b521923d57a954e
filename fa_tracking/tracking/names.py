"""Every name that stands in MLflow. Nowhere else is one spelled."""

PARAMS = (
    "method",
    "architecture",
    "width",
    "depth",
    "dataset",
    "seed",
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "weight_decay",
    "penalty",
    "frozen_blocks",
    "augmentation",
)
"""The standard params. All but ``seed`` make the cell; a group over seeds is a cell."""

ACCURACY_TRAIN = "accuracy/train"
ACCURACY_TEST = "accuracy/test"
LOSS_TRAIN = "loss/train"
MAX_BLOCK_GROWTH = "diagnostics/max_block_growth"
DEEPEST_GRAD_NORM = "diagnostics/deepest_grad_norm"
GRAD_GAIN = "diagnostics/grad_gain"
STABILITY = "diagnostics/stability"
DIAGNOSTICS = "diagnostics/"
"""The prefix of these, and of what diagnostics beyond the four have measured."""
ALIGNMENT_MISSING = "diagnostics/alignment_missing"
EPOCH_SECONDS = "time/epoch_seconds"
DIAGNOSTICS_SECONDS = "time/diagnostics_seconds"


def residual_norm(layer: int) -> str:
    return f"residual_norm/h{layer}"


def grad_norm(layer: int) -> str:
    return f"grad_norm/g{layer}"


def alignment(layer: int) -> str:
    """Γ at h_layer, mean over samples."""
    return f"alignment/l{layer}"


def alignment_pooled(layer: int) -> str:
    """Γ at h_layer, all samples taken as one vector."""
    return f"alignment_pooled/l{layer}"


def alignment_null(layer: int) -> str:
    """Mean of Γ at h_layer over fresh draws of the feedback."""
    return f"alignment_null/l{layer}"


def alignment_null_sd(layer: int) -> str:
    """Sample standard deviation of Γ at h_layer over fresh draws of the feedback."""
    return f"alignment_null_sd/l{layer}"


CHECKPOINTS = "checkpoints"
AUDIT = "audit"
IMPORTED = "imported"
DATA_SOURCE = "data_source.json"
SUMMARY = "summary"
DASHBOARD = "dashboard.html"


def checkpoint(epoch: int) -> str:
    return f"{CHECKPOINTS}/epoch_{epoch:04d}"


TAG_VERDICT = "fa.verdict"
TAG_FLAGS = "fa.flags"
TAG_EVIDENCE = "fa.evidence"
TAG_CONTROL_RUNS = "fa.control_runs"
TAG_PROTOCOL_VERSION = "fa.protocol_version"
TAG_THRESHOLDS = "fa.thresholds"
TAG_MEASURED = "fa.measured"
TAG_CHECKPOINT_SHA256 = "fa.checkpoint_sha256"
TAG_AUDITED_AT = "fa.audited_at"
TAG_EVALUATED = "fa.evaluated"
TAG_DATA_DIR = "fa.data_dir"
TAG_CONFIG_SHA256 = "fa.config_sha256"
TAG_ABORTED_AT = "fa.aborted_at"
TAG_ABORTED_FOR = "fa.aborted_for"
TAG_PROCESS = "fa.process"
TAG_GIVEN = "fa.given"
"""JSON of what was given by hand for an imported run: h0_norm, control_accuracy, grad_batch, params, where given."""
TAG_IMPORT_NOTES = "fa.import_notes"
"""What of an imported log the reader of its report must know."""
TAG_IMPORTED_FROM = "fa.imported_from"
TAG_IMPORTED_SHA256 = "fa.imported_sha256"
TAG_SUMMARY = "fa.summary"
"""Of an experiment's one run that trains nothing and carries its dashboard; who reads runs leaves it out."""
TAG_NOTE = "mlflow.note.content"

TAG_VERSION = "fa.version"
TAG_TORCH = "fa.torch"
TAG_DEVICE = "fa.device"
TAG_DETERMINISTIC = "fa.deterministic"
TAG_GIT_COMMIT = "fa.git_commit"

TAG_LIMIT = 8000
"""MLflow cuts a longer tag without a word."""
