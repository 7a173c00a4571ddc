-- What people asked, what they were shown, and what they did with it.

CREATE TABLE searches (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    query            text NOT NULL CHECK (query <> ''),
    -- 'search': answered here. 'import': judged elsewhere; its impressions carry no rank and no score.
    source           text NOT NULL CHECK (source IN ('search', 'import')),
    user_name        text,
    filters          jsonb NOT NULL DEFAULT '{}',
    model_version    text REFERENCES model_versions,
    index_version_id bigint REFERENCES index_versions,
    latency_ms       double precision,
    at               timestamptz NOT NULL DEFAULT now(),
    import_key       bytea UNIQUE             -- importing the same (query, user) twice finds this row
);

CREATE TABLE impressions (
    search_id  uuid NOT NULL REFERENCES searches ON DELETE CASCADE,
    snippet_id bigint NOT NULL REFERENCES snippets ON DELETE CASCADE,
    rank       int CHECK (rank >= 1),         -- from 1; NULL when imported
    score      double precision,              -- cosine similarity; NULL when imported
    PRIMARY KEY (search_id, snippet_id)
);
CREATE INDEX impressions_snippet ON impressions (snippet_id);

CREATE TABLE feedback (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    search_id  uuid NOT NULL,
    snippet_id bigint NOT NULL,
    judgement  text NOT NULL CHECK (judgement IN ('click', 'copy', 'accept', 'reject')),
    dwell_ms   int CHECK (dwell_ms >= 0),
    user_name  text,
    at         timestamptz NOT NULL DEFAULT now(),
    import_key bytea UNIQUE,                  -- importing the same line twice finds this row
    -- Feedback is always about something that was shown.
    FOREIGN KEY (search_id, snippet_id) REFERENCES impressions (search_id, snippet_id) ON DELETE CASCADE
);
-- Not unique: whoever accepts, rejects and accepts again has said three things, and the last one counts.
-- That saying the same twice adds nothing is kept by feedback/events.py, under a lock on the impression.
CREATE INDEX feedback_impression ON feedback (search_id, snippet_id);
