"""The machine of steps: what is sent when, what is decided, and that nothing is lost at a checkpoint."""

import math

import pytest
import torch

from orchestrate.core.testing import Meeting
from orchestrate.plugins.lgreco import costs
from orchestrate.plugins.lgreco.compression import Compression
from orchestrate.plugins.lgreco.strategy import LGreco, LGrecoOptions
from orchestrate.plugins.lgreco.tally import Phase

SHAPES = {"wide": (64, 96), "narrow": (48, 40), "convolution": (16, 12, 3, 3), "small": (8, 8), "bias": (64,)}
OPTIONS = {"start": 2, "period": 4, "window": 2, "minimum": 128}
FAMILIES = [
    {"family": "powersgd", "rank": 4},
    {"family": "topk", "density": 0.05},
    {"family": "qsgd", "bits": 4},
    {"family": "powersgd", "rank": 4, "also": ["topk", "qsgd", "dense"]},
]


def gradient(name, step, rank, scale=1.0):
    """Layers differ: "wide" is close to a matrix of rank 2, "narrow" is sparse, the rest is noise."""
    rng = torch.Generator().manual_seed(1000 * step + 10 * rank + list(SHAPES).index(name))
    noise = torch.randn(SHAPES[name], generator=rng)
    if name == "wide":
        base = torch.Generator().manual_seed(5)
        left, right = torch.randn(64, 2, generator=base), torch.randn(2, 96, generator=base)
        return scale * (left @ right + 0.05 * noise)
    if name == "narrow":
        return scale * noise * (torch.rand(SHAPES[name], generator=rng) < 0.02)
    return scale * 0.2 * noise


def make(group, seed=3, **options):
    rules = LGreco(LGrecoOptions(**{**OPTIONS, **options})).rules()
    return Compression(rules, group, seed)


def steps(compression, group, first, last, *, parts=False, bad=()):
    """Exchange some steps; give the means of each."""
    found = []
    for step in range(first, last):
        given = {name: gradient(name, step, group.rank) for name in SHAPES}
        if step in bad and group.rank == 1:
            given["narrow"][0, 0] = math.nan
        if parts:
            means = {}
            for name in reversed(SHAPES):
                means |= compression.exchange({name: given[name]})
        else:
            means = compression.exchange(given)
        compression.end_step()
        found.append(means)
    return found


def run(ranks, work):
    return Meeting(ranks).run(work)


@pytest.mark.parametrize("options", FAMILIES, ids=lambda one: "+".join([one["family"], *one.get("also", [])]))
def test_dense_then_uniform_then_adapted(options):
    def work(group):
        compression = make(group, **options)
        phases, sent = [], []
        for step in range(12):
            phases.append(compression.phase)
            before = sum(tally.sent for tally in compression.tallies.values())
            means = steps(compression, group, step, step + 1)[0]
            sent.append(sum(tally.sent for tally in compression.tallies.values()) - before)
            true = {name: sum(gradient(name, step, rank) for rank in range(3)) / 3 for name in SHAPES}
            exact = SHAPES if step < 2 else ["small", "bias"]
            for name in exact:
                torch.testing.assert_close(means[name], true[name])
        return phases, sent, compression.decisions, means

    (phases, sent, decisions, means), *others = run(3, work)
    assert phases == [Phase.DENSE] * 2 + [Phase.UNIFORM] * 4 + [Phase.ADAPTED] * 6
    assert [decision.step for decision in decisions] == [6, 10]
    dense = 2 * 2 / 3 * 4 * sum(math.prod(shape) for shape in SHAPES.values())
    assert sent[0] == pytest.approx(dense)
    assert sent[3] < dense / 1.5
    for decision in decisions:
        assert decision.error <= decision.budget * (1 + 1e-9)
        assert decision.budget == pytest.approx(decision.uniform_error)
        assert decision.bytes <= decision.uniform_bytes
        assert {choice.layer for choice in decision.layers} == {"wide", "narrow", "convolution"}
    # What is sent is what was decided, and the small ones.
    rest = 2 * 2 / 3 * 4 * (64 + 64)
    assert sent[7] == pytest.approx(decisions[0].bytes + rest)
    for _, same, alike, equal in others:
        assert same == sent
        assert [one.layers for one in alike] == [one.layers for one in decisions]
        assert all(torch.equal(equal[name], means[name]) for name in SHAPES)


def test_layers_that_compress_well_get_the_hard_settings():
    def work(group):
        compression = make(group, family="powersgd", rank=4, also=[])
        steps(compression, group, 0, 6)
        return compression.decisions[0]

    decision = run(2, work)[0]
    ranks = {choice.layer: choice.setting for choice in decision.layers}
    assert decision.reason == "dp"
    assert ranks["wide"] == 2
    assert decision.bytes < 0.9 * decision.uniform_bytes


@pytest.mark.parametrize("options", FAMILIES, ids=lambda one: "+".join([one["family"], *one.get("also", [])]))
def test_a_checkpoint_at_any_step_goes_on_as_if_nothing_had_been(options):
    def work(group):
        whole = make(group, **options)
        expected = steps(whole, group, 0, 13)
        for cut in (1, 3, 5, 6, 9):
            first = make(group, **options)
            steps(first, group, 0, cut)
            second = make(group, **options)
            second.load(first.state())
            for mine, other in zip(steps(second, group, cut, 13), expected[cut:], strict=True):
                assert all(torch.equal(mine[name], other[name]) for name in SHAPES)
            assert [one.layers for one in second.decisions] == [one.layers for one in whole.decisions]

    run(2, work)


