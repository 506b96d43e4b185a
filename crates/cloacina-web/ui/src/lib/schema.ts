// Generated from openapi.json by schema.mjs; do not edit.

/** An attempt of a task. */
export type AttemptView = {
  /** The number of the attempt, counted from 1. */
  attempt: number;
  /** The events about the attempt, oldest first. They include its error and traceback. */
  events: EventView[];
};

/** The executions, schedules and runners that need attention from a person. */
export type Attention = {
  /** Open executions that cannot continue without help, by reason. */
  blocked: WaitGroup[];
  /** The number of open executions that were examined for `blocked`. */
  examined: Examined;
  /** Failures by cause. */
  failures: FailureGroup[];
  /** The ids of runners whose process or lease has ended. */
  gone_runners: string[];
  /** Executions that have run for more than three times the usual duration (the 95th percentile) of their workflow. */
  overdue: Overdue[];
  /** Schedules and triggers that cannot fire, with the reason. */
  schedules: ScheduleTrouble[];
};

/** The outcome of a backfill. */
export type Backfill = {
  /** The number of executions that were started; in a dry run, the number that would be started. */
  done: number;
  /** Whether this was a dry run, which started nothing. */
  dry_run: boolean;
  /** The due times, oldest first. */
  items: BackfillItem[];
  /** The number of due times in the range. */
  matched: number;
};

/** A due time in the range of a backfill. */
export type BackfillItem = {
  /** The time at which the schedule was due. */
  due_at: string;
  /** The execution that this request started for the due time; null if it started none. */
  execution: string | null;
  /** Whether the schedule has already fired for this time. If so, nothing was started. */
  has_fired: boolean;
};

/** A backfill of a schedule. */
export type BackfillRequest = {
  /** Whether to report what would be started, and to start nothing. */
  dry_run?: boolean;
  /** The start of the range: a time, or a span before now like 7d. */
  from: string;
  /** The reason, for the histories of the executions. */
  note?: string | null;
  /** The end of the range; default: now. */
  to?: string | null;
};

/** The executions submitted in an interval. */
export type Bucket = {
  /** The number of executions submitted in the interval that have failed. */
  failed: CountView;
  /** The start of the interval. */
  since: string;
  /** The number of executions submitted in the interval. */
  submitted: CountView;
  /** The end of the interval. */
  until: string;
};

/** A change of many executions. */
export type Bulk = {
  /** The action. */
  action: BulkAction;
  /** The `next` of the previous answer to a request with the same filter. */
  cursor?: string | null;
  /** Whether to report what would happen, and to change nothing. */
  dry_run?: boolean;
  /** Conditions, named like the query parameters of the list of executions. A list of values matches any of the values. */
  filter?: Record<string, unknown> | null;
  /** The ids of the executions. Cannot be combined with `filter`. */
  ids?: string[] | null;
  /** Maximum number of executions that a request with `filter` examines; default: 100. */
  limit?: number | null;
  /** The reason, for the histories of the executions. */
  note?: string | null;
};

/** The action of a request for many executions. */
export type BulkAction = "cancel" | "pause" | "resume" | "retry";

/** The outcome of a change of many executions. */
export type BulkView = {
  /** The number of executions that were changed; in a dry run, the number that would be changed. */
  done: number;
  /** Whether this was a dry run, which changed nothing. */
  dry_run: boolean;
  /** The number of executions that this request has examined. */
  matched: number;
  /** The cursor for the next request; null if no more executions match. */
  next: string | null;
  /** The executions that were refused; in a dry run, those that would be refused. */
  refused: Refused[];
};

/** The reason for a change to an execution or a schedule. */
export type Change = {
  /** The reason, for the history. */
  note?: string | null;
};

/** The change marker of a database. */
export type ChangesView = {
  /** Whether the database may have changed since the marker in `after`; true without a marker. */
  changed: boolean;
  /** The marker: a text that differs from an earlier marker if the database may have changed in between. */
  marker: string;
};

