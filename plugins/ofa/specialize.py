"""Cuts a network out of a supernet for good: proof of equality, fine-tuning, export."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...core import Candidate, Evaluation, Program, SearchSpace, Task, TrialContext
from . import cost
from .options import Format, SpecializeOptions, check_space

if TYPE_CHECKING:
    from .network import Network
    from .scoring import Images
    from .supernet import Supernet

PROBES = 16  # images of the equality proof


class SpecializeSubnet(Program[SpecializeOptions]):
    """Extract a candidate's network with its weights, prove that it is the supernet's, and export it.

    The proof compares outputs and input gradients on validation images with the supernet in that
    configuration and the same statistics, before any fine-tuning, and each exported file with the
    network that was exported. Metrics: `accuracy` and `loss` (validation), `inherited_accuracy`
    (before fine-tuning), `max_difference` (of the extraction; 0 is exact), `macs`, `parameters`,
    `peak_memory`. Artifacts: `weights`, `proof.json`, and the exports (`export.…`).
    """

    name: ClassVar[str] = "ofa-specialize"
    summary: ClassVar[str] = "extract a sub-net, prove it equal, fine-tune and export it"
    needs_network: ClassVar[bool] = True

    def check(self, space: SearchSpace, task: Task) -> None:
        from .formats import check_formats

        check_space(self.name, space, task)
        check_formats(self.options.export)

    def run(self, trial: TrialContext) -> Evaluation:
        from ...core.training.checkpoint import keep_weights
        from .evaluate import supernet_of
        from .scoring import Images, score_alone

        options = self.options
        space = check_space(self.name, trial.space, trial.task)
        supernet = supernet_of(trial, space, options.supernet)
        images = Images.of(
            trial.task,
            trial.device,
            calibration=options.calibration_images,
            calibration_batch=options.calibration_batch,
            validation=options.validation_images,
        )
        network, proof = extract(supernet, trial.candidate, images)
        inherited = score_alone(network, images).metrics
        metrics = self._finetuned(trial, network) or inherited
        keep_weights(trial, network)
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            files, proof["exports"] = write(network, options.export, Path(folder), images)
            for kind, path in files.items():
                trial.save_artifact(kind, path)
            written = Path(folder, "proof.json")
            written.write_text(json.dumps(proof, indent=1), encoding="utf-8")
            trial.save_artifact("proof.json", written)
        plan = network.plan
        return Evaluation(
            {
                "accuracy": metrics["accuracy"],
                "loss": metrics["loss"],
                "inherited_accuracy": inherited["accuracy"],
                "max_difference": proof["output_difference"],
                "macs": float(cost.macs(plan)),
                "parameters": float(cost.parameters(plan)),
                "peak_memory": float(cost.peak_memory(plan)),
            },
            network,
        )

    def test(self, trial: TrialContext) -> Mapping[str, float]:
        from ...core.training.checkpoint import load_weights
        from ...core.training.score import score

        model = trial.build()
        load_weights(model, trial.artifact("weights"))
        return score(model, trial.task.split("test"), trial.device)

    def _finetuned(self, trial: TrialContext, network: Network) -> dict[str, float] | None:
        """Train the network on; it ends with the statistics that training left."""
        from ...core.training.learner import SupervisedLearner
        from ...core.training.loop import Trainer

        options = self.options.finetune
        if not options.epochs:
            return None
        network.requires_grad_()
        return Trainer(trial, SupervisedLearner(trial, network, options), options).run()


def extract(supernet: Supernet, candidate: Candidate, images: Images) -> tuple[Network, dict[str, Any]]:
    """Extract and calibrate a network, and compare it with the supernet's slice.

    Returns:
        The network in eval mode; and the proof: candidate, digest, number of images, and the largest
        absolute differences of outputs and of gradients with respect to the images.
    """
    import torch
    from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]

    from .scoring import calibrated

    network = calibrated(supernet, candidate, images)
    probes = images.inputs[0][:PROBES]
    skeleton = supernet.skeleton(network.plan).eval()
    tensors = supernet.tensors(skeleton)
    # Statistics are the calibration's, which belong to the candidate: the supernet has none of its own.
    tensors |= {name: tensor for name, tensor in network.named_buffers() if name in tensors}
    ours, theirs = probes.clone().requires_grad_(), probes.clone().requires_grad_()
    one = network(ours)
    other: Any = functional_call(skeleton, tensors, (theirs,))
    (first,) = torch.autograd.grad(one.square().sum(), ours)
    (second,) = torch.autograd.grad(other.square().sum(), theirs)
    proof = {
        "candidate": dict(candidate),
        "digest": candidate.digest,
        "space": network.plan.space,
        "images": len(probes),
        "output_difference": float((one - other).detach().abs().max()),
        "gradient_difference": float((first - second).abs().max()),
    }
    return network, proof


def write(
    network: Network, formats: tuple[Format, ...], folder: Path, images: Images
) -> tuple[dict[str, Path], dict[str, float]]:
    """Export a network; give the files, and how far each is from the network on validation images."""
    from .export import differences, export

    probes = images.inputs[0][:PROBES]
    files = export(network, formats, folder, probes[:2])
    return files, differences(network, files, probes)
