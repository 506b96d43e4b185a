-- Raises an error that rolls back the calling transaction. The SQLSTATE tells why: ZC001, the writing runner is dead;
-- ZC002, a definition is not stored; ZC003, a task has no row to update, or is not claimed as the writer assumed; ZC004,
-- the writer has ended an execution without recording it for the triggers that follow other workflows. Only PostgreSQL
-- needs this function: a pipeline sends COMMIT before it reads the answers to the earlier statements, so only an error
-- can prevent the commit.
CREATE FUNCTION cloacina_refuse(code TEXT, object TEXT) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'refused', DETAIL = object;
END
$$;
