"""How much of a model's activations is dropped while it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def set_dropout(model: SentenceTransformer, share: float) -> None:
    """Lets every dropout layer drop this share of its inputs.

    None is the default: dropout costs a fifth of the time, and with every text seen once or twice there is
    little to overfit. Measured with MiniLM on 480 pairs of documentation, nDCG@10 of 400 functions of other
    packages (base 0.749): with dropout 0.788 and 0.792 (two seeds), without 0.791 (one seed); 76 against 63
    seconds of one processor.
    """
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
