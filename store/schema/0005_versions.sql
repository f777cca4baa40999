CREATE INDEX CONCURRENTLY IF NOT EXISTS predictions_versions  -- else the insights read all of the table to count by it
    ON predictions (model_version) INCLUDE (created_at, true_label, predicted_digit, not_a_digit)
    WHERE true_label IS NOT NULL;
