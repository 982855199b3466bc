"""The ensembles of the MMMOS paper: the strategies of Table IV, which choose models on two sets of labelled clips.

Each strategy ranks the models by the SRCC of their composite and gives the chosen ones equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol

from mmmos.ensemble.selection import Array, equal_weights, in_both, rank_models
from mmmos.errors import UsageError
from mmmos.paper import CHECK_MARKED, CONFIGURATIONS

CHECK_MARKS = "paper_checkmarks"
"""The rule of `submitted` that chooses the configurations with a check mark in Table III."""

RANKING_RULES = {"rule_12_12": (12, 12), "rule_11_12": (11, 12)}
"""Rules of `submitted` that rank: models among the best n on development clips and among the best m on PAM.

(12, 12) is the rule in the paper's text, which gives nine models by the paper's numbers; (11, 12) gives the eight
models with a check mark.
"""

RULES = (CHECK_MARKS, *RANKING_RULES)
"""All rules of `submitted`."""


class Strategy(Protocol):
    """Weights [M, A] from predictions [M, N, A] on development clips and their labels [N, A]."""

    def __call__(
        self,
        predictions: Array,
        targets: Array,
        *,
        names: Sequence[str] | None = None,
        pam: tuple[Array, Array] | None = None,
        rule: str = CHECK_MARKS,
    ) -> Array:
        """Compute the weights of the models; columns sum to 1.

        Shape:
            - predictions: [M, N, A] on the label scale, all finite
            - targets: [N, A], NaN if a clip was not rated
            - names: M configurations; by default the paper's for sixteen models, else "model 0" ...
            - pam: predictions [M, K, A] and targets [K, A] for strategies that choose on PAM; by default these choose
              on the development clips
            - rule: of `RULES`, for `submitted`; the others ignore it
            - returns: [M, A]
        """
        ...


def every_model(
    predictions: Array,
    targets: Array,
    *,
    names: Sequence[str] | None = None,
    pam: tuple[Array, Array] | None = None,
    rule: str = CHECK_MARKS,
) -> Array:
    """Equal weights for all models: [M, N, A] and [N, A] -> [M, A]."""
    return _weights(range(len(predictions)), predictions)


def _best(
    predictions: Array,
    targets: Array,
    *,
    count: int,
    on: Literal["dev", "pam"],
    names: Sequence[str] | None = None,
    pam: tuple[Array, Array] | None = None,
    rule: str = CHECK_MARKS,
) -> Array:
    """Equal weights for the best `count` models on one set, or for all if there are fewer."""
    known = _names(names, predictions)
    ranked = rank_models(*(pam if on == "pam" and pam is not None else (predictions, targets)), known)
    return _weights(ranked[:count], predictions)


def submitted(
    predictions: Array,
    targets: Array,
    *,
    names: Sequence[str] | None = None,
    pam: tuple[Array, Array] | None = None,
    rule: str = CHECK_MARKS,
) -> Array:
    """The paper's entry, [M, N, A] and [N, A] -> [M, A].

    By default it consists of the given configurations with a check mark in Table III; with one of `RANKING_RULES`, of
    the models among the best in both rankings. Raises `UsageError` for an unknown rule, and if no model is left.
    """
    known = _names(names, predictions)
    if rule == CHECK_MARKS:
        chosen = [i for i, name in enumerate(known) if name in CHECK_MARKED]
        if not chosen:
            raise UsageError(f"none of {', '.join(known)} is a configuration that the paper submitted")
        return _weights(chosen, predictions)
    if rule not in RANKING_RULES:
        raise UsageError(f"unknown rule {rule!r} of the submitted ensemble; choose one of {', '.join(RULES)}")
    on_dev = rank_models(predictions, targets, known)
    on_pam = on_dev if pam is None else rank_models(*pam, known)
    chosen = in_both(on_dev, on_pam, *RANKING_RULES[rule])
    if not chosen:
        raise UsageError(f"no model is among the best on both sets, as {rule} requires")
    return _weights(chosen, predictions)


STRATEGIES: dict[str, Strategy] = {
    "submitted": submitted,
    "all": every_model,
    "pam_top_8": partial(_best, count=8, on="pam"),
    "pam_top_4": partial(_best, count=4, on="pam"),
    "dev_top_8": partial(_best, count=8, on="dev"),
    "pam_top_1": partial(_best, count=1, on="pam"),
}
"""Name in Table IV -> function from predictions on development clips [M, N, A] and labels [N, A] to weights [M, A]."""


def _names(names: Sequence[str] | None, predictions: Array) -> Sequence[str]:
    count = len(predictions)
    if names is None:
        return CONFIGURATIONS if count == len(CONFIGURATIONS) else [f"model {i}" for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} names for the predictions of {count} models")
    return names


def _weights(chosen: Sequence[int], predictions: Array) -> Array:
    return equal_weights(chosen, predictions.shape[0], predictions.shape[2])
