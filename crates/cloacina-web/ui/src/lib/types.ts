// Names of the page for the types of the API, which schema.ts has. The API describes states and some other words as text; here
// they are the words that the page knows.
import type * as api from "./schema.ts";

/** A type with some members that are described more exactly. Each of them must be a member of the type. */
type Exact<T, Members extends { [Name in keyof Members]: Name extends keyof T ? unknown : never }> = Omit<T, keyof Members> & Members;

export type Status = "Pending" | "Running" | "Paused" | "Completed" | "Failed" | "Cancelled";
export type TaskStatus = "Pending" | "Ready" | "Waiting" | "Running" | "Completed" | "Failed" | "Skipped" | "Cancelled";

/** A page of a list. Only lists of executions say how far back they searched. */
export type Page<T> = Pick<api.ExecutionPage, "next" | "prev"> & Partial<Pick<api.ExecutionPage, "scanned" | "scanned_until">> & { items: T[] };

export type Summary = Exact<api.ExecutionSummary, { status: Status }>;
export type Execution = Exact<api.ExecutionView, { status: Status; tasks: Partial<Record<TaskStatus, number>> }>;
export type Child = Exact<api.ChildView, { status: Status }>;
export type MapCounts = Exact<api.Map, { states: Partial<Record<TaskStatus, number>> }>;
export type Task = Exact<api.TaskView, { status: TaskStatus; map: MapCounts | null }>;
export type Event = Exact<api.EventView, { data: Record<string, unknown> | null }>;
export type Meta = Exact<api.Meta, { live: "stream" | "poll" }>;
export type Schedule = Exact<api.Schedule, { kind: "cron" | "trigger" }>;
/** The members of a problem that the page shows. */
export type Problem = Omit<api.Problem, "instance" | "type">;

export type {
  Attention, CountView as Count, Database, DefinedTask, Examined, FailureGroup, Firing, Graph, LogView as LogLine, Overdue,
  ProgressView as Progress, ReasonView as Reason, Runner, Tick, Wait, WaitGroup, WaitGroups, WorkflowSummary as Workflow,
  WorkflowView as WorkflowDetail,
} from "./schema.ts";
