"""Γ against other feedback matrices than those that trained the network is about 0

Weights align with the very matrices that trained them (Lillicrap et al. 2016). Where these were not saved and the
analysis draws new ones, or a seed gives others after a change of the code, Γ measures two unrelated vectors: it says
nothing of the training, and reads as a failure to align. The protocol's own case: +0.068 with the training feedback,
+0.004 ± 0.007 with ten fresh draws. Here: Γ at layer 0 of a small network trained by DFA.
"""

from fa_tracking.pitfalls import Outcome

ORDER = 4
CURE = "feedback matrices are saved"

DRAWS = 10
LAYER = 0


def reproduce() -> Outcome:
    from fa_tracking.pitfalls._tiny import credit, feedback, trained
    from fa_tracking.protocol.alignment import alignment

    net, matrices, evaluation = trained()
    fresh = [credit(feedback(1000 + draw)) for draw in range(DRAWS)]
    measured = alignment(net, [evaluation], credit(matrices), fresh, floor=0)
    gamma, mean, sd = measured.gamma[LAYER], measured.null_mean[LAYER], measured.null_sd[LAYER]
    assert gamma is not None and mean is not None and sd is not None
    return Outcome({"Γ": gamma}, {"Γ fresh": mean, "±": sd}, gamma - mean > 3 * sd)
