--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SELECT pg_catalog.set_config('search_path', '', false);



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
-- Name: cloacina_migrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cloacina_migrations (
    version text NOT NULL,
    applied_at bigint NOT NULL
);


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
-- Data for Name: cloacina_definitions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_definitions OVERRIDING SYSTEM VALUE VALUES (1, 'corpus', '949ea028403508ee', '{"name":"corpus","tenant":"public","package":"embedded","description":"","tags":{},"tasks":[{"id":"first","dependencies":[],"rule":"none_failed","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"a626bfbdaa4c0de1"},{"id":"held","dependencies":["first"],"rule":"none_failed","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"27650ea7c104c3a2"},{"id":"flaky","dependencies":["first"],"rule":"none_failed","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":500000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"8e9eb3bebd9c5545"},{"id":"broken","dependencies":["first"],"rule":"none_failed","retry":{"max_attempts":1,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"5b726c625a36194d"},{"id":"last","dependencies":["held","flaky","broken"],"rule":"always","retry":{"max_attempts":3,"backoff":{"strategy":"exponential","base":2.0,"multiplier":1.0},"initial_delay":1000000,"max_delay":60000000,"jitter":true,"condition":"all"},"kind":"sync","fingerprint":"ac0c67e4cb38989d"}]}', 5, 1795552971765842);


