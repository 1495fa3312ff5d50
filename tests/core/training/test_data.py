import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from orchestrate.core.training.data import augment, batches, levels, steps_per_epoch
from orchestrate.core.training.options import AugmentOptions

NOTHING = {"seed": 3, "epoch": 2}


def images(count, height=6, width=5, channels=2):
    return torch.arange(1.0, count * channels * height * width + 1).view(count, channels, height, width)


@given(
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 100),
    count=st.integers(1, 300),
    size=st.integers(1, 100),
)
def test_an_epoch_has_every_sample_once_in_even_batches(seed, epoch, count, size):
    made = list(batches(seed, epoch, count, size))
    assert torch.cat(made).sort().values.tolist() == list(range(count))
    lengths = {len(batch) for batch in made}
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(made) == steps_per_epoch(count, size)


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return torch.cat(list(batches(seed, epoch, 50, 7))).tolist()

    torch.manual_seed(1)
    first = order(4, 0)
    torch.manual_seed(2)
    assert order(4, 0) == first
    assert order(4, 1) != first
    assert order(5, 0) != first


@pytest.mark.parametrize(
    "options",
    [
        AugmentOptions(shift=2),
        AugmentOptions(flip=True),
        AugmentOptions(cutout=3),
        AugmentOptions(shift=1, flip=True, cutout=2),
        AugmentOptions(crop=(0.2, 0.9)),
        AugmentOptions(crop=(0.08, 1.0), brightness=0.2, saturation=0.5, shift=1, flip=True, cutout=2),
    ],
)
def test_an_images_change_is_its_own(options):
    """Alone, in a part of the batch or in another order: the same change."""
    data, samples = images(30, channels=3), torch.arange(100, 130)
    known = {"options": options, "levels": levels(data)}
    changed = augment(data, samples, **known, **NOTHING)
    assert changed.shape == data.shape
    assert not torch.equal(changed, data)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(data[order], samples[order], **known, **NOTHING), changed[order])
    assert torch.equal(augment(data[7:9], samples[7:9], **known, **NOTHING), changed[7:9])
    other = augment(data, samples, seed=3, epoch=3, **known)
    assert not torch.equal(other, changed)


def test_no_option_is_no_change():
    data = images(3)
    assert augment(data, torch.arange(3), options=AugmentOptions(), **NOTHING) is data


def test_shift_gives_every_padded_crop():
    data = images(2000)
    changed = augment(data, torch.arange(2000), options=AugmentOptions(shift=1), **NOTHING)
    padded = functional.pad(data, [1] * 4)
    seen = []
    for index in range(2000):
        matches = [
            (row, column)
            for row in range(3)
            for column in range(3)
            if torch.equal(padded[index, :, row : row + 6, column : column + 5], changed[index])
        ]
        assert len(matches) == 1
        seen.append(matches[0])
    shares = [seen.count((row, column)) / 2000 for row in range(3) for column in range(3)]
    assert min(shares) > 0.08  # of 1/9 = 0.11; standard deviation 0.007
    assert max(shares) < 0.14


def test_flip_mirrors_half_of_the_images():
    data = images(1000)
    changed = augment(data, torch.arange(1000), options=AugmentOptions(flip=True), **NOTHING)
    flipped = (changed == data.flip(3)).flatten(1).all(1)
    kept = (changed == data).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 430 < int(flipped.sum()) < 570


def test_cutout_zeroes_a_square_around_a_pixel():
    data = images(400, 8, 8)
    changed = augment(data, torch.arange(400), options=AugmentOptions(cutout=4), **NOTHING)
    cut = changed == 0
    assert torch.equal(cut[:, 0], cut[:, 1])  # all channels
    assert torch.equal(changed[~cut], data[~cut])
    rows, columns = cut[:, 0].any(2).sum(1), cut[:, 0].any(1).sum(1)
    assert torch.equal(cut[:, 0].sum((1, 2)), rows * columns)  # a rectangle
    assert rows.max() == columns.max() == 4
    assert rows.min() >= 2  # the centre is a pixel of the image


def test_crops_have_the_areas_and_aspects_asked_for():
    """A ramp's slope tells how long a side of the crop was."""
    count, side = 4000, 32
    ramp = torch.arange(side, dtype=torch.float32)
    data = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)]).expand(count, -1, -1, -1)
    options = AugmentOptions(crop=(0.1, 0.6))
    changed = augment(data, torch.arange(count), options=options, **NOTHING)
    middle = side // 2
    across = changed[:, 0, middle, middle] - changed[:, 0, middle, middle - 1]
    down = changed[:, 1, middle, middle] - changed[:, 1, middle - 1, middle]
    area, aspect = across * down, across / down
    assert area.min() > 0.099
    assert area.max() < 0.601
    assert abs(float(area.mean()) - 0.35) < 0.01
    assert aspect.log().abs().max() < 1.0001 * math.log(4 / 3)
    assert abs(float(aspect.log().mean())) < 0.01
    least = changed[:, 0].amin((1, 2))  # the left edge, anywhere in what room there is
    assert least.min() < 0.2
    assert least.max() > side * (1 - 0.6**0.5)


def test_colours_stay_between_black_and_white():
    data = torch.rand(200, 3, 5, 5) * 4 - 3
    data[0, :, 0, 0], data[0, :, 0, 1] = -3.0, 1.0
    options = AugmentOptions(brightness=0.4, saturation=0.5)
    changed = augment(data, torch.arange(200), options=options, levels=levels(data), **NOTHING)
    assert changed.min() >= -3.0
    assert changed.max() <= 1.0
    assert not torch.equal(changed, data)


def test_brightness_multiplies_pixels():
    pixels = torch.rand(300, 1, 4, 4) * 0.5
    known = torch.tensor([[-2.0], [4.0]])
    options = AugmentOptions(brightness=0.5)
    changed = augment(pixels * 6 - 2, torch.arange(300), options=options, levels=known, **NOTHING)
    factors = ((changed + 2) / 6 / pixels).flatten(1)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-3)
    assert 0.5 <= factors.min() < 0.55
    assert 1.45 < factors.max() <= 1.5001


def test_saturation_leaves_grey_alone():
    grey = torch.rand(50, 1, 4, 4).expand(-1, 3, -1, -1)
    options = AugmentOptions(saturation=1.0)
    known = torch.tensor([[0.0] * 3, [1.0] * 3])
    changed = augment(grey, torch.arange(50), options=options, levels=known, **NOTHING)
    assert torch.allclose(changed, grey, atol=1e-6)
    red = torch.zeros(300, 3, 2, 2)
    red[:, 0] = 0.5
    changed = augment(red, torch.arange(300), options=options, levels=known, **NOTHING)
    grey_of_red = 0.299 * 0.5
    factors = (changed[:, 0, 0, 0] - grey_of_red) / (0.5 - grey_of_red)
    assert 0 <= factors.min() < 0.05
    assert 1.95 < factors.max() <= 2.0001


def test_shares_must_rise():
    with pytest.raises(ValueError, match="least share"):
        AugmentOptions(crop=(0.9, 0.1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_changes_images_as_a_cpu_does():
    data, samples = images(50), torch.arange(50)
    options = AugmentOptions(shift=2, flip=True, cutout=3)
    on_cpu = augment(data, samples, options=options, **NOTHING)
    assert torch.equal(augment(data.cuda(), samples, options=options, **NOTHING).cpu(), on_cpu)
