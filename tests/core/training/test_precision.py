import pytest
import torch

from orchestrate.core.training.precision import Precision

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("amp", ["auto", "off"])
def test_a_cpu_keeps_full_precision(amp):
    precision = Precision(torch.device("cpu"), amp)
    with precision.autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype is torch.float32
    assert precision.scaler.get_scale() == 1.0


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_takes_bfloat16_or_scaled_float16(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    precision = Precision(torch.device("cuda"), "auto")
    with precision.autocast():
        ones = torch.ones(2, 2, device="cuda")
        assert torch.mm(ones, ones).dtype is expected
    assert (precision.scaler.get_scale() > 1) is not native
