"""The BLSTM against torch's LSTM cell: states, gradients, initial weights, precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmmos.model.blstm import ROWS, Blstm
from tests.references.lstm_cell import cells, step_by_step


@pytest.mark.slow
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_lstm_equals_torchs_cell_clip_by_clip(lengths: list[int], dim: int, hidden: int, seed: int) -> None:
    torch.manual_seed(seed)
    blstm = Blstm(dim, hidden)
    for parameter in blstm.parameters():
        nn.init.normal_(parameter)
    frames = torch.randn(len(lengths), max(lengths) + seed % 2, dim)
    mask = torch.arange(frames.shape[1]) < torch.tensor(lengths)[:, None]
    states = blstm(frames.masked_fill(~mask[..., None], torch.nan), mask)
    assert states.isfinite().all()
    for clip, real, own in zip(frames, mask, states, strict=True):
        expected = step_by_step(blstm, clip[real])
        torch.testing.assert_close(own[real], expected, rtol=1e-5, atol=1e-6)


def test_lstm_has_the_gradients_of_torchs_cell() -> None:
    blstm = Blstm(4, 3)
    frames, target = torch.randn(3, 6, 4), torch.randn(3, 6, 6)
    mask = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    (blstm(frames, mask) * target)[mask].sum().backward()
    pair = cells(blstm)
    for clip, real, expected in zip(frames, mask, target, strict=True):
        for cell, order, part in zip(pair, (1, -1), expected[real].split(3, dim=-1), strict=True):
            state = (torch.zeros(3), torch.zeros(3))
            for frame, slope in list(zip(clip[real], part, strict=True))[::order]:
                state = cell(frame, state)
                (state[0] * slope).sum().backward(retain_graph=True)
    for i, cell in enumerate(pair):
        input_gate, forget_gate, candidate, output_gate = cell.weight_hh.grad.chunk(4)
        torch.testing.assert_close(
            blstm.weight_hh.grad[i].T,
            torch.cat([input_gate, forget_gate, output_gate, candidate]),
            rtol=1e-4,
            atol=1e-5,
        )
        input_gate, forget_gate, candidate, output_gate = cell.weight_ih.grad.chunk(4)
        own = blstm.weight_ih.grad.chunk(2)[i]
        torch.testing.assert_close(
            own, torch.cat([input_gate, forget_gate, output_gate, candidate]), rtol=1e-4, atol=1e-5
        )


def test_lstm_is_drawn_as_torchs_own() -> None:
    blstm, torchs = Blstm(50, 64), nn.LSTM(50, 64)
    for own, other in ((blstm.weight_hh, torchs.weight_hh_l0), (blstm.weight_ih, torchs.weight_ih_l0)):
        assert own.abs().max().item() == pytest.approx(other.abs().max().item(), rel=0.01)
        assert own.std().item() == pytest.approx(other.std().item(), rel=0.05)


def test_lstm_in_bfloat16_keeps_its_state_in_float32() -> None:
    blstm, frames, mask = Blstm(30, 8), torch.randn(2, 60, 30), torch.ones(2, 60, dtype=torch.bool)
    exact = blstm(frames, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = blstm(frames, mask)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.01)


def test_product_in_parts_has_the_gradients_of_a_whole_one() -> None:
    hidden = ROWS // 4  # so that the weights of one direction are two parts
    frames, mask = torch.randn(2, 5, 7), torch.ones(2, 5, dtype=torch.bool)
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        blstm, given = Blstm(7, hidden), frames.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            blstm(given, mask).square().sum().backward()
        gradients.append([given.grad, *(parameter.grad for parameter in blstm.parameters())])
    for exact, rough in zip(*gradients, strict=True):
        assert not torch.equal(exact, rough)
        torch.testing.assert_close(rough, exact, rtol=0, atol=0.02 * exact.abs().max().item())