--
-- Data for Name: cloacina_events; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_events OVERRIDING SYSTEM VALUE VALUES (1, '01a20f4c-0e20-7288-9143-fc893c0f09fa', 1795552972349182, 'paused', NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_events OVERRIDING SYSTEM VALUE VALUES (2, '01a20f4c-0e53-77bb-9a22-2602e530d538', 1795552972393779, 'cancelled', NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_events OVERRIDING SYSTEM VALUE VALUES (3, '01a20f4c-0e9b-7368-bc71-d737dbef92c9', 1795552972499966, 'task_retrying', 2, 1, '01a20f4c-0b74-71a5-b0dd-4669112f7df2', '{"delay_us":622282,"error":{"message":"not yet","type":"ConnectionError"},"started_at":1795552972480839}');


--
-- Data for Name: cloacina_executions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', 1, 'corpus', 3, 8, 0, 'completed', 1795552971836361, NULL, 1795552971836361, 1795552972152307, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', 1, 'corpus', 4, 5, 0, 'failed', 1795552972178802, NULL, 1795552972178802, 1795552972303498, NULL, NULL, NULL, '[3,{"type":"ValueError","message":"on purpose","traceback":"Traceback (most recent call last):\n  File \"tests/corpus_workflows.py\", line 31, in broken\n    raise ValueError(\"on purpose\")\nValueError: on purpose\n"}]');
INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0e20-7288-9143-fc893c0f09fa', 1, 'corpus', 2, 2, 0, 'paused', 1795552972323438, 1795556572320533, NULL, NULL, NULL, NULL, 1795552972349182, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', 1, 'corpus', 5, 2, 0, 'cancelled', 1795552972371616, 1795556572371569, NULL, 1795552972393779, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0e72-76d5-bacd-8c2bc491562a', 1, 'corpus', 0, 1, 0, 'delayed', 1795552972405985, 1795552977402862, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0e90-772d-8826-d0a9621ac089', 1, 'corpus', 1, 4, 3, 'running', 1795552972432305, NULL, 1795552972432305, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_executions VALUES ('01a20f4c-0e9b-7368-bc71-d737dbef92c9', 1, 'corpus', 1, 3, 0, 'retrying', 1795552972443533, NULL, 1795552972443533, NULL, 1000000000000000, 2795552972451225, NULL, NULL);


--
-- Data for Name: cloacina_inputs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', '{"number":1}');
INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', '{"number":2,"broken":true}');
INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0e20-7288-9143-fc893c0f09fa', '{"number":3}');
INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', '{"number":4}');
INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0e72-76d5-bacd-8c2bc491562a', '{"number":5}');
INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0e90-772d-8826-d0a9621ac089', '{"number":6,"hold":true}');
INSERT INTO public.cloacina_inputs VALUES ('01a20f4c-0e9b-7368-bc71-d737dbef92c9', '{"number":7,"hold":true,"flaky":true}');


--
-- Data for Name: cloacina_migrations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_migrations VALUES ('00000000000001', 1795552971605403);


--
-- Data for Name: cloacina_runners; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_runners VALUES ('01a20f4c-0b74-71a5-b0dd-4669112f7df2', 'elsewhere', 1, 680828, 1795552971636551, 1795552971637910, 1795552986637910, NULL, '[]');


--
-- Data for Name: cloacina_tasks; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', 0, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552971982180, 1795552972044047, '{"s":{"first":10}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', 1, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972104421, 1795552972114096, '{"s":{"held":11}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', 2, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972104675, 1795552972114096, '{"s":{"attempt":1}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', 3, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972104785, 1795552972114096, '{}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0c18-7592-a8e9-8269d5bdfb3b', 4, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972148484, 1795552972152307, '{"s":{"last":true}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', 0, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972200617, 1795552972212326, '{"s":{"first":20}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', 1, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972231183, 1795552972238634, '{"s":{"held":21}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', 2, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972231446, 1795552972256943, '{"s":{"attempt":1}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', 3, 4, 1, 0, 0, NULL, NULL, 4, 0, 1795552972231470, 1795552972256943, NULL, '{"type":"ValueError","message":"on purpose","traceback":"Traceback (most recent call last):\n  File \"tests/corpus_workflows.py\", line 31, in broken\n    raise ValueError(\"on purpose\")\nValueError: on purpose\n"}', NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0d92-7072-be3b-88a6aa690cb3', 4, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972302284, 1795552972303498, '{"s":{"last":true}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e20-7288-9143-fc893c0f09fa', 0, 0, 0, 0, 0, NULL, 1795556572320533, 4, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', 0, 6, 0, 0, 0, NULL, 1795556572371569, 4, 0, NULL, 1795552972393779, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', 1, 6, 0, 0, 0, NULL, NULL, 4, 0, NULL, 1795552972393779, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', 2, 6, 0, 0, 0, NULL, NULL, 4, 0, NULL, 1795552972393779, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', 3, 6, 0, 0, 0, NULL, NULL, 4, 0, NULL, 1795552972393779, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e53-77bb-9a22-2602e530d538', 4, 6, 0, 0, 0, NULL, NULL, 4, 0, NULL, 1795552972393779, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e72-76d5-bacd-8c2bc491562a', 0, 1, 0, 0, 0, NULL, 1795552977402862, 4, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e90-772d-8826-d0a9621ac089', 0, 3, 1, 0, 0, NULL, NULL, 4, 3, 1795552972444597, 1795552972451565, '{"s":{"first":60}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e9b-7368-bc71-d737dbef92c9', 0, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972451200, 1795552972451565, '{"s":{"first":70}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e90-772d-8826-d0a9621ac089', 1, 2, 1, 0, 0, '01a20f4c-0b74-71a5-b0dd-4669112f7df2', NULL, 4, 3, 1795552972451565, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e9b-7368-bc71-d737dbef92c9', 1, 2, 1, 0, 0, '01a20f4c-0b74-71a5-b0dd-4669112f7df2', NULL, 4, 0, 1795552972451565, NULL, NULL, NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e90-772d-8826-d0a9621ac089', 2, 3, 1, 0, 0, NULL, NULL, 4, 3, 1795552972477211, 1795552972477343, '{"s":{"attempt":1}}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e90-772d-8826-d0a9621ac089', 3, 3, 1, 0, 0, NULL, NULL, 4, 3, 1795552972480284, 1795552972492884, '{}', NULL, NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e9b-7368-bc71-d737dbef92c9', 2, 1, 1, 0, 0, NULL, 1795552973122248, 4, 0, NULL, NULL, NULL, '{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/corpus_workflows.py\", line 25, in flaky\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet\n"}', NULL);
INSERT INTO public.cloacina_tasks VALUES ('01a20f4c-0e9b-7368-bc71-d737dbef92c9', 3, 3, 1, 0, 0, NULL, NULL, 4, 0, 1795552972484017, 1795552972499966, '{}', NULL, NULL);


--
-- Name: cloacina_definitions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.cloacina_definitions_id_seq', 1, true);


--
-- Name: cloacina_events_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.cloacina_events_id_seq', 3, true);


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
-- Name: cloacina_migrations cloacina_migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_migrations
    ADD CONSTRAINT cloacina_migrations_pkey PRIMARY KEY (version);


--
-- Name: cloacina_runners cloacina_runners_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_runners
    ADD CONSTRAINT cloacina_runners_pkey PRIMARY KEY (id);


--
-- Name: cloacina_tasks cloacina_tasks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cloacina_tasks
    ADD CONSTRAINT cloacina_tasks_pkey PRIMARY KEY (execution_id, ordinal);


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
-- Name: cloacina_tasks_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_tasks_due ON public.cloacina_tasks USING btree (queue, priority DESC, execution_id, ordinal) WHERE ((state = 1) AND (ready_at IS NULL));


--
-- Name: cloacina_tasks_waiting; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX cloacina_tasks_waiting ON public.cloacina_tasks USING btree (queue, ready_at) WHERE ((state = 1) AND (ready_at IS NOT NULL));


--
-- PostgreSQL database dump complete
--