/** A child of an execution. */
export type ChildView = ExecutionSummary & {
  /** A number that distinguishes the children that the task started one after the other, for example in several attempts. The first has the number 1. */
  generation: number | null;
  /** The task that started the child; null for the execution of the final tasks. */
  task: string | null;
};

/** Two executions and their differences. */
export type Comparison = {
  /** The first execution. */
  a: ExecutionView;
  /** The second execution. */
  b: ExecutionView;
  /** The id of the first task whose state or result differs; null if no task differs. */
  first_divergence: string | null;
  /** The keys whose values in the two inputs differ. */
  input: InputDifference[];
  /** The tasks of the first execution in their order, followed by the tasks that only the second execution has. */
  tasks: TaskDifference[];
};

/** The state of an execution after a change. */
export type ControlledView = {
  /** The id of the execution. */
  id: string;
  /** The new state. */
  status: string;
};

/** A count of executions. */
export type CountView = {
  /** The time of the count. */
  as_of: string;
  /** The precision: `exact` or `at_least`. */
  kind: string;
  /** The number. */
  value: number;
};

/** The number of executions in each state. */
export type Counts = {
  /** The counts by the names of the states. */
  states: Record<string, CountView>;
};

/** The size and the health of a database. */
export type Database = {
  /** Recommendations for reclaiming unused space. */
  advice: string[];
  /** The kind of the database: sqlite or postgres. */
  backend: string;
  /** The unused part of `size_bytes`, in bytes; on PostgreSQL an estimate. */
  free_bytes: number;
  /** The location of the database, without a password. */
  location: string;
  /** The problems that were found; empty if the database is sound. */
  problems: string[];
  /** The version of the database's schema: the newest migration that was applied. */
  schema_version: string;
  /** The size of the database on disk, in bytes. */
  size_bytes: number;
};

/** A decision about an approval. */
export type DecisionRequest = {
  /** The name of the person who decides; default: the caller. */
  by?: string | null;
  /** The data of an approval; ignored in a rejection. */
  data?: unknown;
  /** The reason for the decision. */
  reason?: string | null;
};

/** A task of a definition. */
export type DefinedTask = {
  /** The tasks that must end before this task can start. */
  dependencies: string[];
  /** A hash of the function's code. */
  fingerprint: string;
  /** The id. */
  id: string;
  /** How the task is executed: sync, async, external or engine. */
  kind: string;
  /** The maximum number of attempts. */
  max_attempts: number;
  /** The task's own priority; null if the priority of the execution applies. */
  priority: number | null;
  /** The maximum duration of an attempt, in microseconds. */
  timeout_us: number | null;
};

/** The distribution of durations, in microseconds. */
export type Durations = {
  /** The longest duration. */
  max_us: number;
  /** The median: half of the executions took at most this long. */
  median_us: number;
  /** The shortest duration. */
  min_us: number;
  /** The 95th percentile: 95 % of the executions took at most this long. */
  p95_us: number;
};

/** The error of a failed execution or task. */
export type ErrorView = {
  /** The message. Lists contain only its first 300 characters. */
  message: string;
  /** The task that caused the execution's error; null in the error of a task. */
  task: string | null;
  /** The traceback; null in lists. */
  traceback: string | null;
  /** The name of the error's type. */
  type: string;
};

/** An event of an execution's history. */
export type EventView = {
  /** The attempt that the event is about. */
  attempt: number | null;
  /** Details, which depend on the kind of event. Times are RFC 3339 text. */
  data: unknown;
  /** The event's index in the history. */
  index: number;
  /** The runner that caused the event. */
  runner: string | null;
  /** The task that the event is about. */
  task: string | null;
  /** When the event happened. */
  time: string;
  /** The kind of event, for example `task_started`. */
  type: string;
};

/** The number of open executions that were examined. */
export type Examined = {
  /** The number of examined executions. An answer about fewer than `open` executions is not complete. */
  executions: number;
  /** The number of open executions. */
  open: CountView;
};

