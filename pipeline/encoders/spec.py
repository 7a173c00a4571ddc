"""EncoderSpec: everything about an encoder but its weights, as data that travels with every checkpoint."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# A plain folder name: a spec may come out of a checkpoint and must not point elsewhere.
_FOLDER = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
Pooling = Literal["mean", "cls", "last"]


class MemberSpec(BaseModel):
    """One model of an encoder: where its files are, and how its token vectors become one vector.

    Args:
        source: `wheel:package/folder`, `path:/absolute/folder`, `hub:org/name`, or `checkpoint:folder`
            (a folder inside the checkpoint whose manifest holds this spec).
        revision: the commit of a hub model; a hub member cannot be loaded without one.
        weights_sha256: what its weights must hash to, when that is known beforehand (see
            `files.weights_digest`).
        dims: length of its vectors.
        max_tokens: longest input, special tokens included; the rest of a text is cut off.
        pooling: `mean` of the token vectors, `cls` (the first token's) or `last` (the last token's).
        normalize: whether its vector gets unit length before members are concatenated.
        query_prompt, document_prompt: put in front of every query or document.
        query_adapter, document_adapter: folders of LoRA adapters in the model's directory, in PEFT's format,
            added to its weights for queries and for documents.
        trainable: whether fine-tuning may change it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(pattern=r"^(wheel|path|hub|checkpoint):.+$")
    revision: str | None = None
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    dims: int = Field(ge=1)
    max_tokens: int = Field(ge=2)
    pooling: Pooling = "mean"
    normalize: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    query_adapter: str | None = Field(default=None, pattern=_FOLDER)
    document_adapter: str | None = Field(default=None, pattern=_FOLDER)
    trainable: bool = True

    @model_validator(mode="after")
    def _adapted_is_frozen(self) -> Self:
        # Fine-tuning saves one set of weights, and with adapters queries and documents have two.
        if self.trainable and self.adapters:
            raise ValueError("a member with adapters cannot be trainable")
        return self

    def adapter(self, role: Literal["query", "document"]) -> str | None:
        """The folder of the adapter that is in force for a role; None: the weights as they are."""
        return self.query_adapter if role == "query" else self.document_adapter

    @property
    def adapters(self) -> tuple[str, ...]:
        """The folders of its adapters, each once."""
        named = (self.query_adapter, self.document_adapter)
        return tuple(dict.fromkeys(folder for folder in named if folder is not None))


class EncoderSpec(BaseModel):
    """An encoder: one member, or several whose vectors are concatenated and brought to unit length.

    Example: `EncoderSpec(name="minilm", members=(MemberSpec(source="path:/models/minilm", ...),))`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    members: tuple[MemberSpec, ...] = Field(min_length=1)

    @field_validator("members")
    @classmethod
    def _one_trains(cls, members: tuple[MemberSpec, ...]) -> tuple[MemberSpec, ...]:
        # Two trainable members would need one loss over both; fine-tuning handles exactly one.
        if sum(member.trainable for member in members) > 1:
            raise ValueError("at most one member of an encoder can be trainable")
        return members

    @property
    def dims(self) -> int:
        """Length of the encoder's vectors: the members' lengths added up."""
        return sum(member.dims for member in self.members)

    @property
    def max_tokens(self) -> int:
        """The longest text that every member sees whole, in tokens."""
        return min(member.max_tokens for member in self.members)

    @property
    def trainable_member(self) -> int | None:
        """Index of the member that fine-tuning changes; None if all are frozen."""
        return next((i for i, member in enumerate(self.members) if member.trainable), None)
