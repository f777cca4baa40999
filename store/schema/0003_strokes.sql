-- How a drawing was drawn, in which session, and how its label was given: null in rows of before, or where unknown.

ALTER TABLE predictions
    ADD COLUMN IF NOT EXISTS strokes jsonb,  -- [[[x, y], ...], ...] in pixels of the canvas, y downward
    ADD COLUMN IF NOT EXISTS session uuid,  -- made when the page was opened, of no meaning elsewhere
    ADD COLUMN IF NOT EXISTS label_source text;  -- 'confirmed' with the one tap that agrees, or 'chosen' among the ten

-- NOT VALID: rows of before have nothing to check, and need not be read for it while saves wait.
ALTER TABLE predictions
    DROP CONSTRAINT IF EXISTS predictions_strokes,
    DROP CONSTRAINT IF EXISTS predictions_label_source,
    ADD CONSTRAINT predictions_strokes
        CHECK (jsonb_typeof(strokes) = 'array' AND octet_length(strokes::text) <= 131072) NOT VALID,
    ADD CONSTRAINT predictions_label_source
        CHECK (label_source IS NULL OR label_source IN ('confirmed', 'chosen') AND true_label IS NOT NULL) NOT VALID;

-- The strokes lie outside of the row, as the drawing does: what counts rows or shows them in a table reads none.
ALTER TABLE predictions SET (toast_tuple_target = 512);
