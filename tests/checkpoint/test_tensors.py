"""Safetensors that we write: bit for bit through our reader and the library's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from hf_trainpipe.checkpoint import tensors
from hf_trainpipe.utils.atomic import sha256_file

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and bits(left) == bits(right)


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Random bits, so NaN payloads, infinities and denormals are among them."""
    size = torch.empty(0, dtype=dtype).element_size()
    high = 2 if dtype is torch.bool else 256
    count = torch.Size(shape).numel()
    raw = torch.randint(0, high, (count * size,), dtype=torch.uint8, generator=torch.manual_seed(seed))
    return raw.view(dtype).reshape(shape)


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.dictionaries(names, st.tuples(st.sampled_from(DTYPES), shapes, st.integers(0, 2**31)), max_size=6))
def test_random_bits_survive_a_round_trip(drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("tensors") / "t.safetensors"
    given_tensors = {name: random_tensor(*parts) for name, parts in drawn.items()}
    written = tensors.write_file(path, tensors.Shared.of(given_tensors))
    assert written == (path.stat().st_size, sha256_file(path))
    for read in (tensors.read_file(path), load_file(path)):
        assert read.keys() == given_tensors.keys()
        assert all(same(read[name], tensor) for name, tensor in given_tensors.items())


def test_tied_weights_are_stored_once_and_come_back_under_all_names(tmp_path):
    weight = torch.randn(7, 3)
    saved = {"a.weight": weight, "z.weight": weight, "b.bias": torch.randn(3)}
    tensors.write_file(tmp_path / "t", tensors.Shared.of(saved))
    read = tensors.read_file(tmp_path / "t")
    assert read.keys() == saved.keys()
    assert all(same(read[name], saved[name]) for name in saved)
    assert read["a.weight"].data_ptr() == read["z.weight"].data_ptr()


def test_views_that_share_memory_but_not_shape_keep_their_own_values(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    saved = {"base": base, "transposed": base.t(), "slice": base[1:3, ::2], "row": base[0]}
    tensors.write_file(tmp_path / "t", tensors.Shared.of(saved))
    read = tensors.read_file(tmp_path / "t")
    assert all(same(read[name], saved[name]) for name in saved)


def test_parameters_that_require_grad_and_conjugates_are_saved(tmp_path):
    number = torch.randn(3, dtype=torch.complex64)
    saved = {"p": torch.nn.Parameter(torch.randn(3)), "c": number.conj(), "plain": number}
    tensors.write_file(tmp_path / "t", tensors.Shared.of(saved))
    read = tensors.read_file(tmp_path / "t")
    assert torch.equal(read["p"], saved["p"].detach())
    assert torch.equal(read["c"], saved["c"].resolve_conj())
    assert torch.equal(read["plain"], number)


def test_what_the_format_cannot_hold_is_refused_by_name():
    for bad in (torch.zeros(2, dtype=torch.complex128), torch.eye(2).to_sparse()):
        with pytest.raises(TypeError, match=r"bad\.weight"):
            tensors.Shared.of({"bad.weight": bad})
        with pytest.raises(TypeError, match=r"bad\.weight"):
            tensors.Buffers().copy("model", {"bad.weight": bad})


def test_the_same_tensors_give_the_same_bytes_in_any_order_of_names(tmp_path):
    one, two = torch.randn(3), torch.randn(2, dtype=torch.float64)
    tensors.write_file(tmp_path / "1", tensors.Shared.of({"a": one, "b": two}))
    tensors.write_file(tmp_path / "2", tensors.Shared.of({"b": two.clone(), "a": one.clone()}))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_buffers_are_reused_and_independent_of_their_source():
    buffers = tensors.Buffers()
    weight = torch.randn(4)
    first = buffers.copy("model", {"w": weight, "tied": weight})
    kept = first.unique["tied"]
    before = kept.clone()
    weight.add_(1)
    assert torch.equal(kept, before)
    second = buffers.copy("model", {"w": weight, "tied": weight})
    assert second.unique["tied"] is kept
    assert second.aliases == {"w": "tied"}
    assert torch.equal(kept, weight)
    other_shape = buffers.copy("model", {"w": torch.zeros(5)})
    assert other_shape.unique["w"].shape == (5,)
