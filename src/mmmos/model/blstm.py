"""A bidirectional LSTM whose training on a CPU takes little more time than its matrix products.

PyTorch's autograd would add up the gradient of the recurrent weights step by step. Here a backward pass of its own
computes it in one product over all steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROWS = 512
"""Rows of a bfloat16 weight matrix per product: oneDNN packs them for each call, and so many stay in the cache."""


class Blstm(nn.Module):
    """One bidirectional LSTM layer over sequences of any lengths, with one bias per gate, initialised as in torch.

    Padding comes last and has gates of 0: forward it comes after all states that count, backward it leaves the initial
    state of 0 unchanged. So a clip's states do not depend on the batch. All inputs go through one product, and in
    training, where they are constants, their gradient is not computed.

    Shape:
        - frames: [B, T, D]
        - mask: [B, T] bool, True where a frame is valid
        - returns: [B, T, 2 H], forward and backward states; those in the padding have no meaning
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        super().__init__()
        # Both directions, each with its input, forget and output gate and its candidate.
        self.weight_hh = nn.Parameter(torch.empty(2, hidden, 4 * hidden))
        linear = nn.Linear(input_dim, 2 * 4 * hidden)  # drawn twice: so a seed gives the same later layers as before
        self.weight_ih, self.bias = linear.weight, linear.bias
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, 2 H]."""
        given = _linear(frames[mask], self.weight_ih, self.bias)
        given = given.to(torch.promote_types(given.dtype, torch.float32))
        padded = given.new_zeros(*mask.shape, given.shape[-1]).index_put((mask,), given)
        forward, backward = padded.chunk(2, dim=-1)
        with torch.autocast(given.device.type, enabled=False):  # rounding errors would accumulate over many small steps
            steps = torch.stack([forward, backward.flip(1)])
            forward, backward = _Recurrence.apply(steps, self.weight_hh)  # type: ignore[no-untyped-call]
        return torch.cat([forward, backward.flip(1)], dim=-1)


def _linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear`; under bfloat16 autocast on a CPU by a product in parts, which oneDNN computes much faster."""
    if not torch.is_autocast_enabled(rows.device.type) or rows.device.type != "cpu":
        return F.linear(rows, weight, bias)
    dtype = torch.get_autocast_dtype("cpu")
    product: Tensor = _ProductInParts.apply(rows.to(dtype), weight.to(dtype))  # type: ignore[no-untyped-call]
    return product + bias


class _ProductInParts(torch.autograd.Function):
    """rows [n, D] and weight [M, D] -> rows @ weight.T [n, M]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return torch.cat([rows @ part.T for part in torch.split(weight, ROWS)], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        rows, weight = ctx.saved_tensors
        by_rows = grad @ weight if ctx.needs_input_grad[0] else None
        return by_rows, grad.T.contiguous() @ rows  # without the copy oneDNN's product takes three times as long


class _Recurrence(torch.autograd.Function):
    """All steps of both directions: inputs of gates [2, B, T, 4 H] and weight_hh [2, H, 4 H] -> states [2, B, T, H]."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor) -> Tensor:
        hidden = weight.shape[1]
        state = cell = given.new_zeros(2, given.shape[1], hidden)
        states, cells, activations = [], [], []
        for step in given.unbind(dim=2):
            gates = step.baddbmm(state, weight)  # [2, B, 4 H]
            opened, candidate = torch.split(gates, [3 * hidden, hidden], dim=-1)
            opened, candidate = opened.sigmoid(), candidate.tanh()
            input_gate, forget_gate, output_gate = opened.chunk(3, dim=-1)
            cell = forget_gate * cell + input_gate * candidate
            state = output_gate * cell.tanh()
            states.append(state)
            cells.append(cell)
            activations.append(torch.cat([opened, candidate], dim=-1))
        all_states = torch.stack(states, dim=2)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(weight, all_states, torch.stack(cells), torch.stack(activations))
        return all_states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, states, cells, activations = ctx.saved_tensors
        opened, candidates = torch.split(activations, [3 * cells.shape[-1], cells.shape[-1]], dim=-1)
        input_gates, forget_gates, output_gates = opened.chunk(3, dim=-1)  # [T, 2, B, H], as are cells and candidates
        outputs = cells.tanh()
        before = torch.cat([torch.zeros_like(cells[:1]), cells[:-1]])
        # Derivatives of a step's state and cell by what goes into its four gates.
        by_state = outputs * output_gates * (1 - output_gates)
        state_by_cell = output_gates * (1 - outputs.square())
        by_cell = torch.stack(
            [
                candidates * input_gates * (1 - input_gates),
                before * forget_gates * (1 - forget_gates),
                input_gates * (1 - candidates.square()),
            ],
            dim=-2,
        )
        slopes = torch.empty_like(activations)  # of the loss by what goes into the gates
        state_slope = cell_slope = torch.zeros_like(cells[0])
        for t in range(len(cells) - 1, -1, -1):
            state_slope = state_slope + grad[:, :, t]
            cell_slope = cell_slope + state_slope * state_by_cell[t]
            input_slope, forget_slope, candidate_slope = (cell_slope.unsqueeze(-2) * by_cell[t]).unbind(dim=-2)
            torch.cat([input_slope, forget_slope, state_slope * by_state[t], candidate_slope], dim=-1, out=slopes[t])
            state_slope = slopes[t] @ weight.mT
            cell_slope = cell_slope * forget_gates[t]
        earlier = F.pad(states, (0, 0, 1, 0))[:, :, :-1].flatten(1, 2)  # [2, B T, H]
        slopes = slopes.permute(1, 2, 0, 3)
        return slopes, earlier.mT @ slopes.flatten(1, 2)
