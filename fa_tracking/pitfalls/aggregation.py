"""The sign of Γ depends on how samples and layers are averaged

Four ways are in use, and all are called "the alignment": the mean over layers and samples of per-sample cosines; per
layer one cosine of all samples as one vector; per sample one cosine of all layers as one vector; one cosine of
batch-mean vectors. On one and the same network they differ in size and in sign (the protocol's own case: −0.028 to
+0.074). Here: a small network trained by DFA, measured once.
"""

from fa_tracking.pitfalls import Outcome

ORDER = 5
CURE = "Γ per layer, over samples"


def reproduce() -> Outcome:
    import torch

    from fa_tracking.pitfalls._tiny import credit, trained
    from fa_tracking.protocol.norms import cosine

    net, matrices, evaluation = trained()
    credits, grads = credit(matrices)(net, evaluation), evaluation.grads
    pairs = [(a, g) for a, g in zip(credits, grads, strict=True) if a is not None]
    every_a, every_g = (torch.cat(side, dim=1) for side in zip(*pairs, strict=True))
    ways = (
        torch.stack([cosine(a, g).mean() for a, g in pairs]).mean(),
        torch.stack([cosine(a.flatten(), g.flatten()) for a, g in pairs]).mean(),
        cosine(every_a, every_g).mean(),
        cosine(every_a.mean(dim=0), every_g.mean(dim=0)),
    )
    values = [way.item() for way in ways]
    seen = {"min": min(values), "max": max(values)}
    return Outcome({"Γ": values[0]}, seen, min(values) < 0 < max(values))
