-- The ledger: every network that learn.py has made, with what its gate said, and which was in service from when on.

CREATE TABLE IF NOT EXISTS models (
    version text PRIMARY KEY,  -- the first twelve hexadecimal digits of sha256, as in predictions.model_version
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$' AND starts_with(sha256, version) AND length(version) = 12),
    weights bytea NOT NULL CHECK (octet_length(weights) BETWEEN 1 AND 16777216),
    parent text NOT NULL,  -- the version in service that it went on from, and was compared with
    made_at timestamptz NOT NULL DEFAULT now(),
    command text NOT NULL,
    learnt_from jsonb NOT NULL,  -- which rows: how many, and a SHA-256 of their ids and labels (training/labels.py)
    figures jsonb NOT NULL,  -- of its gate; and PyTorch's version that made it, and in a checkout the commit
    refusal text  -- why it was not put into service; null: it was
);

CREATE TABLE IF NOT EXISTS models_in_service (  -- the last row says which is; none: model.pth
    number bigint PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now(),
    version text REFERENCES models,  -- null: model.pth
    how text NOT NULL CHECK (how IN ('promoted', 'rolled back'))
);
