-- Queues no longer belong to a version of a workflow: there is one per workflow and kind of task, and one per external
-- task. A queue's number is the first 48 bits of the SHA-256 of its name (`workflow/queue.rs`). Rows of ended tasks are
-- changed too, because a retry can make them ready again. The old number was `definition_id * 4 + kind`.
UPDATE cloacina_tasks AS t SET queue = ('x' || left(encode(sha256(convert_to(
    e.workflow || CASE t.queue % 4
        WHEN 0 THEN '/sync'
        WHEN 1 THEN '/async'
        ELSE '/external/' || (d.body::json -> 'tasks' -> t.ordinal::integer ->> 'id')
    END, 'UTF8')), 'hex'), 12))::bit(48)::bigint
FROM cloacina_executions AS e JOIN cloacina_definitions AS d ON d.id = e.definition_id
WHERE e.id = t.execution_id;

-- The identity of a schedule is now a JSON array. Before, it was in Rust's debug format, which may change with the
-- compiler. PostgreSQL cannot parse JSON with \u0000, so another character stands in for it here.
UPDATE cloacina_schedules AS s SET identity = replace(
    '[' || to_json(s.workflow)::text
    || ',' || coalesce(nullif((n.spec -> 'expression')::text, 'null'), '""')
    || ',' || (n.spec -> 'timezone')::text
    || ',' || (n.spec -> 'instance')::text || ']', '\ufdd0', '\u0000')
FROM (SELECT id, replace(spec, '\u0000', '\ufdd0')::json AS spec FROM cloacina_schedules WHERE kind = 0) AS n
WHERE n.id = s.id;
