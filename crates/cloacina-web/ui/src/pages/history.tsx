// The list of an execution's events, oldest first.
import { getAll } from "../lib/api.ts";
import { taskLink } from "../lib/route.ts";
import type { Event, Execution } from "../lib/types.ts";
import { useLoad } from "../lib/use.ts";
import { ErrorBox, Loading, Rows, rowHeight, shortId } from "../parts/basics.tsx";
import { duration, exact, grouped, precise } from "../lib/time.ts";

/** Maximum number of events that are loaded. */
export const MAX_EVENTS = 20_000;

export const loadEvents = (id: string, signal: AbortSignal) =>
  getAll<Event>(`/executions/${id}/events?limit=200`, MAX_EVENTS, signal);

function detail(data: Event["data"]): string {
  if (data === null) return "";
  const { error, reason, ...rest } = data;
  const parts: string[] = [];
  if (error && typeof error === "object") {
    const { type, message } = error as { type?: string; message?: string };
    parts.push(`${type}: ${message}`);
  }
  if (typeof reason === "string") parts.push(reason);
  for (const [name, value] of Object.entries(rest)) {
    if (name.endsWith("_us") && typeof value === "number") parts.push(`${name.slice(0, -3).replaceAll("_", " ")} ${duration(value)}`);
    else if (name !== "started_at" && name !== "traceback" && value !== null) parts.push(`${name} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  }
  return parts.join(" · ");
}

export function HistoryTab({ execution }: { execution: Execution }) {
  const { data, error } = useLoad(`events ${execution.id}`, (signal) => loadEvents(execution.id, signal));
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  return (
    <>
      {data.length >= MAX_EVENTS && <p class="quiet">Only the first {grouped(MAX_EVENTS)} events are shown.</p>}
      <Rows count={data.length} height={rowHeight(26, 46)} label="Events" render={(index) => {
        const event = data[index];
        if (!event) return null;
        return (
          <div class="event">
            <time dateTime={event.time} title={precise(event.time)}>{exact(event.time)}</time>
            <span class="event-name">{event.type.replaceAll("_", " ")}</span>
            <span class="event-task">{event.task && <a href={taskLink(event.task)}>{event.task}</a>}{event.attempt ? <span class="quiet"> attempt {event.attempt}</span> : null}</span>
            <span class="event-data">{detail(event.data)}{event.runner && <span class="quiet" title={event.runner}> on {shortId(event.runner)}</span>}</span>
          </div>
        );
      }} />
    </>
  );
}
