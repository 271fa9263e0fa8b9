-- The reviews of a Parquet file that the model is surest of: python score.py BUNDLE < query.sql
SELECT answer.label, list_max(answer.probabilities) AS confidence, text
FROM (SELECT text, score(text) AS answer FROM 'reviews.parquet')
ORDER BY confidence DESC
LIMIT 10;
