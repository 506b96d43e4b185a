-- Queues no longer belong to a version of a workflow: there is one per workflow and kind of task, and one per external
-- task. The function `cloacina_queue`, which the program provides (`workflow/queue.rs`), computes a queue's number from
-- its name. Rows of ended tasks are changed too, because a retry can make them ready again. The old number was
-- `definition_id * 4 + kind`.
UPDATE cloacina_tasks SET queue = cloacina_queue(
    e.workflow || CASE cloacina_tasks.queue % 4
        WHEN 0 THEN '/sync'
        WHEN 1 THEN '/async'
        ELSE '/external/' || json_extract(d.body, '$.tasks[' || cloacina_tasks.ordinal || '].id')
    END
)
FROM cloacina_executions AS e JOIN cloacina_definitions AS d ON d.id = e.definition_id
WHERE e.id = cloacina_tasks.execution_id;

-- The identity of a schedule is now a JSON array. Before, it was in Rust's debug format, which may change with the
-- compiler.
UPDATE cloacina_schedules SET identity = '[' || json_quote(workflow) || ',' || coalesce(nullif(spec -> '$.expression', 'null'), '""')
    || ',' || (spec -> '$.timezone') || ',' || (spec -> '$.instance') || ']'
WHERE kind = 0;
