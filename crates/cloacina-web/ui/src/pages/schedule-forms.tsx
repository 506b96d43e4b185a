// The form that creates a schedule, and the form that starts a schedule's workflow for earlier due times.
import { useEffect, useState } from "preact/hooks";
import { ApiError, part, send } from "../lib/api.ts";
import { isObject, parse } from "../lib/json.ts";
import { notice } from "../lib/live.ts";
import { go, url } from "../lib/route.ts";
import type { Backfill } from "../lib/schema.ts";
import { relative } from "../lib/time.ts";
import type { Firing, Page, Schedule, Workflow } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Choice, Dialog, ErrorBox, Time, say } from "../parts/basics.tsx";

const offset = (seconds: number) => `${seconds < 0 ? "−" : "+"}${String(Math.floor(Math.abs(seconds) / 3600)).padStart(2, "0")}:${String(Math.floor((Math.abs(seconds) % 3600) / 60)).padStart(2, "0")}`;
const failed = (error: unknown) => (error instanceof ApiError ? error : new ApiError({ code: "page", title: "error", status: 0, detail: String(error) }));

/** Shows the next times at which a cron expression fires, while the user types the expression. */
export function NextTimes({ expression, zone, count = 8 }: { expression: string; zone: string; count?: number }) {
  const [path, setPath] = useState<string | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setPath(expression.trim() ? `/schedules/preview?expression=${part(expression.trim())}&timezone=${part(zone)}&count=${count}` : null), 250);
    return () => clearTimeout(timer);
  }, [expression, zone]);
  const { data, error } = useGet<Page<Firing>>(path, false);
  const isShifted = new Set(data?.items.map((firing) => firing.offset_seconds)).size > 1;
  return (
    <>
      {error && <p class="error-text" role="status">{error.message}</p>}
      {!error && data && (
        <ul class="compact" aria-label="Next times">{data.items.map((firing) => <li key={firing.at}><span class="mono">{new Date(Date.parse(firing.at) + firing.offset_seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} {offset(firing.offset_seconds)}</span> <span class="quiet">{relative(firing.at)}</span></li>)}</ul>
      )}
      {isShifted && <p class="quiet">The offset changes in between: daylight saving time starts or ends.</p>}
    </>
  );
}

