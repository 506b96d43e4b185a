-- Refuses the transaction in which it is called, with a SQLSTATE that says why: ZC001 the writing runner is dead, ZC002 a
-- definition is not stored, ZC003 a task is not what the writer took it for. Only in PostgreSQL: a statement of a pipeline
-- is followed by COMMIT before its answer is read, so only an error keeps it from being committed.
CREATE FUNCTION cloacina_refuse(code TEXT, object TEXT) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'refused', DETAIL = object;
END
$$;