/** A page of executions. */
export type ExecutionPage = {
  /** The executions, newest first. */
  items: ExecutionSummary[];
  /** The cursor of the next page, which has older executions; null on the last page. */
  next: string | null;
  /** The cursor of the previous page, which has newer executions; null on the first page. */
  prev: string | null;
  /** The number of executions that were examined, if the search stopped before the page was full. */
  scanned: number | null;
  /** When the last examined execution was submitted, if the search stopped before the page was full. */
  scanned_until: string | null;
};

/** An execution in a list. */
export type ExecutionSummary = {
  /** When the execution was submitted. */
  created_at: string;
  /** The time from the first task's start to the end, in microseconds. */
  duration_us: number | null;
  /** The end of the execution. */
  ended_at: string | null;
  error: ErrorView | null;
  /** The id. */
  id: string;
  /** The key that the execution was submitted with. */
  key: string | null;
  /** The labels that the execution was submitted with. */
  labels: Record<string, string>;
  /** The execution that started this execution, as a child or to run its final tasks; null for other executions. */
  parent: string | null;
  /** Tasks of executions with a higher priority are claimed first. */
  priority: number;
  /** The revision. It grows with every change, except the start of a claimed task and changes of map items. */
  revision: number;
  /** The earliest time at which the execution can start. */
  start_at: string | null;
  /** The start of the execution's first task. */
  started_at: string | null;
  /** The state: Pending, Running, Paused, Completed, Failed or Cancelled. */
  status: string;
  /** The version of the workflow. */
  version: string;
  /** The name of the workflow. */
  workflow: string;
};

/** An execution. */
export type ExecutionView = ExecutionSummary & {
  /** When the timeout ends the execution. */
  deadline_at: string | null;
  /** The start of the current pause. */
  paused_at: string | null;
  /** The number of tasks in each state. */
  tasks: Record<string, number>;
  /** The timeout of the execution, in microseconds. */
  timeout_us: number | null;
  /** The URL of the trace in which the execution was submitted, if the server has a template for such URLs. */
  trace_url: string | null;
};

/** An execution with its tasks, history, logs and data. */
export type Export = {
  /** The context; null without the permission `view_payloads`. */
  context: unknown;
  /** The history, oldest event first. */
  events: EventView[];
  /** The execution. */
  execution: ExecutionView;
  /** When the document was created. */
  exported_at: string;
  /** The input; null without the permission `view_payloads`. */
  input: unknown;
  /** The log lines, oldest first. */
  logs: LogView[];
  /** The tasks in the order of their declaration. */
  tasks: TaskView[];
};

/** Failed executions with the same cause. */
export type FailureGroup = {
  /** The number of executions. */
  count: number;
  /** The message without its numbers and ids. */
  error: string;
  /** The ids of some of the executions, newest first. */
  executions: string[];
  /** When the oldest execution of the group was submitted. */
  first_at: string;
  /** When the newest execution of the group was submitted. */
  last_at: string;
  /** The message of the newest failure. */
  message: string;
  /** The task that failed; null if the execution itself failed. */
  task: string | null;
  /** The type of the error. */
  type: string;
  /** The workflow. */
  workflow: string;
};

/** A time at which a schedule or a cron expression fires. */
export type Firing = {
  /** The time. */
  at: string;
  /** The offset of the time zone from UTC at that time, in seconds. */
  offset_seconds: number;
  /** The schedule that fires; null in a preview. */
  schedule: string | null;
  /** The workflow that the schedule starts; null in a preview. */
  workflow: string | null;
};

/** The layout of a workflow's graph. */
export type Graph = {
  /** The bends of each edge. Each bend is two numbers: its horizontal position and its row. */
  bends: number[][];
  /** The edges. Each is two numbers: the index of the dependency in `tasks`, then the index of the dependent. */
  edges: number[];
  /** The number of rows. */
  height: number;
  /** The ids of the tasks. */
  tasks: string[];
  /** The largest horizontal position. */
  width: number;
  /** The horizontal position of each task, in hundredths of a column. */
  x: number[];
  /** The row of each task. */
  y: number[];
};

/** A key whose values in the two inputs differ. */
export type InputDifference = {
  /** The value in the first execution; null if the input lacks the key, or if the caller lacks the permission `view_payloads`. If the key names a secret, the value is redacted. */
  a: unknown;
  /** The value in the second execution; null in the same cases as `a`. */
  b: unknown;
  /** The key. */
  key: string;
};

