"""The program: scores a network as it is initialised, in milliseconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from orchestrate.core import Evaluation, PluginOptions, Program, TrialContext, TrialError

if TYPE_CHECKING:
    from torch import Tensor


class NaswotOptions(PluginOptions):
    """Options of `naswot`."""

    samples: int = Field(default=32, ge=2, description="Training samples that are told apart.")


class Naswot(Program[NaswotOptions]):
    """How well an untrained ReLU network tells samples apart.

    Metric: `naswot`, log |K| for the kernel K[i, j] = number of ReLUs on which samples i and j agree.
    Mellor et al., "Neural Architecture Search without Training", arXiv 2006.04647, section 3.
    """

    name: ClassVar[str] = "naswot"
    summary: ClassVar[str] = "score networks without training them"
    needs_network: ClassVar[bool] = True
    batch: ClassVar[int] = 20

    def run(self, trial: TrialContext) -> Evaluation:
        import torch

        model = trial.build()
        codes: list[Tensor] = []

        def note(_module: Any, _inputs: Any, output: Tensor) -> None:
            codes.append((output > 0).flatten(1).double())

        for module in model.modules():
            if isinstance(module, torch.nn.ReLU):
                module.register_forward_hook(note)
        inputs = trial.task.split("train").inputs[: self.options.samples]
        with torch.no_grad():
            model.eval()(inputs.to(trial.device))
        if not codes:
            raise TrialError("the network has no ReLU, so its samples have no codes to compare")
        code = torch.cat(codes, dim=1)
        kernel = code @ code.T + (1 - code) @ (1 - code).T
        return Evaluation({"naswot": float(torch.linalg.slogdet(kernel).logabsdet)})

    def rehearse(self, trial: TrialContext) -> float:
        begun = time.perf_counter()
        self.run(trial)
        return time.perf_counter() - begun
