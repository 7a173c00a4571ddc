"""The statements behind the insights. Each takes `since`, most `zone`; none writes.

None reads more than the period's searches and feedback, and what must look at impressions looks at those of
the period's newest searches only (`newest`): a million searches have ten million impressions.
"""

from __future__ import annotations

SEARCHES_PER_DAY = """
SELECT (at AT TIME ZONE %(zone)s)::date, coalesce(client, 'unknown'), count(*)
FROM searches WHERE source = 'search' AND at >= %(since)s
GROUP BY 1, 2 ORDER BY 1, 2
"""

LATENCY_PER_DAY = """
SELECT (at AT TIME ZONE %(zone)s)::date, count(*),
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms)
FROM searches WHERE source = 'search' AND at >= %(since)s AND latency_ms IS NOT NULL
GROUP BY 1 ORDER BY 1
"""

PEOPLE = """
SELECT count(*) FROM (
    SELECT DISTINCT user_name FROM searches
    WHERE source = 'search' AND at >= %(since)s AND user_name IS NOT NULL
) AS people
"""

# An expired search has lost what it showed and nobody judged: shares of that would be too high.
_NEWEST = """
newest AS (
    SELECT id, query, user_name, coalesce(client, 'unknown') AS client, filters, at FROM searches
    WHERE source = 'search' AND expired_at IS NULL AND at >= %(since)s ORDER BY at DESC, id LIMIT %(newest)s
)"""

# What a person did with one impression: their last word on it, and whether they opened or copied it.
_TOLD = """
told AS (
    SELECT f.search_id, f.snippet_id, coalesce(f.user_name, n.user_name) AS person,
        (array_agg(f.judgement ORDER BY f.at DESC, f.id DESC)
            FILTER (WHERE f.judgement IN ('accept', 'reject')))[1] AS last_word,
        bool_or(f.judgement = 'click') AS opened,
        bool_or(f.judgement = 'copy') AS copied
    FROM feedback f JOIN newest n ON n.id = f.search_id
    GROUP BY 1, 2, 3
)"""

BY_RANK = f"""
WITH {_NEWEST}, {_TOLD}, per_impression AS (
    SELECT search_id, snippet_id, bool_or(opened) AS opened, bool_or(copied) AS copied,
        bool_or(last_word = 'accept') AS accepted, bool_or(last_word = 'reject') AS rejected
    FROM told GROUP BY 1, 2
)
SELECT i.rank, count(*),
    count(*) FILTER (WHERE p.opened), count(*) FILTER (WHERE p.copied),
    count(*) FILTER (WHERE p.accepted), count(*) FILTER (WHERE p.rejected)
FROM newest n JOIN impressions i ON i.search_id = n.id
LEFT JOIN per_impression p ON p.search_id = i.search_id AND p.snippet_id = i.snippet_id
WHERE i.rank <= %(ranks)s GROUP BY i.rank ORDER BY i.rank
"""

# A search satisfied if somebody accepted what it showed, or opened or copied it without rejecting it.
BY_QUERY = f"""
WITH {_NEWEST}, {_TOLD}, liked AS (
    SELECT search_id,
        bool_or(coalesce(last_word = 'accept', opened OR copied)) AS satisfied,
        count(*) FILTER (WHERE last_word = 'reject') AS rejected
    FROM told GROUP BY 1
)
SELECT n.query, count(*), count(*) FILTER (WHERE l.satisfied), count(l.search_id),
    coalesce(sum(l.rejected), 0)::bigint,
    array_agg(DISTINCT n.user_name) FILTER (WHERE n.user_name IS NOT NULL),
    array_agg(DISTINCT n.client), max(n.at), (array_agg(n.id ORDER BY n.at DESC))[1],
    (array_agg(n.filters ORDER BY n.at DESC))[1]
FROM newest n LEFT JOIN liked l ON l.search_id = n.id
GROUP BY n.query
"""

SHOWN = "SELECT search_id, count(*) FROM impressions WHERE search_id = ANY(%(searches)s) GROUP BY 1"

# Per person and impression the last word and the first opening and copying. Imported judgements were not made
# on what is shown here, and their dates may be the import's. Feedback always carries its person's name, and
# within an impression a later judgement has a higher number, given under its lock (feedback/events.py).
_SAID = """
said AS (
    SELECT search_id, snippet_id, user_name AS person,
        max(id) FILTER (WHERE judgement IN ('accept', 'reject')) AS last_word,
        min(at) FILTER (WHERE judgement = 'click') AS opened_at,
        min(at) FILTER (WHERE judgement = 'copy') AS copied_at
    FROM feedback WHERE at >= %(since)s AND import_key IS NULL
    GROUP BY 1, 2, 3
)"""

JUDGEMENTS_PER_DAY = f"""
WITH {_SAID}
SELECT (at AT TIME ZONE %(zone)s)::date, judgement, count(*)
FROM (
    SELECT f.judgement, f.at FROM said JOIN feedback f ON f.id = said.last_word
    UNION ALL SELECT 'click', opened_at FROM said WHERE opened_at IS NOT NULL
    UNION ALL SELECT 'copy', copied_at FROM said WHERE copied_at IS NOT NULL
) AS counted
GROUP BY 1, 2 ORDER BY 1, 2
"""

# By text: the same code accepted in two places is one thing people wanted.
MOST_ACCEPTED = f"""
WITH {_SAID}, accepted AS (
    SELECT snippets.content_hash, count(*) AS times, count(DISTINCT said.person) AS people,
        max(said.snippet_id) AS snippet_id, max(f.at) AS last_at
    FROM said JOIN feedback f ON f.id = said.last_word JOIN snippets ON snippets.id = said.snippet_id
    WHERE f.judgement = 'accept' GROUP BY 1
    ORDER BY times DESC, last_at DESC, snippet_id LIMIT %(most)s
)
SELECT a.snippet_id, r.name, s.path, s.symbol, s.start_line, a.times, a.people, s.vanished_at IS NOT NULL
FROM accepted a JOIN snippets s ON s.id = a.snippet_id JOIN repositories r ON r.id = s.repository_id
ORDER BY a.times DESC, a.last_at DESC, a.snippet_id
"""

MODELS = """
SELECT m.version, m.name, m.state, m.base_version IS NULL, m.created_at,
    e.metrics -> 'overall', e.queries, e.test_set
FROM (SELECT * FROM model_versions ORDER BY created_at DESC, version LIMIT %(most)s) AS m
LEFT JOIN LATERAL (
    SELECT metrics, queries, test_set FROM evaluations
    WHERE model_version = m.version ORDER BY id DESC LIMIT 1
) AS e ON true
ORDER BY m.created_at, m.version
"""

SERVED = """
SELECT model_version, served_from, served_until FROM index_versions
WHERE served_from IS NOT NULL AND model_version = ANY(%(versions)s) ORDER BY served_from, id
"""

# Of each two models the last verdict: a later row replaces an earlier one.
VERDICTS = """
SELECT model_version, serving_version, decision FROM verdicts
WHERE model_version = ANY(%(versions)s) ORDER BY id
"""