/** An invalid part of a request. */
export type Invalid = {
  /** A sentence that says what is wrong. */
  detail: string;
  /** A JSON pointer into the body, or the name of a parameter. */
  pointer: string;
};

/** An item of a map. */
export type Item = {
  /** The number of attempts so far, including a running attempt. */
  attempts: number;
  /** The time from the start of the last attempt to the end of the item, in microseconds. */
  duration_us: number | null;
  /** The end of the item. */
  ended_at: string | null;
  error: ErrorView | null;
  /** The index in the map's list. */
  index: number;
  /** When the next attempt of a ready item is due. */
  ready_at: string | null;
  /** The number of times that the item was rescued from a dead runner. */
  rescues: number;
  /** The runner that runs the item. */
  runner: string | null;
  /** The start of the last attempt. */
  started_at: string | null;
  /** The state: Pending, Ready, Running, Completed, Failed, Skipped or Cancelled. Ready items wait for another attempt. */
  status: string;
  /** The value that the function returned; null if the value is larger than 64 KiB, or if the caller may not see results. */
  value: unknown;
  /** The size of the value as JSON, in bytes; null without a value. */
  value_bytes: number | null;
};

/** A log line of a task. */
export type LogView = {
  /** The attempt. */
  attempt: number;
  /** The line's index in the log of the execution. */
  index: number;
  /** The severity, from 10 (debug) to 50 (critical). */
  level: number;
  /** The name of the severity. */
  level_name: string;
  /** The name of the logger. */
  logger: string;
  /** The text. */
  message: string;
  /** The task. */
  task: string;
  /** When the line was logged. */
  time: string;
};

/** The counts of a map's items. */
export type Map = {
  /** Maximum number of failed items that the map tolerates; null if the map never stops because of failed items. */
  max_failed: number | null;
  /** Maximum number of items that run at once; null for no limit. */
  parallel: number | null;
  /** The number of items in each state. States without items are omitted. Ready items wait for another attempt; Cancelled items will not run. */
  states: Record<string, number>;
  /** The number of items. */
  total: number;
};

/** A change of a running map. */
export type MapChange = {
  /** Maximum number of items that run at once, at least 1; null for no limit. */
  parallel?: number | null;
};

/** The server, and the permissions of the caller. */
export type Meta = {
  /** The kind of the database: sqlite or postgres. */
  backend: string;
  /** How the page follows changes of the database: `stream` means `GET /stream`. `poll` means `GET /changes?after=` every few seconds, for a server where each stream occupies a thread. */
  live: string;
  /** The location of the database, without a password. */
  location: string;
  /** Whether inputs and results are hidden from everybody. */
  payloads_hidden: boolean;
  /** The permissions that the caller can use. */
  permissions: string[];
  /** Whether the server refuses changes. */
  read_only: boolean;
  /** The tenant that the answer is about; null for the default schema. */
  tenant: string | null;
  /** The time on the server's clock. */
  time: string;
  /** The name of the caller. */
  user: string;
  /** The version of the program. */
  version: string;
};

/** A submission of an execution. */
export type NewExecution = {
  /** The time until the start, in seconds. */
  delay?: number | null;
  /** Whether to check the request, and to submit nothing. */
  dry_run?: boolean;
  /** The input, a JSON object. */
  input?: Record<string, unknown> | null;
  /** A key, of 1 to 512 characters, that is unique in the workflow. If an execution has the key, nothing is submitted. */
  key?: string | null;
  /** Labels by which the execution can be found: at most 32. */
  labels?: Record<string, string>;
  /** The reason, for the history. */
  note?: string | null;
  /** Tasks of executions with a higher priority are claimed first. */
  priority?: number | null;
  /** The earliest time at which the execution can start. */
  start_at?: string | null;
  /** The timeout of the execution, in seconds, from the start of its first task. */
  timeout?: number | null;
  /** The version of the workflow, as the route of the workflow lists it; default: the latest stored version. */
  version?: string | null;
  /** The name of the workflow. */
  workflow: string;
};

