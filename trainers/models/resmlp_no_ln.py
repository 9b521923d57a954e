"""ResMLP without the terminal LayerNorm: what the study's draft calls StudentNet by mistake (arXiv:2606.21126)."""

from typing import ClassVar

from fa_tracking.trainers.models import resmlp


class Model(resmlp.Model):
    """logits = W h_L + b; of the same seed the weights are ``resmlp``'s."""

    terminal_norm: ClassVar[bool] = False
