"""What does a step of training take over a slow network, and do counted bytes go over the wire?

Two processes train a perceptron of 1.3 million parameters on digits through gloo. Each is in a network
namespace of its own, and a virtual cable between the two has its rate limited; root, `ip` and `tc` (iproute2)
are needed. Arms take turns step by step, and steps without a decision are timed, on the slower rank. With
--smoke both processes talk over loopback, so that it runs anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch
from _compare import quartiles
from _record import Record, Run
from rich.progress import track
from torch import Tensor, nn

from orchestrate.core import Collective
from orchestrate.plugins.lgreco.compression import Rules
from orchestrate.plugins.lgreco.decision import Planning
from orchestrate.plugins.lgreco.families import Dense
from orchestrate.plugins.lgreco.menu import Range
from orchestrate.plugins.lgreco.record import Record as Compressed
from orchestrate.plugins.lgreco.session import Session
from orchestrate.plugins.lgreco.strategy import LGreco, LGrecoOptions
from orchestrate.plugins.tasks.digits import Digits

RATES = {"unshaped": None, "1 Gbit/s": 1000, "100 Mbit/s": 100}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"start": 1_000_000},
    "half precision": {},
    "PowerSGD, rank 4, uniform": {"mode": "uniform"},
    "PowerSGD, rank 4, l-greco": {},
    "TopK, 1 %, l-greco": {"family": "topk", "low": 0.1, "high": 10.0},
    "all families, least time": {"objective": "time", "also": ["topk", "qsgd", "dense"]},
}
TIMED = "all families, least time"
UNIFORM = "PowerSGD, rank 4, uniform"
BATCH = 64
CABLE = "cable"
PORT = 29400
SKIPPED = 77  # exit status of what can't run here


@dataclass(frozen=True)
class Order:
    """What two processes do: `warm` steps of each arm, the last of which decides, then `timed` ones.

    Decisions look at `window` steps; timed ones are before the next window.
    """

    address: str
    device: str
    warm: int
    window: int
    timed: int
    seed: int
    width: int = 1024


@dataclass(frozen=True)
class Found:
    """An arm on one rank: seconds a step, bytes a step as counted and on the wire, and what layers got."""

    seconds: list[float]
    counted: float
    wire: float
    choices: list[str]


# A rank -------------------------------------------------------------------------------------------


class Trainee:
    """One arm's network, session and optimiser on this rank."""

    def __init__(self, name: str, order: Order, group: Collective) -> None:
        torch.manual_seed(order.seed)
        self.model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, order.width),
            nn.ReLU(),
            nn.Linear(order.width, order.width),
            nn.ReLU(),
            nn.Linear(order.width, 192),
            nn.ReLU(),
            nn.Linear(192, 10),
        )
        self.images, self.targets = Digits().split("train")
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.session = Session(rules(name, order), group, order.seed)

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Cross entropy over `samples`."""
        return nn.functional.cross_entropy(
            self.model(self.images[samples]), self.targets[samples], reduction="sum"
        )

    def step(self, number: int) -> None:
        """Take a step."""
        generator = torch.Generator().manual_seed(number)
        self.session.gradient(self, torch.randperm(len(self.images), generator=generator)[:BATCH])
        self.optimizer.step()

    def choices(self) -> list[str]:
        """What the last decision gave each layer."""
        with tempfile.TemporaryDirectory() as folder:
            record = Compressed.read(self.session.artifacts(Path(folder))["compression"])
        layers = record.decisions[-1].layers if record.decisions else []
        return [f"{layer.family} {layer.setting:.3g}" for layer in layers]


def rules(name: str, order: Order) -> Rules:
    """The rules of an arm."""
    if name == "half precision":
        half = Range(Dense(), 16, 16, 16)
        return Rules([half], Planning("uniform"), 0, order.warm, order.window, 1024)
    common = {"start": 0, "period": order.warm, "window": order.window}
    return LGreco(LGrecoOptions(**{**common, **ARMS[name]})).rules()


def work(rank: int, order: Order, answer: Path) -> None:
    """Be one of the processes."""
    from orchestrate.scheduler.ranks import TorchCollective

    torch.set_num_threads(1)
    group = TorchCollective(order.address, rank, 2, gpu=False)
    sent = Path("/sys/class/net", order.device, "statistics", "tx_bytes")

    def meet() -> int:
        group.all_reduce(torch.zeros(1))
        return int(sent.read_text())

    trainees = {name: Trainee(name, order, group) for name in ARMS}
    for name, trainee in trainees.items():
        for number in range(order.warm if name not in ("dense", "half precision") else 2):
            trainee.step(number)
    idle = apart(group, meet, trainees[UNIFORM])
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    wire = dict.fromkeys(ARMS, 0)
    for number in range(order.timed):
        for name, trainee in trainees.items():
            before = meet()
            begun = time.perf_counter()
            trainee.step(order.warm + number)
            seconds[name].append(time.perf_counter() - begun)
            wire[name] += meet() - before  # after the meeting nothing is under way
    found = {
        name: asdict(
            Found(
                seconds[name],
                trainee.session.metrics()["compression/bytes_per_step"],
                wire[name] / order.timed - idle,
                trainee.choices() if rank == 0 else [],
            )
        )
        for name, trainee in trainees.items()
    }
    answer.write_text(json.dumps(found))
    group.close()


def apart(group: Collective, meet: Callable[[], int], trainee: Trainee, repeats: int = 10) -> float:
    """Bytes on the wire of a step that aren't of gradients: a meeting, and the loss with who used what."""
    head = torch.zeros(1 + len(list(trainee.model.parameters())), dtype=torch.float64)
    before = meet()
    for _ in range(repeats):
        group.all_reduce(head)
        after = meet()
    return (after - before) / repeats