/** A schedule to create. */
export type NewSchedule = {
  /** The missed ticks that fire later: skip (none), latest or all. A tick is missed if it was due while no runner was live. */
  catchup?: string | null;
  /** The cron expression: 5 fields, or 6 with seconds first. */
  cron: string;
  /** Whether the schedule fires; default: true. */
  enabled?: boolean | null;
  /** No tick is due after this time. */
  end_at?: string | null;
  /** The input of the executions that the schedule starts. */
  input?: Record<string, unknown> | null;
  /** Maximum random delay of a tick, in seconds. */
  jitter_seconds?: number | null;
  /** Maximum number of missed ticks that fire. */
  max_catchup?: number | null;
  /** A name that distinguishes the schedule from others with the same workflow, expression and time zone. */
  name?: string | null;
  /** The effect of a tick while an earlier execution of the schedule is open: allow (start anyway), skip or queue. */
  overlap?: string | null;
  /** No tick is due before this time. */
  start_at?: string | null;
  /** The IANA time zone of the expression; default: UTC. */
  timezone?: string | null;
  /** The workflow that the schedule starts. It does not need to be stored yet. */
  workflow: string;
};

/** An execution that runs for much longer than usual. */
export type Overdue = {
  /** The id of the execution. */
  execution: string;
  /** The time since the start of the first task, in microseconds. */
  running_us: number;
  /** The start of the execution's first task. */
  started_at: string;
  /** The usual duration of the workflow, in microseconds: 95 % of its last completed executions took at most this long. */
  usual_us: number;
  /** The workflow. */
  workflow: string;
};

/** A value and its size. A value that is too large is omitted. */
export type Payload = {
  /** Whether the value was omitted because of its size. */
  is_cut: boolean;
  /** The size of the JSON text, in bytes. */
  size_bytes: number;
  /** The value; null if the task has written nothing, or if the value is larger than 64 KiB and `full` is not true. */
  value: unknown;
};

/** The body of an error. */
export type Problem = {
  /** A stable name of the kind of error. */
  code: string;
  /** The current state of the execution, if the state does not allow the change. */
  current?: string | null;
  /** A sentence that says what failed and where. */
  detail: string;
  /** The invalid parts of the request. */
  errors?: Invalid[];
  /** How to fix the problem. */
  hint?: string | null;
  /** The id of this failure. If the status is 500, the server's log has a line with this id. */
  instance: string;
  /** The HTTP status. */
  status: number;
  /** The title of the HTTP status. */
  title: string;
  /** The page that explains the code, relative to the root of the documentation. */
  type: string;
};

/** The progress that a running task reported. */
export type ProgressView = {
  /** The attempt. */
  attempt: number;
  /** The amount of work that is done, in the task's own unit. */
  done: number;
  /** The message that the task reported. */
  message: string | null;
  /** The task. */
  task: string;
  /** When the task reported the progress. */
  time: string;
  /** The total amount of work, in the same unit. */
  total: number;
};

/** A request to delete old executions. */
export type Prune = {
  /** Whether to count the executions that would be deleted, and to delete nothing. */
  dry_run?: boolean;
  /** Executions that ended before this time are deleted: a time like 2026-01-31T12:00:00Z, or a span before now like 30d. */
  older_than: string;
};

/** The number of executions that were deleted. */
export type Pruned = {
  /** The number of deleted executions; in a dry run, the number that would be deleted. */
  deleted: number;
  /** Whether this was a dry run, which deleted nothing. */
  dry_run: boolean;
  /** Whether more executions may remain, because the limit was reached. */
  more: boolean;
};

/** A reason why an execution or a schedule is in its state. */
export type ReasonView = {
  /** The kind of reason, as a stable name. */
  code: string;
  /** When a runner that could run the execution or the task was last seen; null if none was seen. */
  last_seen_at: string | null;
  /** The action that removes the reason, if such an action exists. */
  remedy: string | null;
  /** The runner that the reason is about. */
  runner: string | null;
  /** The reason, as a sentence. */
  sentence: string;
  /** The task that the reason is about. */
  task: string | null;
  /** The time until which the reason holds, if the time is known. */
  until: string | null;
};

