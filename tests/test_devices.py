"""On a GPU nothing that a step meets lies elsewhere: told by torch's fake tensors, where there is none."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fa_tracking import catalogue
from fa_tracking.errors import UsageError
from fa_tracking.protocol.batches import Normalisation
from fa_tracking.trainers import loop, methods, models
from fa_tracking.trainers.augmentation import AUGMENTATIONS
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.data import Dataset, Split
from fa_tracking.trainers.learner import learner_of

ASKS = "the rule asks autograd itself, which no fake device answers"


def images(device: str) -> Dataset:
    split = Split(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64))
    return Dataset("random", split, split, Normalisation((1.0,) * 3, (1.0,) * 3), 10).to(device)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_batches_are_drawn_on_the_device_of_the_data(augmentation: str) -> None:
    config = RunConfig("bp", batch_size=4, augmentation=augmentation)
    with FakeTensorMode():
        found = [
            (x.device.type, y.device.type)
            for x, y in loop.shuffled_batches(images("cuda"), config, torch.Generator(), torch.Generator())
        ]
    assert found == [("cuda", "cuda")] * 3


@pytest.mark.parametrize("architecture", catalogue.names(models))
@pytest.mark.parametrize("method", catalogue.names(methods))
def test_what_a_rule_sends_back_lies_on_the_device_of_the_network(method: str, architecture: str) -> None:
    config = RunConfig(method, architecture=architecture, width=16, depth=3, dataset="random", batch_size=4)
    try:
        drawn = learner_of(config, images("cpu"))
    except UsageError as refused:
        pytest.skip(str(refused))
    if not type(drawn.rule).can_stack():
        pytest.skip(ASKS)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, rule = (module.to("cuda") for module in (drawn.model, drawn.rule))
        try:
            found = rule.signals(
                model, *next(loop.shuffled_batches(images("cuda"), config, torch.Generator(), torch.Generator()))
            )
        except RuntimeError as error:
            if "hasPrimaryContext" in str(error):
                pytest.skip(ASKS)
            raise
    tensors = [found.loss, found.logits, *(tensor for pair in found.sent for tensor in pair)]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
