UPDATE cloacina_tasks AS t SET queue = e.definition_id * 4 + CASE
    coalesce(d.body::json -> 'tasks' -> t.ordinal::integer ->> 'kind', 'sync')
    WHEN 'sync' THEN 0 WHEN 'async' THEN 1 ELSE 2 END
FROM cloacina_executions AS e JOIN cloacina_definitions AS d ON d.id = e.definition_id
WHERE e.id = t.execution_id;
