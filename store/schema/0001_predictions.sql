-- The table. One that an earlier release has made is this one already, and stays with every row.

SELECT pg_advisory_xact_lock(280280);  -- processes of that release make it under this lock, too

CREATE TABLE IF NOT EXISTS predictions (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL CHECK (created_at BETWEEN '1999-12-31Z' AND '3000-01-02Z'),
    updated_at timestamptz NOT NULL DEFAULT now(),
    predicted_digit smallint NOT NULL CHECK (predicted_digit BETWEEN 0 AND 9),
    confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    probabilities double precision[] NOT NULL CHECK (
        array_ndims(probabilities) = 1 AND cardinality(probabilities) = 10
        AND array_position(probabilities, NULL) IS NULL
        AND 0 <= ALL (probabilities) AND 1 >= ALL (probabilities)),
    not_a_digit double precision NOT NULL CHECK (not_a_digit BETWEEN 0 AND 1),
    true_label smallint CHECK (true_label BETWEEN 0 AND 9),
    labelled_at timestamptz,
    drawing bytea NOT NULL CHECK (octet_length(drawing) BETWEEN 1 AND 262144),
    model_version text NOT NULL CHECK (length(model_version) BETWEEN 1 AND 64),
    thumbnail bytea CHECK (octet_length(thumbnail) <= 1024),  -- of the drawing, for the history
    CHECK ((true_label IS NULL) = (labelled_at IS NULL))
);

-- One for each view of the page; docs/scale.md shows their plans.
CREATE INDEX IF NOT EXISTS predictions_newest
    ON predictions (created_at DESC, id DESC) INCLUDE (true_label, predicted_digit, not_a_digit);
CREATE INDEX IF NOT EXISTS predictions_changed ON predictions (updated_at, id);
CREATE INDEX IF NOT EXISTS predictions_labelled
    ON predictions (true_label, predicted_digit, confidence) INCLUDE (not_a_digit) WHERE true_label IS NOT NULL;