def test_parts_in_any_order_are_one_step():
    def work(group):
        one, other = make(group, family="topk", density=0.05), make(group, family="topk", density=0.05)
        for whole, parts in zip(
            steps(one, group, 0, 12), steps(other, group, 0, 12, parts=True), strict=True
        ):
            assert all(torch.equal(whole[name], parts[name]) for name in SHAPES)

    run(2, work)


@pytest.mark.parametrize("options", FAMILIES, ids=lambda one: "+".join([one["family"], *one.get("also", [])]))
def test_a_step_that_overflows_leaves_nothing_behind(options):
    """NaN on one rank is seen by all, and neither residuals nor statistics keep it."""

    def work(group):
        compression = make(group, **options)
        found = steps(compression, group, 0, 12, bad=(5, 8))
        assert not found[5]["narrow"].isfinite().all()
        assert all(each.isfinite().all() for each in found[7].values())
        assert all(each.isfinite().all() for each in found[11].values())
        for decision in compression.decisions:
            assert math.isfinite(decision.error)
        return [decision.layers for decision in compression.decisions]

    first, second = run(2, work)
    assert first == second


@pytest.mark.parametrize("family", ["powersgd", "topk"])
def test_what_is_left_out_is_sent_later(family):
    """Sum of means = sum of true means - what is owed, across a change of settings and of families."""

    def work(group):
        compression = make(group, family=family, also=["dense"])
        found = steps(compression, group, 0, 15)
        owed = {name: layer.get("residual") for name, layer in compression.state()["layers"].items()}
        return found, owed

    results = run(2, work)
    for name in ("wide", "narrow", "convolution"):
        true = sum(gradient(name, step, rank) for step in range(15) for rank in range(2)) / 2
        sent = sum(means[name] for means in results[0][0])
        owed = sum(result[1][name] if result[1][name] is not None else 0 for result in results) / 2
        torch.testing.assert_close(sent + owed, true, rtol=1e-4, atol=1e-4)


def test_scaling_all_gradients_changes_no_choice():
    def work(group, scale):
        compression = make(group, family="topk", density=0.05)
        for step in range(6):
            compression.exchange({name: gradient(name, step, group.rank, scale) for name in SHAPES})
            compression.end_step()
        return [(choice.family, choice.setting) for choice in compression.decisions[0].layers]

    assert run(2, lambda group: work(group, 1.0)) == run(2, lambda group: work(group, 1024.0))


def test_accordion_switches_and_defines_the_budget():
    """Gradients that stay as they are get the aggressive setting from the second decision on."""

    def work(group, mode):
        compression = make(group, family="powersgd", rank=4, mode=mode, also=[])
        for step in range(14):
            scale = 10.0 if step >= 10 else 1.0
            compression.exchange({name: gradient(name, step, group.rank, scale) for name in SHAPES})
            compression.end_step()
        return compression.decisions

    first, second, third = run(2, lambda group: work(group, "accordion"))[0]
    assert [decision.reason for decision in (first, second, third)] == ["accordion"] * 3
    assert {choice.setting for choice in first.layers} == {8}  # of nothing known before: critical
    assert {choice.setting for choice in second.layers} == {2}
    assert {choice.setting for choice in third.layers} == {8}  # all have grown tenfold
    both = run(2, lambda group: work(group, "accordion-l-greco"))[0]
    for combined in both:
        assert combined.error <= combined.budget * (1 + 1e-9)
    assert both[0].budget == pytest.approx(first.error)
    assert both[0].bytes <= first.bytes
    assert {combined.reason for combined in both} <= {"dp", "accordion"}


def test_a_cap_on_a_layer_s_error():
    def work(group, cap):
        compression = make(group, family="topk", density=0.05, max_relative_error=cap)
        steps(compression, group, 0, 6)
        return compression.decisions[0]

    free, capped = run(2, lambda group: work(group, None))[0], run(2, lambda group: work(group, 0.6))[0]
    assert max(one.error for one in free.layers) > max(one.error for one in capped.layers)
    for one in capped.layers:
        assert one.error <= max(0.6, one.reference_error) + 1e-9


def test_squares_keep_the_whole_gradient_s_error():
    def work(group, metric):
        compression = make(group, family="topk", density=0.05, metric=metric, also=[])
        steps(compression, group, 0, 6)
        return compression.decisions[0]

    norms, squares = (run(2, lambda group, m=metric: work(group, m))[0] for metric in ("l2", "l2-squared"))
    assert squares.error <= squares.uniform_error
    assert norms.bytes <= squares.bytes <= squares.uniform_bytes


@pytest.mark.parametrize(("per_byte", "chosen"), [(0.0, {"dense"}), (1e-3, {"powersgd", "topk"})])
def test_time_leaves_gradients_alone_where_the_network_is_free(monkeypatch, per_byte, chosen):
    link = costs.Link(0.0, per_byte)
    monkeypatch.setattr(costs, "measure", lambda *_, **__: {"all_reduce": link, "all_gather": link})
    monkeypatch.setattr(
        costs,
        "compute_seconds",
        lambda family, shape, settings, ranks, **_: (
            [1e-5 if family.name == "dense" else 1e-4] * len(settings)
        ),
    )

    def work(group):
        compression = make(group, family="powersgd", rank=2, also=["topk", "dense"], objective="time")
        steps(compression, group, 0, 8)
        return [choice.family for choice in compression.decisions[0].layers]

    first, second = run(2, work)
    assert first == second
    assert set(first) <= chosen


def test_a_group_of_one_changes_nothing():
    def work(group):
        compression = make(group, family="topk", density=0.05)
        for step in range(8):
            given = {name: gradient(name, step, 0) for name in SHAPES}
            means = compression.exchange(given)
            compression.end_step()
            assert all(torch.equal(means[name], given[name]) for name in SHAPES)

    run(1, work)
