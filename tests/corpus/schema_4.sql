--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: cloacina_refuse(text, text); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.cloacina_refuse(code text, object text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'refused', DETAIL = object;
END
$$;




--
-- Name: cloacina_definitions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_definitions (
    id bigint NOT NULL,
    workflow text NOT NULL,
    version text NOT NULL,
    body text NOT NULL,
    task_count bigint NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT cloacina_definitions_task_count_check CHECK ((task_count > 0))
);


--
-- Name: cloacina_definitions_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.cloacina_definitions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.cloacina_definitions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: cloacina_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_events (
    id bigint NOT NULL,
    execution_id uuid NOT NULL,
    "time" bigint NOT NULL,
    kind text NOT NULL,
    ordinal bigint,
    attempt bigint,
    runner_id uuid,
    data text
);


--
-- Name: cloacina_events_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.cloacina_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.cloacina_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: cloacina_executions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_executions (
    id uuid NOT NULL,
    definition_id bigint NOT NULL,
    workflow text NOT NULL,
    state smallint NOT NULL,
    revision bigint NOT NULL,
    priority smallint NOT NULL,
    execution_key text,
    created_at bigint NOT NULL,
    start_at bigint,
    started_at bigint,
    ended_at bigint,
    timeout bigint,
    deadline bigint,
    paused_at bigint,
    error text,
    CONSTRAINT cloacina_executions_revision_check CHECK ((revision > 0)),
    CONSTRAINT cloacina_executions_state_check CHECK (((state >= 0) AND (state <= 5)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_analyze_scale_factor='0.05');


--
-- Name: cloacina_inputs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_inputs (
    execution_id uuid NOT NULL,
    input text NOT NULL
);


--
-- Name: cloacina_logs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_logs (
    id bigint NOT NULL,
    execution_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    attempt bigint NOT NULL,
    lines text NOT NULL
);


--
-- Name: cloacina_logs_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.cloacina_logs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.cloacina_logs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: cloacina_migrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_migrations (
    version text NOT NULL,
    applied_at bigint NOT NULL
);


--
-- Name: cloacina_offers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_offers (
    workflow text NOT NULL,
    runner_id uuid NOT NULL,
    tasks text NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    seen_at bigint NOT NULL
);


--
-- Name: cloacina_progress; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_progress (
    execution_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    attempt bigint NOT NULL,
    done double precision NOT NULL,
    total double precision NOT NULL,
    message text,
    "time" bigint NOT NULL
)
WITH (fillfactor='50');


--
-- Name: cloacina_runners; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_runners (
    id uuid NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    pid_started bigint NOT NULL,
    started_at bigint NOT NULL,
    heartbeat_at bigint NOT NULL,
    lease_until bigint NOT NULL,
    dead_at bigint,
    workflows text NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='50', autovacuum_vacuum_scale_factor='0');


--
-- Name: cloacina_schedules; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_schedules (
    id uuid NOT NULL,
    kind smallint NOT NULL,
    identity text NOT NULL,
    workflow text NOT NULL,
    enabled boolean NOT NULL,
    revision bigint NOT NULL,
    spec text NOT NULL,
    state text NOT NULL,
    next_due bigint,
    wake_at bigint,
    last_due bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    deleted_at bigint,
    CONSTRAINT cloacina_schedules_kind_check CHECK (((kind >= 0) AND (kind <= 1))),
    CONSTRAINT cloacina_schedules_revision_check CHECK ((revision > 0))
)
WITH (fillfactor='70');


--
-- Name: cloacina_tasks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_tasks (
    execution_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    state smallint NOT NULL,
    attempt bigint NOT NULL,
    uncounted bigint NOT NULL,
    rescues bigint NOT NULL,
    runner_id uuid,
    ready_at bigint,
    queue bigint NOT NULL,
    priority smallint NOT NULL,
    started_at bigint,
    ended_at bigint,
    delta text,
    error text,
    skip text,
    CONSTRAINT cloacina_tasks_attempt_check CHECK ((attempt >= 0)),
    CONSTRAINT cloacina_tasks_ordinal_check CHECK ((ordinal >= 0)),
    CONSTRAINT cloacina_tasks_state_check CHECK (((state >= 0) AND (state <= 6)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_analyze_scale_factor='0.05');


--
-- Name: cloacina_ticks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_ticks (
    schedule_id uuid NOT NULL,
    due_at bigint NOT NULL,
    outcome smallint NOT NULL,
    execution_id uuid,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    detail text,
    CONSTRAINT cloacina_ticks_outcome_check CHECK (((outcome >= 0) AND (outcome <= 5)))
);


--
-- Data for Name: cloacina_definitions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_definitions OVERRIDING SYSTEM VALUE VALUES (1, 'corpus', '949ea028403508ee', '{"name":"corpus","tenant":"public","package":"embedded","description":"","tags":{},"tasks":[{"id":"first","dependencies":[],"rule":"none_failed","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"a626bfbdaa4c0de1"},{"id":"held","dependencies":["first"],"rule":"none_failed","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"27650ea7c104c3a2"},{"id":"flaky","dependencies":["first"],"rule":"none_failed","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":500000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"8e9eb3bebd9c5545"},{"id":"broken","dependencies":["first"],"rule":"none_failed","retry":{"max_attempts":1,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"5b726c625a36194d"},{"id":"last","dependencies":["held","flaky","broken"],"rule":"always","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"ac0c67e4cb38989d"}]}', 5, 1795674122332173);


--
-- Data for Name: cloacina_events; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_events OVERRIDING SYSTEM VALUE VALUES (1, '01a21684-a999-74f6-900c-edc29c0bfbc5', 1795674122669706, 'paused', NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_events OVERRIDING SYSTEM VALUE VALUES (2, '01a21684-a9c9-77d1-b4ca-b600a39acd38', 1795674122719716, 'cancelled', NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_events OVERRIDING SYSTEM VALUE VALUES (3, '01a21684-aa19-75ba-8054-ee94a2ac1eb2', 1795674122843612, 'task_retrying', 2, 1, '01a21684-a7f1-790a-8dc0-4fb1cfe5543b', '{"delay_us":557213,"error":{"message":"not yet","type":"ConnectionError"},"started_at":1795674122817733}');


--
-- Data for Name: cloacina_executions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_executions VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', 1, 'corpus', 3, 8, 0, 'completed', 1795674122359516, NULL, 1795674122446788, 1795674122537602, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', 1, 'corpus', 4, 4, 0, 'failed', 1795674122566074, NULL, 1795674122585607, 1795674122625758, NULL, NULL, NULL, '[3,{"type":"ValueError","message":"on purpose","traceback":"Traceback (most recent call last):\n  File \"tests/corpus_workflows.py\", line 31, in broken\n    raise ValueError(\"on purpose\")\nValueError: on purpose\n"}]');
INSERT INTO public.cloacina_executions VALUES ('01a21684-a999-74f6-900c-edc29c0bfbc5', 1, 'corpus', 2, 2, 0, 'paused', 1795674122649738, 1795677722649666, NULL, NULL, NULL, NULL, 1795674122669706, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', 1, 'corpus', 5, 2, 0, 'cancelled', 1795674122700805, 1795677722697841, NULL, 1795674122719716, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a21684-a9fd-76a9-9863-a7c5f4974e89', 1, 'corpus', 0, 1, 0, 'delayed', 1795674122749847, 1795674127749529, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a21684-aa11-73f9-a943-c86ff95b3de3', 1, 'corpus', 1, 3, 3, 'running', 1795674122769907, NULL, 1795674122780812, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a21684-aa19-75ba-8054-ee94a2ac1eb2', 1, 'corpus', 1, 3, 0, 'retrying', 1795674122777938, NULL, 1795674122795788, NULL, 1000000000000000, 2795674122795837, NULL, NULL);


--
-- Data for Name: cloacina_inputs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_inputs VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', '{"number":1}');
INSERT INTO public.cloacina_inputs VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', '{"number":2,"broken":true}');
INSERT INTO public.cloacina_inputs VALUES ('01a21684-a999-74f6-900c-edc29c0bfbc5', '{"number":3}');
INSERT INTO public.cloacina_inputs VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', '{"number":4}');
INSERT INTO public.cloacina_inputs VALUES ('01a21684-a9fd-76a9-9863-a7c5f4974e89', '{"number":5}');
INSERT INTO public.cloacina_inputs VALUES ('01a21684-aa11-73f9-a943-c86ff95b3de3', '{"number":6,"hold":true}');
INSERT INTO public.cloacina_inputs VALUES ('01a21684-aa19-75ba-8054-ee94a2ac1eb2', '{"number":7,"hold":true,"flaky":true}');


--
-- Data for Name: cloacina_logs; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: cloacina_migrations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_migrations VALUES ('00000000000001', 1795674122013837);
INSERT INTO public.cloacina_migrations VALUES ('00000000000002', 1795674122117339);
INSERT INTO public.cloacina_migrations VALUES ('00000000000003', 1795674122181229);
INSERT INTO public.cloacina_migrations VALUES ('00000000000004', 1795674122192891);
INSERT INTO public.cloacina_migrations VALUES ('00000000000005', 1795674122204818);


--
-- Data for Name: cloacina_offers; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_offers VALUES ('corpus', '01a21684-a7f1-790a-8dc0-4fb1cfe5543b', '["broken","first","flaky","held","last"]', 'vm', 23686, 1795674122445123);


--
-- Data for Name: cloacina_progress; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: cloacina_runners; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_runners VALUES ('01a21684-a7f1-790a-8dc0-4fb1cfe5543b', 'elsewhere', 1, 80472, 1795674122225571, 1795674122226254, 1795674137226254, NULL, '["corpus"]');


--
-- Data for Name: cloacina_schedules; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: cloacina_tasks; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_tasks VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', 0, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122446788, 1795674122470115, '{"s":{"first":10}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', 1, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122525037, 1795674122525445, '{"s":{"held":11}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', 2, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122525332, 1795674122525445, '{"s":{"attempt":1}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', 3, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122525417, 1795674122525445, '{}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a877-728a-b2f4-58b2c5c3f3ff', 4, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122537440, 1795674122537602, '{"s":{"last":true}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', 0, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122585607, 1795674122585830, '{"s":{"first":20}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', 1, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122605395, 1795674122608119, '{"s":{"held":21}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', 2, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122605643, 1795674122608119, '{"s":{"attempt":1}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', 3, 4, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122605737, 1795674122608119, NULL, '{"type":"ValueError","message":"on purpose","traceback":"Traceback (most recent call last):\n  File \"tests/corpus_workflows.py\", line 31, in broken\n    raise ValueError(\"on purpose\")\nValueError: on purpose\n"}', NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a945-76b7-80d9-52faf39402b1', 4, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122625572, 1795674122625758, '{"s":{"last":true}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a999-74f6-900c-edc29c0bfbc5', 0, 0, 0, 0, 0, NULL, 1795677722649666, 51396552059613, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', 0, 6, 0, 0, 0, NULL, 1795677722697841, 51396552059613, 0, NULL, 1795674122719716, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', 1, 6, 0, 0, 0, NULL, NULL, 51396552059613, 0, NULL, 1795674122719716, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', 2, 6, 0, 0, 0, NULL, NULL, 51396552059613, 0, NULL, 1795674122719716, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', 3, 6, 0, 0, 0, NULL, NULL, 51396552059613, 0, NULL, 1795674122719716, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a9c9-77d1-b4ca-b600a39acd38', 4, 6, 0, 0, 0, NULL, NULL, 51396552059613, 0, NULL, 1795674122719716, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-a9fd-76a9-9863-a7c5f4974e89', 0, 1, 0, 0, 0, NULL, 1795674127749529, 51396552059613, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa11-73f9-a943-c86ff95b3de3', 0, 3, 1, 0, 0, NULL, NULL, 51396552059613, 3, 1795674122780812, 1795674122791599, '{"s":{"first":60}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa11-73f9-a943-c86ff95b3de3', 1, 2, 1, 0, 0, '01a21684-a7f1-790a-8dc0-4fb1cfe5543b', NULL, 51396552059613, 3, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa19-75ba-8054-ee94a2ac1eb2', 0, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122795788, 1795674122813413, '{"s":{"first":70}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa19-75ba-8054-ee94a2ac1eb2', 1, 2, 1, 0, 0, '01a21684-a7f1-790a-8dc0-4fb1cfe5543b', NULL, 51396552059613, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa11-73f9-a943-c86ff95b3de3', 2, 3, 1, 0, 0, NULL, NULL, 51396552059613, 3, 1795674122814886, 1795674122817258, '{"s":{"attempt":1}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa11-73f9-a943-c86ff95b3de3', 3, 3, 1, 0, 0, NULL, NULL, 51396552059613, 3, 1795674122815000, 1795674122817258, '{}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa19-75ba-8054-ee94a2ac1eb2', 2, 1, 1, 0, 0, NULL, 1795674123400825, 51396552059613, 0, NULL, NULL, NULL, '{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/corpus_workflows.py\", line 25, in flaky\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet\n"}', NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a21684-aa19-75ba-8054-ee94a2ac1eb2', 3, 3, 1, 0, 0, NULL, NULL, 51396552059613, 0, 1795674122818293, 1795674122843612, '{}', NULL, NULL);


--
-- Data for Name: cloacina_ticks; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Name: cloacina_definitions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.cloacina_definitions_id_seq', 1, true);


--
-- Name: cloacina_events_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.cloacina_events_id_seq', 3, true);


--
-- Name: cloacina_logs_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.cloacina_logs_id_seq', 1, false);


--
-- Name: cloacina_definitions cloacina_definitions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_definitions
    ADD CONSTRAINT cloacina_definitions_pkey PRIMARY KEY (id);


--
-- Name: cloacina_definitions cloacina_definitions_workflow_version_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_definitions
    ADD CONSTRAINT cloacina_definitions_workflow_version_key UNIQUE (workflow, version);


--
-- Name: cloacina_events cloacina_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_events
    ADD CONSTRAINT cloacina_events_pkey PRIMARY KEY (id);


--
-- Name: cloacina_executions cloacina_executions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_executions
    ADD CONSTRAINT cloacina_executions_pkey PRIMARY KEY (id);


--
-- Name: cloacina_inputs cloacina_inputs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_inputs
    ADD CONSTRAINT cloacina_inputs_pkey PRIMARY KEY (execution_id);


--
-- Name: cloacina_logs cloacina_logs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_logs
    ADD CONSTRAINT cloacina_logs_pkey PRIMARY KEY (id);


--
-- Name: cloacina_migrations cloacina_migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_migrations
    ADD CONSTRAINT cloacina_migrations_pkey PRIMARY KEY (version);


--
-- Name: cloacina_offers cloacina_offers_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_offers
    ADD CONSTRAINT cloacina_offers_pkey PRIMARY KEY (workflow, runner_id);


--
-- Name: cloacina_progress cloacina_progress_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_progress
    ADD CONSTRAINT cloacina_progress_pkey PRIMARY KEY (execution_id, ordinal);


--
-- Name: cloacina_runners cloacina_runners_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_runners
    ADD CONSTRAINT cloacina_runners_pkey PRIMARY KEY (id);


--
-- Name: cloacina_schedules cloacina_schedules_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_schedules
    ADD CONSTRAINT cloacina_schedules_pkey PRIMARY KEY (id);


--
-- Name: cloacina_tasks cloacina_tasks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_tasks
    ADD CONSTRAINT cloacina_tasks_pkey PRIMARY KEY (execution_id, ordinal);


--
-- Name: cloacina_ticks cloacina_ticks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_ticks
    ADD CONSTRAINT cloacina_ticks_pkey PRIMARY KEY (schedule_id, due_at);


--
-- Name: cloacina_events_execution; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_events_execution ON public.cloacina_events USING btree (execution_id, id);


--
-- Name: cloacina_executions_deadline; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_executions_deadline ON public.cloacina_executions USING btree (deadline, id) WHERE ((deadline IS NOT NULL) AND (state = 1));


--
-- Name: cloacina_executions_definition; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_executions_definition ON public.cloacina_executions USING btree (definition_id, id);


--
-- Name: cloacina_executions_key; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX cloacina_executions_key ON public.cloacina_executions USING btree (workflow, execution_key) WHERE (execution_key IS NOT NULL);


--
-- Name: cloacina_executions_state; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_executions_state ON public.cloacina_executions USING btree (state, id) WHERE (state <> 3);


--
-- Name: cloacina_logs_execution; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_logs_execution ON public.cloacina_logs USING btree (execution_id, id);


--
-- Name: cloacina_schedules_identity; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX cloacina_schedules_identity ON public.cloacina_schedules USING btree (kind, identity) WHERE (deleted_at IS NULL);


--
-- Name: cloacina_schedules_wake; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_schedules_wake ON public.cloacina_schedules USING btree (kind, wake_at) WHERE (wake_at IS NOT NULL);


--
-- Name: cloacina_tasks_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_tasks_due ON public.cloacina_tasks USING btree (queue, priority DESC, execution_id, ordinal) WHERE ((state = 1) AND (ready_at IS NULL));


--
-- Name: cloacina_tasks_waiting; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_tasks_waiting ON public.cloacina_tasks USING btree (queue, ready_at) WHERE ((state = 1) AND (ready_at IS NOT NULL));


--
-- Name: cloacina_ticks_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_ticks_due ON public.cloacina_ticks USING btree (due_at, outcome);


--
-- PostgreSQL database dump complete
--


