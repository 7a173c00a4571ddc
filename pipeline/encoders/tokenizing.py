"""Text to token ids with a model's own tokenizer.json, without torch or transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.encoders.counting import encodable
from pipeline.encoders.files import DamagedModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextTokenizer:
    """One member's tokenizer: ids cut off at `max_tokens` for the model, whole counts for everyone else.

    Args:
        path: the model's tokenizer.json.
        max_tokens: longest sequence of ids, special tokens included.
    """

    def __init__(self, path: Path, max_tokens: int, fix: str) -> None:
        self.max_tokens = max_tokens
        # Truncation is a state of a tokenizer, so counting needs one of its own.
        self._cutting = read_tokenizer(path, fix)
        self._cutting.no_padding()
        self._cutting.enable_truncation(max_tokens)
        self._whole = read_tokenizer(path, fix)
        self._whole.no_padding()
        self._whole.no_truncation()

    @property
    def vocabulary_size(self) -> int:
        """Number of different ids, added tokens included."""
        return self._whole.get_vocab_size(with_added_tokens=True)

    def token(self, number: int) -> str:
        """The token with this id. Raises KeyError if there is none."""
        token = self._whole.id_to_token(number)
        if token is None:
            raise KeyError(number)
        return token

    def knows(self, token: str) -> bool:
        """Whether it has this very token."""
        return self._whole.token_to_id(token) is not None

    def differs(self, number: int, token: str) -> bool:
        """Whether another token than this has the id `number`."""
        return self._whole.id_to_token(number) not in (None, token)

    @property
    def is_word_piece(self) -> bool:
        """Whether it is one whose vocabulary can be written as a list of tokens."""
        return type(self._whole.model).__name__ == "WordPiece"

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, special tokens included, at most `max_tokens` of them."""
        return [encoding.ids for encoding in self._cutting.encode_batch_fast(encodable(texts))]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens included, however long it is."""
        return [len(encoding.ids) for encoding in self._whole.encode_batch_fast(encodable(texts))]


def read_tokenizer(path: Path, fix: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json. Raises DamagedModelError, with `fix` as its hint."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise DamagedModelError(f"{path} is missing.", hint=fix)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise DamagedModelError(f"{path} cannot be read: {error}.", hint=fix) from error
