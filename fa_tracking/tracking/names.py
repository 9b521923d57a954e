"""Every name that stands in MLflow. Nowhere else is one spelled, but the two params that ``cells`` reads together."""

from fa_tracking.cells import FROZEN_BLOCKS, TRAINABLE_BLOCKS

PARAMS = (
    "method",
    "rule_definition",
    "architecture",
    "definition",
    "width",
    "depth",
    "expansion",
    "alpha",
    "dataset",
    "labels",
    "seed",
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "lr_schedule",
    "lr_warmup",
    "momentum",
    "weight_decay",
    "clip_norm",
    "penalty",
    "credit_normalisation",
    "credit_index",
    TRAINABLE_BLOCKS,
    "augmentation",
)
"""The standard params. All but ``seed`` make the cell; a group over seeds is a cell."""
OFTEN_CALLED = {
    "method": ("rule", "algorithm", "learning_rule", "training_method"),
    "architecture": ("arch", "model", "network", "net", "backbone"),
    "width": ("hidden", "hidden_size", "hidden_dim", "hidden_width", "dim", "d_model"),
    "depth": ("layers", "num_layers", "n_layers", "blocks", "num_blocks", "n_blocks"),
    "dataset": ("data", "data_set"),
    "epochs": ("num_epochs", "n_epochs", "max_epochs"),
    "batch_size": ("batch", "bs", "batchsize", "train_batch_size"),
    "optimizer": ("opt", "optim", "optimiser"),
    "lr": ("learning_rate", "lrate", "eta"),
    "weight_decay": ("wd", "l2"),
    "penalty": ("lam", "lambda", "lambda_", "residual_penalty"),
    FROZEN_BLOCKS: ("frozen", "freeze", "freeze_blocks", "is_frozen", "frozen_layers", "freeze_layers"),
}
"""By standard param, what people call it."""
LABORATORY = "laboratory"
"""A param that stands in no store: `fa-track merge` writes whose run it is into the results database."""

ACCURACY_TRAIN = "accuracy/train"
"""In [0, 1], over the epoch's training batches."""
ACCURACY_TEST = "accuracy/test"
"""In [0, 1], on the whole test set."""
LOSS_TRAIN = "loss/train"
"""Mean cross-entropy over the epoch's training batches."""
MAX_BLOCK_GROWTH = "diagnostics/max_block_growth"
"""(a): the largest ‖h_{l+1}‖/‖h_l‖."""
DEEPEST_GRAD_NORM = "diagnostics/deepest_grad_norm"
"""(b): ‖g_L‖, at mean reduction over a batch of 128."""
GRAD_GAIN = "diagnostics/grad_gain"
"""‖g_L‖/‖e‖, the median over samples, which tells a collapsed Jacobian from a small error."""
STABILITY = "diagnostics/stability"
"""(c): the mean pairwise cosine of the batch-mean gradients at layer ⌊L/2⌋."""
STREAM_GROWTH = "diagnostics/stream_growth"
"""(a) of the whole stream, over all tokens and features, where the states are read at the class token."""
CHANCE_ERROR = "diagnostics/chance_error"
"""√(1 − 1/C), ‖e‖ of a uniform output over C classes: the gain times it is what ‖g_L‖ would be at chance."""
DIAGNOSTICS = "diagnostics/"
"""The prefix of these, and of what diagnostics beyond the four have measured."""
ALIGNMENT_MISSING = "diagnostics/alignment_missing"
"""How many layers have a credit but no Γ: their gradient is below the floor, or no number."""
OF_DIAGNOSTICS = ("residual_norm/", "grad_norm/", DIAGNOSTICS)
"""What the names of the metrics begin with that a report is made of, beside the accuracy."""
EPOCH_SECONDS = "time/epoch_seconds"
"""Wall time of the epoch, without the diagnostics."""
DIAGNOSTICS_SECONDS = "time/diagnostics_seconds"
"""Wall time of measuring the diagnostics."""


def residual_norm(layer: int) -> str:
    """‖h_layer‖, the median over samples."""
    return f"residual_norm/h{layer}"


def grad_norm(layer: int) -> str:
    """‖g_layer‖, the median over samples, at mean reduction over a batch of 128."""
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


def perturbation(layer: int, of: str = "") -> str:
    """ρ at h_layer: correlation of the credit's word on small random moves with the change of the loss, in float64.

    ``of``: ``_bp`` of BP's gradient, ``_random`` of a random vector, ``_float32`` where all of it is in float32.
    """
    return f"perturbation{of}/l{layer}"


def nudge(layer: int, of: str = "") -> str:
    """Δ at h_layer: the mean change of the loss when the state moves by 0.01 against the credit, of RMS 1.

    ``of``: ``_bp`` of BP's gradient, ``_random`` of a random vector.
    """
    return f"nudge{of}/l{layer}"