/** An execution that an action was not applied to. */
export type Refused = {
  /** The code of the error. */
  code: string;
  /** The reason, as a sentence. */
  detail: string;
  /** The id of the execution, or the text in `ids` that is not an id. */
  id: string;
};

/** The differences between the new execution and the earlier execution. */
export type RerunRequest = {
  /** The input; default: the input of the earlier execution. */
  input?: Record<string, unknown> | null;
  /** The labels; default: the labels of the earlier execution. */
  labels?: Record<string, string> | null;
  /** The reason, for the history. */
  note?: string | null;
  /** The version of the workflow: original or latest; default: original. */
  version?: string | null;
};

/** A retry of an execution. */
export type Retry = {
  /** The task to run again, together with all tasks that depend on it. If omitted, all failed tasks run again. */
  from_task?: string | null;
  /** The reason, for the history. */
  note?: string | null;
};

/** An execution that the statistics of a workflow cover. */
export type Run = {
  /** When the execution was submitted. */
  created_at: string;
  /** The time from the start of the first task to the end of the execution, in microseconds. */
  duration_us: number | null;
  /** The id of the execution. */
  id: string;
  /** The state of the execution. */
  status: string;
};

/** The execution that was started on request for a schedule. */
export type RunNow = {
  /** The id of the execution. */
  id: string;
};

/** A runner that has not been declared dead. */
export type Runner = {
  /** When the runner last sent a heartbeat. */
  heartbeat_at: string;
  /** The machine. */
  host: string;
  /** The id. */
  id: string;
  /** Whether the runner is alive: its lease has not ended, and its process is not known to be gone. */
  is_alive: boolean;
  /** When the runner's lease ends. */
  lease_until: string;
  /** The process id on that machine. */
  pid: number;
  /** When the runner started. */
  started_at: string;
  /** The workflows for which the runner has handlers. */
  workflows: string[];
};

/** A schedule, or a trigger. */
export type Schedule = {
  /** The missed ticks that fire later: skip (none), latest or all. A tick is missed if it was due while no runner was live. */
  catchup: string;
  /** When the schedule or trigger was registered. */
  created_at: string;
  /** The cron expression. */
  cron: string | null;
  /** Whether the schedule or trigger fires. */
  enabled: boolean;
  /** No tick is due after this time. */
  end_at: string | null;
  /** The id. */
  id: string;
  /** The input of the executions that the schedule starts; null without the permission `view_payloads`. */
  input: unknown;
  /** The time between a trigger's polls, in microseconds. */
  interval_us: number | null;
  /** The maximum random delay of a tick, in microseconds. */
  jitter_us: number;
  /** The kind: cron for a schedule, trigger for a trigger. */
  kind: string;
  /** The error that a trigger's function raised at the last poll. */
  last_error: string | null;
  /** When a tick or poll last fired. */
  last_fired_at: string | null;
  /** The maximum number of missed ticks that fire. */
  max_catchup: number | null;
  /** The name of a trigger, or the name that distinguishes a schedule from others with the same workflow, expression and time zone. */
  name: string | null;
  /** The time of the next tick or poll. */
  next_at: string | null;
  /** The effect of a tick while an earlier execution of the schedule is open: allow (start anyway), skip or queue. */
  overlap: string;
  /** The revision, which grows with every change. */
  revision: number;
  /** No tick is due before this time. */
  start_at: string | null;
  switched: Switch | null;
  /** The time zone of the expression. */
  timezone: string;
  /** When the settings of the schedule or trigger last changed. */
  updated_at: string;
  /** A problem of a schedule that this request created: the database has no such workflow. Otherwise null. */
  warning: string | null;
  /** The workflow that the schedule or trigger starts. */
  workflow: string;
};

