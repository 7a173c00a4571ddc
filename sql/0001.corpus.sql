-- Repositories, the files that were read, and the snippets cut out of them.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE repositories (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    kind          text NOT NULL CHECK (kind IN ('git', 'directory', 'distribution')),
    location      text NOT NULL,
    ref           text,                       -- git only; NULL means HEAD
    added_at      timestamptz NOT NULL DEFAULT now(),
    commit_id     text,                       -- what the last extraction read
    extracted_at  timestamptz,
    report        jsonb NOT NULL DEFAULT '{}' -- the last extraction's ExtractionReport
);

-- One row per file looked at, so that an unchanged blob is not parsed again.
CREATE TABLE files (
    repository_id  bigint NOT NULL REFERENCES repositories ON DELETE CASCADE,
    path           text NOT NULL,
    blob_hash      text NOT NULL,
    language       text,
    extractor      text NOT NULL,             -- version of grammar, query, splitter and token limit
    skipped        text,                      -- why it gave no snippets; NULL when it was parsed
    syntax_errors  int NOT NULL DEFAULT 0,
    problem        text,                      -- what its owner may want to know; in every report while it stands
    PRIMARY KEY (repository_id, path)
);

-- The texts that are embedded, each once, however many snippets share it.
CREATE TABLE contents (
    content_hash      bytea PRIMARY KEY CHECK (length(content_hash) = 32), -- SHA-256 of text
    text              text NOT NULL CHECK (text <> ''),
    documentation     text,                   -- the leading comment or docstring, as prose
    undocumented_text text                    -- text with the documentation cut out
);

CREATE TABLE snippets (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository_id bigint NOT NULL REFERENCES repositories ON DELETE CASCADE,
    path          text NOT NULL,
    symbol        text NOT NULL,              -- qualified name, unique in its file
    kind          text NOT NULL CHECK (kind IN ('function', 'method', 'class', 'module')),
    language      text NOT NULL,
    signature     text NOT NULL,
    code          text NOT NULL CHECK (code <> ''), -- the source lines as they stand in the file
    start_line    int NOT NULL CHECK (start_line >= 1),
    end_line      int NOT NULL CHECK (end_line >= start_line),
    commit_id     text,
    content_hash  bytea NOT NULL REFERENCES contents,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    vanished_at   timestamptz,                -- NULL while the code is there
    UNIQUE (repository_id, path, symbol)
);
CREATE INDEX snippets_content_hash ON snippets (content_hash);
CREATE INDEX snippets_live ON snippets (repository_id, path) WHERE vanished_at IS NULL;
-- How many live snippets a filtered search is about decides how it is answered (pipeline/search/nearest.py).
CREATE INDEX snippets_live_language ON snippets (language, repository_id) WHERE vanished_at IS NULL;
