"""Products are in fp32 while exact_products is open, and afterwards everything is as it was."""

from __future__ import annotations

import threading

import pytest
import torch

from hf_trainpipe.runtime.model import exact
from hf_trainpipe.runtime.model.exact import Switches, exact_products


@pytest.fixture(autouse=True)
def _kept():
    before = Switches()
    yield
    before.restore()


def set_in_general() -> None:
    torch.set_float32_matmul_precision("medium")


def set_one_switch() -> None:
    """The newer API, after which torch refuses to return the general precision."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


@pytest.mark.parametrize("settle", [set_in_general, set_one_switch])
def test_the_product_is_that_of_fp32(settle) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(64, 64), torch.randn(64, 64)
    with exact_products():
        expected = one @ other
    settle()
    found = torch.backends.mkldnn.matmul.fp32_precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (one @ other).dtype == torch.bfloat16
        with exact_products():
            assert torch.equal(one @ other, expected)
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.is_autocast_enabled("cpu")
    assert torch.backends.mkldnn.matmul.fp32_precision == found


def test_a_thread_that_ends_first_leaves_fp32_to_the_others() -> None:
    torch.set_float32_matmul_precision("medium")
    opened, close = threading.Event(), threading.Event()

    def hold() -> None:
        with exact_products():
            opened.set()
            close.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait()
    with exact_products():
        close.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("older", [True, False])
def test_tf32_of_a_gpu_is_off_meanwhile_and_torch_can_tell_so(monkeypatch, older) -> None:
    """The switches are there without a GPU, too; reading the older one raises where both sets do not agree."""
    monkeypatch.setattr(exact, "_has_gpus", lambda: True)
    backends = torch.backends
    before = Switches()
    try:
        if older:
            torch.backends.cudnn.allow_tf32 = True
        else:
            backends.cudnn.conv.fp32_precision = "tf32"
            backends.cuda.matmul.fp32_precision = "tf32"
        found = [place.fp32_precision for place in exact._places()]
        with exact_products():
            assert torch.backends.cudnn.allow_tf32 is False
            assert torch.backends.cuda.matmul.allow_tf32 is False
            assert {place.fp32_precision for place in exact._places()} <= {"none", "ieee"}
            with torch.backends.cudnn.flags(enabled=True):
                pass
        assert [place.fp32_precision for place in exact._places()] == found
        if older:
            assert torch.backends.cudnn.allow_tf32 is True
    finally:
        before.restore()