/** A change of a schedule. */
export type ScheduleChange = {
  /** The missed ticks that fire later: skip (none), latest or all. */
  catchup?: string | null;
  /** The cron expression. */
  cron?: string | null;
  /** Whether the schedule fires. */
  enabled?: boolean | null;
  /** No tick is due after this time. */
  end_at?: string | null;
  /** The input of the executions that the schedule starts. */
  input?: Record<string, unknown> | null;
  /** Maximum random delay of a tick, in seconds. */
  jitter_seconds?: number | null;
  /** Maximum number of missed ticks that fire. */
  max_catchup?: number | null;
  /** The name. */
  name?: string | null;
  /** The effect of a tick while an earlier execution of the schedule is open: allow (start anyway), skip or queue. */
  overlap?: string | null;
  /** No tick is due before this time. */
  start_at?: string | null;
  /** The time zone of the expression. */
  timezone?: string | null;
};

/** A schedule or trigger that cannot fire. */
export type ScheduleTrouble = {
  /** The id of the schedule or trigger. */
  id: string;
  /** The reason. */
  reason: ReasonView;
  /** The workflow that the schedule or trigger starts. */
  workflow: string;
};

/** The result of sending a signal. */
export type SentView = {
  /** Whether this request stored the signal. */
  created: boolean;
  /** The signal's number. */
  id: string;
  /** The number of waits that received the signal immediately. */
  woken: number;
};

/** A signal to send. */
export type SignalRequest = {
  /** The data. */
  data?: unknown;
  /** An id for idempotency: a second signal with the same id is not stored. */
  id?: string | null;
  /** The key. Cannot be combined with `to`. */
  key?: string | null;
  /** The name. */
  name: string;
  /** The execution whose mailbox receives the signal. */
  to?: string | null;
};

/** The states of all tasks. */
export type StatesView = {
  /** The revision of the execution. */
  revision: number;
  /** One character per task, for the state of the task. The tasks are in the order of their declaration. */
  states: string;
};

/** A recorded step of a task. */
export type Step = {
  /** The attempt that recorded the step. */
  attempt: number;
  /** The duration of the step, in microseconds. */
  duration_us: number;
  /** When the step ended. */
  ended_at: string;
  /** The key under which later attempts find the step. */
  key: string;
  /** The kind of the call that recorded the step. */
  kind: string;
  /** The step's index among the recorded steps of the task, from 0. */
  position: number;
  /** When the step began. */
  started_at: string;
  /** The result of the step; null if it is larger than 64 KiB, or if the caller may not see inputs and results. */
  value: unknown;
  /** The size of the result as JSON, in bytes. */
  value_bytes: number;
};

/** The result of a submission. */
export type SubmittedView = {
  /** Whether the submission created the execution; false in a dry run, or if an earlier execution has the key. */
  created: boolean;
  /** Whether this was a dry run, which submitted nothing. */
  dry_run: boolean;
  /** The id of the execution; null for a dry run. */
  id: string | null;
};

/** The last time that a schedule was enabled or disabled. */
export type Switch = {
  /** The time. */
  at: string;
  /** The name of the person or program. */
  by: string | null;
  /** The reason. */
  note: string | null;
};

/** A task that at least one of two executions has. */
export type TaskDifference = {
  /** The duration in the first execution, in microseconds; null if the execution lacks the task, or if the task has not started and ended. */
  a_duration_us: number | null;
  /** The state in the first execution; null if its workflow lacks the task. */
  a_status: string | null;
  /** The duration in the second execution, in microseconds; null in the same cases as `a_duration_us`. */
  b_duration_us: number | null;
  /** The state in the second execution; null if its workflow lacks the task. */
  b_status: string | null;
  /** Whether the code of the task's function differs. */
  code_changed: boolean;
  /** The id. */
  id: string;
  /** Whether the task completed in both executions and wrote different values. */
  output_differs: boolean;
};

