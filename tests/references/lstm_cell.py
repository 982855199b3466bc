"""Torch's LSTM cell, step by step and clip by clip, with the weights of a `Blstm`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmos.model.blstm import Blstm


def cells(blstm: Blstm) -> list[nn.LSTMCell]:
    """Torch's cells, forward and backward, with the same weights; torch orders gates and candidate otherwise."""
    made = []
    halves = blstm.weight_ih.chunk(2), blstm.bias.chunk(2), blstm.weight_hh
    for weight_ih, bias, weight_hh in zip(*halves, strict=True):
        cell = nn.LSTMCell(weight_ih.shape[1], weight_hh.shape[0])
        with torch.no_grad():
            for place, own in ((cell.weight_ih, weight_ih), (cell.weight_hh, weight_hh.T), (cell.bias_ih, bias)):
                input_gate, forget_gate, output_gate, candidate = own.chunk(4)
                place.copy_(torch.cat([input_gate, forget_gate, candidate, output_gate]))
            cell.bias_hh.zero_()
        made.append(cell)
    return made


def step_by_step(blstm: Blstm, frames: Tensor) -> Tensor:
    """One clip [T, D] -> [T, 2 H], both halves in the order of time."""
    halves = []
    for cell, order in zip(cells(blstm), (1, -1), strict=True):
        state = torch.zeros(2, blstm.weight_hh.shape[1])
        states = []
        for frame in list(frames)[::order]:
            state = torch.stack(cell(frame, (state[0], state[1])))
            states.append(state[0])
        halves.append(torch.stack(states[::order]))
    return torch.cat(halves, dim=-1)
