"""The gradient's norm shrinks with the batch, the floor does not

With a loss that is averaged over the batch, each sample's gradient is divided by B, so one and the same network passes
a floor of 1e-7 at B = 128 and falls below it at B = 1,280. Here: a network whose residual stream is blown up until
its gradient stands a little above the floor, measured at both batch sizes.
"""

from fa_tracking.pitfalls import Outcome

ORDER = 9
CURE = "at a reference batch of 128"

SIZES = (128, 1280)
BLOWN_UP = 3e4


def reproduce() -> Outcome:
    import torch
    import torch.nn.functional as F

    from fa_tracking.pitfalls._tiny import data, new_net
    from fa_tracking.protocol.diagnostics import grad_norm
    from fa_tracking.protocol.norms import median_norms
    from fa_tracking.protocol.probe import capture
    from fa_tracking.protocol.thresholds import DiagnosticThresholds

    net = new_net()
    with torch.no_grad():
        for parameter in net.embed.parameters():
            parameter.mul_(BLOWN_UP)
    protocol, naive = {}, {}
    for size in SIZES:
        x, y = data(size, seed=3)
        logits, states = net(x, return_hidden=True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y), states[-1])
        naive[size] = median_norms([[gradient]])[0]
        protocol[size] = grad_norm.measure([capture(net, x, y)])["bp_grad_norms"][-1]
    floor = DiagnosticThresholds().g_norm_floor
    small, large = SIZES
    reproduced = naive[large] < floor < min(naive[small], protocol[small], protocol[large])
    return Outcome({f"B={large}": protocol[large]}, {f"B={large}": naive[large]}, reproduced)
