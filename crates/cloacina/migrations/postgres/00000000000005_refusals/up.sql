-- Raises an error that rolls back the calling transaction. The SQLSTATE tells why: ZC001 the writing runner is dead,
-- ZC002 a definition is not stored, ZC003 a task is not what the writer assumed. Only in PostgreSQL: there a statement
-- of a pipeline is followed by COMMIT before its answer is read, so only an error prevents the commit.
CREATE FUNCTION cloacina_refuse(code TEXT, object TEXT) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'refused', DETAIL = object;
END
$$;