# The network --------------------------------------------------------------------------------------


class Cable:
    """Two network namespaces and a virtual cable between them."""

    def __init__(self) -> None:
        self.names = [f"orchestrate-{os.getpid()}-{end}" for end in range(2)]

    def __enter__(self) -> Self:
        try:
            self._lay()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            refuse(f"{' '.join(error.cmd)}: {error.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:  # the cable goes with its ends
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def _lay(self) -> None:
        for name in self.names:
            command("ip", "netns", "add", name)
        first, second = self.names
        command(
            *("ip", "link", "add", CABLE, "netns", first, "type", "veth"),
            *("peer", "name", CABLE, "netns", second),
        )
        for end, name in enumerate(self.names):
            command("ip", "-n", name, "address", "add", f"10.0.0.{end + 1}/24", "dev", CABLE)
            command("ip", "-n", name, "link", "set", CABLE, "up")
            command("ip", "-n", name, "link", "set", "lo", "up")

    def limit(self, megabits: int | None) -> None:
        """Limit the rate of both directions. Bursts are short: a small message isn't free either."""
        for name in self.names:
            tc = ("tc", "-n", name, "qdisc")
            if megabits is None:
                subprocess.run([*tc, "delete", "dev", CABLE, "root"], check=False, capture_output=True)
            else:
                bucket = ("rate", f"{megabits}mbit", "burst", "32kb", "limit", "16mb")
                command(*tc, "replace", "dev", CABLE, "root", "tbf", *bucket)


def command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def refuse(reason: str) -> None:
    """End, since this machine can't do it."""
    print(f"lgreco_network: no network namespaces here, so nothing is measured: {reason}", file=sys.stderr)
    sys.exit(SKIPPED)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pair(order: Order, namespaces: Sequence[str]) -> list[dict[str, Found]]:
    """Run both processes, each in its namespace if there are any; what they found."""
    code = "import lgreco_network as it, json, sys; from pathlib import Path; "
    code += "it.work(int(sys.argv[1]), it.Order(**json.loads(sys.argv[2])), Path(sys.argv[3]))"
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": order.device, "OMP_NUM_THREADS": "1"}
    environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # addresses have no host names here
    with tempfile.TemporaryDirectory() as folder, ending() as processes:
        answers = [Path(folder, str(rank)) for rank in range(2)]
        for rank, answer in enumerate(answers):
            enter = ["ip", "netns", "exec", namespaces[rank]] if namespaces else []
            words = [*enter, sys.executable, "-c", code, str(rank), json.dumps(asdict(order)), str(answer)]
            processes.append(subprocess.Popen(words, env=environment, cwd=Path(__file__).parent))
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                break
            time.sleep(0.05)
        if any(process.poll() for process in processes):
            raise RuntimeError("a process has failed; its own words are above")
        return [
            {name: Found(**one) for name, one in json.loads(answer.read_text()).items()} for answer in answers
        ]


@contextmanager
def ending() -> Generator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the block, however it ends."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


# Records ------------------------------------------------------------------------------------------

Outcomes = Mapping[str, Sequence[Sequence[Mapping[str, Found]]]]
"""By rate: repetitions of what both ranks found."""


def milliseconds(ranks: Sequence[Mapping[str, Found]], name: str) -> float:
    """Median over steps, each as long as on the slower rank."""
    steps = zip(*(found[name].seconds for found in ranks), strict=True)
    return 1000 * median(max(step) for step in steps)


def told(outcomes: Outcomes) -> list[Record]:
    """Times by rate and arm, what the planner of least time did, and bytes."""
    records = [step(rate, name, repeats) for rate, repeats in outcomes.items() for name in ARMS]
    records += [verdict(rate, repeats) for rate, repeats in outcomes.items() if rate in RATES]
    if any(rate in RATES for rate in outcomes):
        records += [wired(name, outcomes) for name in ARMS]
    return records


def step(rate: str, name: str, repeats: Sequence[Sequence[Mapping[str, Found]]]) -> Record:
    """An arm's time, beside that of the others."""
    times = {arm: [milliseconds(ranks, arm) for ranks in repeats] for arm in ARMS}
    mine = median(times[name])
    best = min(ARMS, key=lambda arm: median(times[arm]))
    goal, holds = "", None
    if rate in RATES and name == TIMED:
        goal, holds = "at most 10 % above the fastest", mine <= 1.1 * median(times[best])
    elif rate == "100 Mbit/s" and name.endswith("l-greco"):
        goal, holds = "faster than dense", mine < median(times["dense"])
    counted = median(ranks[0][name].counted for ranks in repeats)
    chosen = repeats[0][0][name].choices
    return Record(
        claim=f"{rate}: {name}",
        metric="ms a step",
        value=mine,
        spread=quartiles(times[name]),
        seeds=len(repeats),
        peers={short: median(times[arm]) for short, arm in {"dense": "dense", "uniform": UNIFORM}.items()},
        goal=goal,
        holds=holds,
        note="; ".join(
            filter(None, (f"{counted:,.0f} bytes", f"layers: {', '.join(chosen)}" * bool(chosen)))
        ),
        details={"milliseconds": times[name], "choices": [ranks[0][name].choices for ranks in repeats]},
    )


def verdict(rate: str, repeats: Sequence[Sequence[Mapping[str, Found]]]) -> Record:
    """Whether least time means dense gradients on a fast network, and compression on a slow one."""
    dense = [sum(choice.startswith("dense") for choice in ranks[0][TIMED].choices) for ranks in repeats]
    layers = len(repeats[0][0][TIMED].choices)
    goals = {"unshaped": ("all", min(dense) == layers), "100 Mbit/s": ("not all", max(dense) < layers)}
    goal, holds = goals.get(rate, ("", None))
    return Record(
        claim=f"{rate}: layers that least time leaves dense",
        metric=f"layers of {layers}",
        value=median(dense),
        spread=quartiles(dense),
        seeds=len(repeats),
        goal=goal,
        holds=holds,
        details={"choices": [ranks[0][TIMED].choices for ranks in repeats]},
    )


def wired(name: str, outcomes: Outcomes) -> Record:
    """Bytes that left the network device beside those that were counted."""
    found = [ranks[0][name] for repeats in outcomes.values() for ranks in repeats]
    ratios = [one.wire / one.counted for one in found]
    return Record(
        claim=f"{name}: the bytes counted are those sent",
        metric="bytes on the wire / counted",
        value=median(ratios),
        spread=quartiles(ratios),
        seeds=len(ratios),
        goal="1 to 1.05",
        holds=1 <= median(ratios) <= 1.05,
        note=f"{median(one.wire - one.counted for one in found):,.0f} bytes more a step: headers and "
        "acknowledgements",
        details={"ratios": ratios},
    )


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 3, "full": 10})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that namespaces are taken down
    if run.size == "smoke":
        order = Order(f"tcp://127.0.0.1:{free_port()}", "lo", 2, 1, 3, 0, width=64)
        run.publish(told({"loopback": [pair(order, [])]}))
        return
    if missing := [tool for tool in ("ip", "tc") if shutil.which(tool) is None]:
        refuse(f"no {' and no '.join(missing)} on PATH (package iproute2)")
    if os.geteuid() != 0:
        refuse("that takes root")
    outcomes: dict[str, list[list[dict[str, Found]]]] = {rate: [] for rate in RATES}
    with Cable() as cable:
        turns = [(seed, rate) for seed in range(run.seeds) for rate in RATES]
        for seed, rate in track(turns, "repetitions, by rate"):
            cable.limit(RATES[rate])
            order = Order(f"tcp://10.0.0.1:{PORT}", CABLE, 15, 4, 11, seed)
            outcomes[rate].append(pair(order, cable.names))
    run.publish(told(outcomes))


if __name__ == "__main__":
    main()
