UPDATE cloacina_tasks SET queue = e.definition_id * 4 + CASE
    coalesce(json_extract(d.body, '$.tasks[' || cloacina_tasks.ordinal || '].kind'), 'sync')
    WHEN 'sync' THEN 0 WHEN 'async' THEN 1 ELSE 2 END
FROM cloacina_executions AS e JOIN cloacina_definitions AS d ON d.id = e.definition_id
WHERE e.id = cloacina_tasks.execution_id;