/** A task of an execution, without its input and result. */
export type TaskView = {
  /** The number of attempts so far, including a running attempt. */
  attempts: number;
  /** The tasks that must end before this task can start. */
  dependencies: string[];
  /** The time from the start of the last attempt to the end of the task, in microseconds. */
  duration_us: number | null;
  /** The end of the task. */
  ended_at: string | null;
  error: ErrorView | null;
  /** The id. */
  id: string;
  map: Map | null;
  /** The maximum number of attempts that the task's retry policy allows. */
  max_attempts: number;
  /** The earliest time at which a ready task can start, or at which a waiting task is due; null if no such time is set. */
  ready_at: string | null;
  /** The number of times that the task was rescued from a dead runner. */
  rescues: number;
  /** The runner that runs the task, or ran the last attempt of a task that has ended. */
  runner: string | null;
  /** Why the task was skipped. */
  skip_reason: string | null;
  /** The start of the last attempt. */
  started_at: string | null;
  /** The state: Pending, Ready, Waiting, Running, Completed, Failed, Skipped or Cancelled. */
  status: string;
};

/** A tenant of a PostgreSQL database. */
export type Tenant = {
  /** The tenant's schema. Requests select the tenant by passing this name in the query parameter `tenant`. */
  schema: string;
  /** The database role of the tenant. */
  username: string | null;
};

/** A tick of a schedule, or a poll of a trigger. */
export type Tick = {
  /** The reason, or the error of a trigger's function. */
  detail: string | null;
  /** When the tick was due. */
  due_at: string;
  /** The execution that the tick started. */
  execution: string | null;
  /** The outcome: fired, missed, skipped, overlapped, queued or failed. */
  outcome: string;
  /** The id of the schedule or trigger. */
  schedule: string;
  /** When this outcome was recorded. */
  updated_at: string;
};

/** An open wait of a task, or of a whole execution for a signal that cancels it. */
export type Wait = {
  /** When the wait times out, or when the timer is due. */
  deadline_at: string | null;
  /** The execution. */
  execution: string;
  /** The key of the signal. */
  key: string | null;
  /** The kind: `signal`, `approval`, `timer` or `cancel`. */
  kind: string;
  /** The name of the signal or approval. */
  name: string;
  /** The JSON schema of the approval's data. */
  schema: unknown;
  /** When the wait began. */
  since: string;
  /** The task; null for a signal that cancels the execution. */
  task: string | null;
  /** The title of the approval. */
  title: string | null;
  /** The person or group who decides. */
  to: string | null;
  /** The workflow. */
  workflow: string;
};

/** Open executions of one workflow that are all open for the same reason. */
export type WaitGroup = {
  /** The number of executions in the group. */
  count: number;
  /** The ids of some of the executions, newest first. */
  executions: string[];
  /** The reason why the group's first examined execution has not ended. */
  reason: ReasonView;
  /** The workflow. */
  workflow: string;
};

/** The examined open executions, grouped by what they wait for. */
export type WaitGroups = {
  /** The number of open executions that were examined. */
  examined: Examined;
  /** The groups. */
  items: WaitGroup[];
  /** Always null, because all groups are on one page. */
  next: string | null;
  /** Always null, because all groups are on one page. */
  prev: string | null;
};

/** Statistics of the last executions of a workflow. */
export type WorkflowStats = {
  duration: Durations | null;
  /** The number of executions that the statistics cover. */
  executions: number;
  /** The share of failed executions among the ended executions, from 0 to 1; null if no execution has ended. */
  failure_rate: number | null;
  /** The executions, newest first. */
  runs: Run[];
  /** When the oldest of these executions was submitted. */
  since: string | null;
  /** The number of these executions in each state. */
  states: Record<string, number>;
};

/** A workflow, as one version defines it. */
export type WorkflowSummary = {
  /** The description. */
  description: string;
  /** The name. */
  name: string;
  /** The tags. */
  tags: Record<string, string>;
  /** The number of tasks. */
  tasks: number;
  /** The version; in a list, the newest version. */
  version: string;
  /** The number of stored versions. */
  versions: number;
};

/** A version of a workflow. */
export type WorkflowView = WorkflowSummary & {
  /** The stored versions, oldest first. */
  all_versions: string[];
  /** The tasks, in the order of their declaration. */
  defined_tasks: DefinedTask[];
  /** The JSON schema of the input; null if the workflow declares none. */
  input_schema: unknown;
};
