-- Fails on the first vector of the bundle that score() does not reproduce: python score.py BUNDLE < check.sql
SET VARIABLE tolerance = (SELECT tolerance FROM read_json(getvariable('bundle') || '/manifest.json'));

WITH scored AS (
    SELECT text, label, probabilities, score(text) AS answer
    FROM read_json(getvariable('bundle') || '/vectors.jsonl')
), compared AS (
    SELECT text, answer.label <> label AS other_label,
        list_max([abs(answer.probabilities[i] - probabilities[i]) FOR i IN range(1, len(probabilities) + 1)]) AS difference
    FROM scored
)
SELECT if(count(*) > 0, count(*), error('no vectors in the bundle; export it anew')) AS vectors_that_agree, max(
    CASE WHEN other_label OR difference > getvariable('tolerance')
        THEN error(format('differs by {} or in its label: {}', difference, text[:80]))
        ELSE difference
    END
) AS worst FROM compared;
