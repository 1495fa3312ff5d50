"""Mixed precision: the 16-bit type a device computes in, and the loss scale of float16."""

from __future__ import annotations

from typing import Literal

import torch


class Precision:
    """Half precision as `amp` and the device allow; full precision elsewhere.

    With "auto", a GPU that computes in bfloat16 does so; an older one takes float16 and scales the
    loss (arXiv 1710.03740), since small gradients would vanish. A CPU keeps float32.
    """

    def __init__(self, device: torch.device, amp: Literal["auto", "off"]) -> None:
        self._device = device
        self._dtype: torch.dtype | None = None
        if amp == "auto" and device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            self._dtype = torch.bfloat16 if native else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)
        """Scales the loss under float16; passes it through otherwise."""

    def autocast(self) -> torch.autocast:
        """Context in which the forward pass computes."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None)