CHECKPOINTS = "checkpoints"
"""The folder of the checkpoints."""
STATE = "state"
"""The folder of the training states of a run that is under way: the last two of them."""
AUDIT = "audit"
"""The folder of the auditor's report: report.txt, report.json, report.html."""
IMPORTED = "imported"
"""The folder of the log that an imported run was read from."""
DATA_SOURCE = "data_source.json"
"""What the auditor measures on, for a model logged with mlflow.pytorch.log_model."""
SUMMARY = "summary"
"""The name of the run that carries an experiment's dashboard."""
DASHBOARD = "dashboard.html"
"""The dashboard, in that run."""


def checkpoint(epoch: int) -> str:
    """A checkpoint's folder: model.safetensors, feedback.safetensors, config.json."""
    return f"{CHECKPOINTS}/epoch_{epoch:04d}"


def state(slot: int) -> str:
    """A training state's folder: state.safetensors, state.json."""
    return f"{STATE}/{slot}"


TAG_VERDICT = "fa.verdict"
"""The verdict, in the protocol's whole wording."""
TAG_FLAGS = "fa.flags"
"""The letters of the diagnostics that fire, joined by commas: a,b,d."""
TAG_EVIDENCE = "fa.evidence"
"""full, or partial where the run was judged by what it logged."""
TAG_CONTROL_RUNS = "fa.control_runs"
"""The ids of the runs that are the frozen control, joined by commas."""
TAG_PROTOCOL_VERSION = "fa.protocol_version"
"""The measurement revision of the numbers that the verdict is made of."""
TAG_REFERENCE = "fa.reference_gradient"
"""Set where the gradient that autograd returns is not BP's, by a run or its audit: (b) and (c) are not measured."""
TAG_THRESHOLDS = "fa.thresholds"
"""JSON of the audit's thresholds."""
TAG_MEASURED = "fa.measured"
"""JSON of every number that the audit measured, and of the block knock-out."""
TAG_CHECKPOINT_SHA256 = "fa.checkpoint_sha256"
"""SHA-256 of the weights that were measured."""
TAG_AUDITED_AT = "fa.audited_at"
"""When, in UTC."""
TAG_EVALUATED = "fa.evaluated"
"""Set where MLflow's evaluator judged, on data that the auditor has not: an audit leaves the run alone."""
TAG_DATA_DIR = "fa.data_dir"
"""The folder that the data was read from in training."""
TAG_CONFIG_SHA256 = "fa.config_sha256"
"""SHA-256 of a study's config, by which `fa-track study` knows what is done."""
TAG_ABORTED_AT = "fa.aborted_at"
"""The epoch at which a flag stopped the run."""
TAG_ABORTED_FOR = "fa.aborted_for"
"""The letters of the flags that stopped it."""
TAG_PROCESS = "fa.process"
"""Host and process that write the run, which tell a running one from one that was killed."""
TAG_DRIVER = "fa.driver"
"""Which `fa-track study run` has handed the run out: it alone knows that it was lost."""
TAG_ALIVE = "fa.alive"
"""When the process of a study's run last gave a sign of life, in seconds since 1970."""
TAG_GIVEN = "fa.given"
"""JSON of what was given by hand for an imported run: h0_norm, control_accuracy, grad_batch, params, where given."""
TAG_IMPORT_NOTES = "fa.import_notes"
"""What of an imported log the reader of its report must know."""
TAG_IMPORTED_FROM = "fa.imported_from"
"""The path of the log that an imported run was read from."""
TAG_IMPORTED_SHA256 = "fa.imported_sha256"
"""SHA-256 of that log, by which it is imported once."""
TAG_SUMMARY = "fa.summary"
"""Of an experiment's one run that trains nothing and carries its dashboard; who reads runs leaves it out."""
TAG_PARENT = "mlflow.parentRunId"
"""MLflow's own: the run that a nested run is nested in."""
TAG_NOTE = "mlflow.note.content"
"""MLflow's own: the note on a run's page; it holds the verdict and the printed report."""

TAG_KIND = "mlflow.experimentKind"
"""MLflow's own, of an experiment: where it is not set, MLflow may open its page on traces, without a run."""
KIND = "custom_model_development"
"""Training and evaluation of models, as MLflow calls it."""

TAG_VERSION = "fa.version"
"""FA-Track's version."""
TAG_TORCH = "fa.torch"
"""torch's version."""
TAG_DEVICE = "fa.device"
"""The device and the number of threads."""
TAG_DETERMINISTIC = "fa.deterministic"
"""Whether torch was told to use deterministic algorithms."""
TAG_GIT_COMMIT = "fa.git_commit"
"""The commit of the working folder, -dirty behind it where files were changed."""

TAG_LIMIT = 8000
"""MLflow cuts a longer tag without a word."""
