-- Which name became which is put aside beside what has not expired; what expires without it forgets it.
UPDATE searches s SET filters = s.filters || jsonb_build_object('expired_names', aside.names)
FROM (
    SELECT id, jsonb_object_agg(user_name, alias) AS names
    FROM (
        SELECT id, user_name FROM searches UNION SELECT search_id, user_name FROM feedback
    ) AS said JOIN expired_names USING (user_name)
    GROUP BY id
) AS aside
WHERE s.id = aside.id;
DROP TABLE expired_names;
