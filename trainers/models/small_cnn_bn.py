"""SmallCNN with BatchNorm: the study's text says that it has one, its script lists none (arXiv:2606.21126)."""

from typing import ClassVar

from fa_tracking.trainers.models import small_cnn


class Model(small_cnn.Model):
    """``small_cnn`` with BatchNorm before each convolution's ReLU, and no bias in the convolutions."""

    batch_norm: ClassVar[bool] = True
