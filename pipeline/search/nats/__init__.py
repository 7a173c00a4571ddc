"""Embeddings over NATS: what a request and its answer look like, and the worker that answers.

What does not belong here: searching (the room above), making vectors (encoders/).

The contract, for whoever writes a client. Ask with a request on `embedding.request`:

    {"query_id": "7", "query": "read a csv file"}                       a search, embedded as one
    {"query_id": "8", "texts": ["def f(): …", …], "model": "base"}      code, embedded as such

`query_id` is a string or an integer and comes back as it was. `model` is "serving" (the default), "base", or
a registered version, a unique beginning of one (6 hexadecimal digits or more), or a registered name. Fields
that are not known are passed over. The answer comes to the request's reply subject; a request without one is
answered on `embedding.response`:

    {"query_id": "7", "status": "ok", "embedding": […], "dimensions": 384, "model_version": "…",
     "timestamp": "…"}
    {"query_id": "8", "status": "ok", "embeddings": [[…], …], "dimensions": 384, …}
    {"query_id": "9", "status": "error", "error": "The query is empty. …", "timestamp": "…"}

Vectors have unit length and are float32, written so that reading them gives the same number. Only vectors of
one `model_version` can be compared; "serving" may name another one with the next request. An error carries
no `query_id` when the request had none that could be read.

A worker answers each request that reaches it once. Core NATS delivers at most once, so a request is lost when
its worker is killed or the connection breaks: give each a time limit (10 seconds is ample for a query, a
minute for 100 texts), and when it passes, send it again with the same `query_id`. That is always safe, as
embedding changes nothing. Without any worker the server says so at once ("no responders").
"""
