"""Losses that leave something behind, or take something for granted about a call."""

from __future__ import annotations

import threading
import time
import warnings

import torch
from broken_losses import Pull, loss_factory

from mlcore import LossOutput


class Prints(Pull):
    def output(self, cost, near):
        print("cost", cost.shape)  # noqa: T201 - what is to be found
        return super().output(cost, near)


class KeepsGraph(Pull):
    def output(self, cost, near):
        self.last = cost
        return super().output(cost, near)


class LeavesThreads(Pull):
    def output(self, cost, near):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        return super().output(cost, near)


class Reseeds(Pull):
    def output(self, cost, near):
        torch.manual_seed(0)
        return super().output(cost, near)


class SetsDefaultDtype(Pull):
    def output(self, cost, near):
        torch.set_default_dtype(torch.float64)
        return super().output(cost, near)


class SilencesWarnings(Pull):
    def output(self, cost, near):
        warnings.filterwarnings("ignore")
        return super().output(cost, near)


class FirstMask(Pull):
    mask = None

    def near(self, batch):
        if self.mask is None or len(self.mask) != len(batch):
            self.mask = super().near(batch)
        return self.mask


class EqualTuples(Pull):
    def forward(self, embeddings, batch, tuples=None):
        embeddings.view(int(batch.tuple_id.max()) + 1, -1, embeddings.shape[1])
        return super().forward(embeddings, batch)


class HiddenParameter(Pull):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.scales = [torch.ones((), requires_grad=True)]

    def output(self, cost, near):
        return LossOutput(cost.mean() * self.scales[0])


class StaysOnCpu(Pull):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.scale = torch.ones(6)

    def cost(self, embeddings):
        return super().cost(embeddings * self.scale.to(embeddings.dtype))


class NeedsGraph(Pull):
    def output(self, cost, near):
        torch.autograd.grad(cost.mean(), cost, retain_graph=True)
        return super().output(cost, near)


class Half(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean().half())


class NumberedStats(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean(), {3: 1.0})


class Exits(Pull):
    def output(self, cost, near):
        raise SystemExit(0)


CALLS = {
    "prints": (loss_factory(Prints), {"leaves-no-trace"}),
    "keeps the graph": (loss_factory(KeepsGraph), {"leaves-no-trace"}),
    "leaves threads": (loss_factory(LeavesThreads), {"leaves-no-trace"}),
    "seeds the global generator": (loss_factory(Reseeds), {"leaves-no-trace"}),
    "sets the default dtype": (loss_factory(SetsDefaultDtype), {"leaves-no-trace"}),
    "silences warnings when called": (loss_factory(SilencesWarnings), {"leaves-no-trace"}),
    "keeps the first mask": (loss_factory(FirstMask), {"repeatable"}),
    "tuples of one size taken for granted": (loss_factory(EqualTuples), {"short-tuples"}),
    "a parameter in a list": (loss_factory(HiddenParameter), {"registered"}),
    "a tensor that stays on the CPU": (loss_factory(StaysOnCpu), {"registered"}),
    "cannot be computed without a graph": (loss_factory(NeedsGraph), {"gradient"}),
    "half precision": (loss_factory(Half), {"scalar"}),
    "stats named by numbers": (loss_factory(NumberedStats), {"scalar"}),
    "exits": (loss_factory(Exits), {"scalar"}),
}
"""Each fault: the factory that has it, and the names of the checks that must fail."""
