// Types of the answers of the HTTP API, as openapi.json describes them. Some members that the page does not use are omitted.

export type Status = "Pending" | "Running" | "Paused" | "Completed" | "Failed" | "Cancelled";
export type TaskStatus = "Pending" | "Ready" | "Waiting" | "Running" | "Completed" | "Failed" | "Skipped" | "Cancelled";

export interface Page<T> {
  items: T[];
  next: string | null;
  prev: string | null;
  /** The time at which the last examined execution was submitted; null unless the search stopped before the page was full. */
  scanned_until?: string | null;
  scanned?: number | null;
}

export interface Failure {
  type: string;
  message: string;
  task: string | null;
  traceback: string | null;
}

export interface Summary {
  id: string;
  workflow: string;
  version: string;
  status: Status;
  key: string | null;
  labels?: Record<string, string>;
  priority: number;
  parent?: string | null;
  revision: number;
  created_at: string;
  start_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  duration_us: number | null;
  error: Failure | null;
}

export interface Execution extends Summary {
  timeout_us: number | null;
  deadline_at: string | null;
  paused_at: string | null;
  tasks: Partial<Record<TaskStatus, number>>;
  trace_url: string | null;
}

export interface Child extends Summary {
  task: string | null;
  generation: number | null;
}

export interface Wait {
  kind: string;
  name: string;
  key: string | null;
  execution: string;
  workflow: string;
  task: string | null;
  since: string;
  deadline_at: string | null;
  title: string | null;
  to: string | null;
  schema: unknown;
}

export interface Task {
  id: string;
  status: TaskStatus;
  attempts: number;
  max_attempts: number;
  rescues: number;
  dependencies: string[];
  runner: string | null;
  ready_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  duration_us: number | null;
  error: Failure | null;
  skip_reason: string | null;
  map: MapCounts | null;
}

/** The counts of a map's items. */
export interface MapCounts {
  total: number;
  states: Partial<Record<TaskStatus, number>>;
  parallel: number | null;
  max_failed: number | null;
}

export interface Event {
  index: number;
  time: string;
  type: string;
  task: string | null;
  attempt: number | null;
  runner: string | null;
  data: Record<string, unknown> | null;
}

export interface LogLine {
  index: number;
  time: string;
  level: number;
  level_name: string;
  logger: string;
  message: string;
  task: string;
  attempt: number;
}

export interface Progress {
  task: string;
  attempt: number;
  done: number;
  total: number | null;
  message: string | null;
  time: string;
}

export interface Reason {
  code: string;
  sentence: string;
  task: string | null;
  until: string | null;
  runner: string | null;
  last_seen_at: string | null;
  remedy: string | null;
}

export interface Graph {
  tasks: string[];
  x: number[];
  y: number[];
  edges: number[];
  bends: number[][];
  width: number;
  height: number;
}

export interface Workflow {
  name: string;
  version: string;
  description: string;
  tags: Record<string, string>;
  tasks: number;
  versions: number;
}

export interface DefinedTask {
  id: string;
  dependencies: string[];
  kind: string;
  max_attempts: number;
  timeout_us: number | null;
  priority: number | null;
  fingerprint: string;
}

export interface WorkflowDetail extends Workflow {
  all_versions: string[];
  defined_tasks: DefinedTask[];
  input_schema?: unknown;
}

export interface Schedule {
  id: string;
  kind: "cron" | "trigger";
  workflow: string;
  name: string | null;
  cron: string | null;
  timezone: string;
  interval_us: number | null;
  catchup: string;
  overlap: string;
  jitter_us: number;
  enabled: boolean;
  switched: { at: string; by: string | null; note: string | null } | null;
  next_at: string | null;
  last_fired_at: string | null;
  last_error: string | null;
  created_at: string;
}

export interface Tick {
  due_at: string;
  outcome: string;
  execution: string | null;
  detail: string | null;
}

export interface Firing {
  at: string;
  offset_seconds: number;
  schedule: string | null;
  workflow: string | null;
}

export interface Runner {
  id: string;
  host: string;
  pid: number;
  is_alive: boolean;
  started_at: string;
  heartbeat_at: string;
  lease_until: string;
  workflows: string[];
}

export interface Database {
  location: string;
  backend: string;
  size_bytes: number;
  free_bytes: number;
  problems: string[];
  advice: string[];
}

export interface Meta {
  version: string;
  backend: string;
  location: string;
  time: string;
  user: string;
  permissions: string[];
  read_only: boolean;
  payloads_hidden: boolean;
  live: "stream" | "poll";
  tenant: string | null;
}

export interface Problem {
  code: string;
  title: string;
  status: number;
  detail: string;
  hint?: string | null;
  current?: string | null;
  errors?: { pointer: string; detail: string }[];
}

export interface WaitGroup {
  workflow: string;
  count: number;
  executions: string[];
  reason: Reason;
}

export interface FailureGroup {
  workflow: string;
  task: string | null;
  type: string;
  error: string;
  message: string;
  count: number;
  executions: string[];
  first_at: string;
  last_at: string;
}

export interface Examined {
  executions: number;
  open: Count;
}

export interface WaitGroups extends Page<WaitGroup> {
  examined: Examined;
}

export interface Attention {
  examined: Examined;
  blocked: WaitGroup[];
  failures: FailureGroup[];
  gone_runners: string[];
  schedules: { id: string; workflow: string; reason: Reason }[];
  overdue: Overdue[];
}

export interface Overdue {
  execution: string;
  workflow: string;
  started_at: string;
  running_us: number;
  usual_us: number;
}

export interface Count {
  value: number;
  kind: string;
}
