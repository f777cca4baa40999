-- Two indexes of early tables lack the column by which the insights count: they are built anew. Until then the old ones
-- serve, under another name.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['predictions_newest', 'predictions_labelled'] LOOP
        IF to_regclass(name) IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = to_regclass(name) AND attname = 'not_a_digit'
        ) THEN
            EXECUTE format('ALTER INDEX %I RENAME TO %I', name, name || '_early');
        END IF;
    END LOOP;
END $$;

CREATE INDEX CONCURRENTLY IF NOT EXISTS predictions_newest
    ON predictions (created_at DESC, id DESC) INCLUDE (true_label, predicted_digit, not_a_digit);

CREATE INDEX CONCURRENTLY IF NOT EXISTS predictions_labelled
    ON predictions (true_label, predicted_digit, confidence) INCLUDE (not_a_digit) WHERE true_label IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS predictions_newest_early;

DROP INDEX CONCURRENTLY IF EXISTS predictions_labelled_early;