export function NewSchedule({ close }: { close: () => void }) {
  const workflows = useGet<Page<Workflow>>("/workflows", false);
  const [workflow, setWorkflow] = useState("");
  const [cron, setCron] = useState("0 2 * * *");
  const [zone, setZone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");
  const [name, setName] = useState("");
  const [input, setInput] = useState("");
  const [overlap, setOverlap] = useState<"allow" | "skip" | "queue">("allow");
  const [catchup, setCatchup] = useState<"skip" | "latest" | "all">("skip");
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const chosen = workflow || workflows.data?.items[0]?.name || "";
  let wrong = "";
  try {
    if (input.trim() && !isObject(parse(input))) wrong = "The input must be a JSON object.";
  } catch (problem) {
    wrong = `This is not JSON: ${(problem as Error).message}`;
  }
  async function create(): Promise<void> {
    setBusy(true);
    setError(null);
    const fields = { workflow: chosen, cron: cron.trim(), timezone: zone.trim(), overlap, catchup, ...(name.trim() ? { name: name.trim() } : {}) };
    // The input is inserted as text, so that its numbers keep their digits.
    const body = input.trim() ? `${JSON.stringify(fields).slice(0, -1)}, "input": ${input}}` : JSON.stringify(fields);
    try {
      const { id } = await send<Schedule>("POST", "/schedules", body);
      say("The schedule was created.");
      notice();
      go(url(`schedules/${id}`));
    } catch (problem) {
      setError(failed(problem));
      setBusy(false);
    }
  }
  return (
    <Dialog title="New schedule" close={close}>
      <form class="form" onSubmit={(event) => { event.preventDefault(); void create(); }}>
        <label for="schedule-workflow"><span>Workflow</span>
          <select id="schedule-workflow" value={chosen} onChange={(event) => setWorkflow(event.currentTarget.value)}>{workflows.data?.items.map((one) => <option key={one.name} value={one.name}>{one.name}</option>)}</select>
        </label>
        <label for="schedule-cron"><span>Cron expression</span><input id="schedule-cron" class="mono" required value={cron} onInput={(event) => setCron(event.currentTarget.value)} /></label>
        <label for="schedule-zone"><span>Time zone</span><input id="schedule-zone" value={zone} onInput={(event) => setZone(event.currentTarget.value)} /></label>
        <NextTimes expression={cron} zone={zone} count={3} />
        <details>
          <summary>Name, input, overlap, missed ticks</summary>
          <label for="schedule-name"><span>Name: distinguishes this schedule from others with the same workflow and expression</span><input id="schedule-name" value={name} onInput={(event) => setName(event.currentTarget.value)} /></label>
          <label for="schedule-input"><span>Input, as a JSON object</span><textarea id="schedule-input" class="mono" rows={3} spellcheck={false} value={input} aria-invalid={wrong !== ""} onInput={(event) => setInput(event.currentTarget.value)} /></label>
          <p>While an earlier execution is open, a tick</p>
          <Choice label="Overlap" value={overlap} choose={setOverlap} options={[["allow", "starts another"], ["skip", "is skipped"], ["queue", "waits"]]} />
          <p>Of the ticks that were due while no runner was live,</p>
          <Choice label="Missed ticks" value={catchup} choose={setCatchup} options={[["skip", "none fires"], ["latest", "the last fires"], ["all", "all fire"]]} />
        </details>
        <p class="error-text" role="status">{wrong}</p>
        {error && <ErrorBox error={error} />}
        <footer>
          <button type="button" onClick={close}>Close</button>
          <button type="submit" class="primary" disabled={isBusy || !chosen || !cron.trim() || wrong !== ""}>Create</button>
        </footer>
      </form>
    </Dialog>
  );
}

export function BackfillDialog({ schedule, close }: { schedule: Schedule; close: () => void }) {
  const day = 86_400_000;
  const [from, setFrom] = useState(new Date(Date.now() - 7 * day).toISOString().slice(0, 10));
  const [to, setTo] = useState("");
  const [plan, setPlan] = useState<Backfill | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const instant = (text: string) => (/^\d{4}-\d\d-\d\d$/.test(text.trim()) ? `${text.trim()}T00:00:00Z` : text.trim());
  const ask = async (isDry: boolean) => {
    setBusy(true);
    setError(null);
    try {
      const answer = await send<Backfill>("POST", `/schedules/${part(schedule.id)}/backfill`, { from: instant(from), dry_run: isDry, ...(to.trim() ? { to: instant(to) } : {}) });
      if (isDry) setPlan(answer);
      else {
        say(`${answer.done} ${answer.done === 1 ? "execution was" : "executions were"} started.`);
        notice();
        close();
      }
    } catch (problem) {
      setPlan(null);
      setError(failed(problem));
    }
    setBusy(false);
  };
  const fired = plan ? plan.matched - plan.done : 0;
  return (
    <Dialog title={`Backfill ${schedule.workflow}`} close={close}>
      <p>An execution starts for each due time in the range, unless the schedule has already fired for it. The next tick of the schedule does not change.</p>
      <form class="form" onSubmit={(event) => { event.preventDefault(); void ask(true); }}>
        <label for="backfill-from"><span>From: a day, a time, or a span like 7d</span><input id="backfill-from" required value={from} onInput={(event) => { setFrom(event.currentTarget.value); setPlan(null); }} /></label>
        <label for="backfill-to"><span>To; now if empty</span><input id="backfill-to" value={to} onInput={(event) => { setTo(event.currentTarget.value); setPlan(null); }} /></label>
        {plan && (
          <>
            <p role="status"><strong>{plan.done}</strong> of {plan.matched} due times will start an execution{fired > 0 && `; ${fired} fired before`}.</p>
            <ul class="compact" aria-label="Due times">{plan.items.slice(0, 8).map((item) => <li key={item.due_at}><Time at={item.due_at} />{item.has_fired && <span class="quiet">fired before</span>}</li>)}</ul>
            {plan.items.length > 8 && <p class="quiet">and {plan.items.length - 8} more</p>}
          </>
        )}
        {error && <ErrorBox error={error} />}
        <footer>
          <button type="button" onClick={close}>Close</button>
          {plan ? <button type="button" class="primary" disabled={isBusy || plan.done === 0} onClick={() => void ask(false)}>Start {plan.done}</button> : <button type="submit" class="primary" disabled={isBusy || !from.trim()}>Show what would start</button>}
        </footer>
      </form>
    </Dialog>
  );
}
