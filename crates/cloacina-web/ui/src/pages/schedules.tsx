// The list of schedules and triggers, with a time line of their next firings. Also the page of a schedule, with its ticks.
import { useState } from "preact/hooks";
import { ApiError, getAll, part, send } from "../lib/api.ts";
import { notice } from "../lib/live.ts";
import { go, url } from "../lib/route.ts";
import { clock, duration, grouped, now, precise } from "../lib/time.ts";
import type { Attention, Firing, Page, Reason, Schedule, Tick } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { Copy, Dialog, Empty, ErrorBox, Loading, Missing, Time, say, shortId } from "../parts/basics.tsx";
import { may } from "../parts/control.tsx";
import { Mark } from "../parts/state.tsx";
import { BackfillDialog, NewSchedule, NextTimes } from "./schedule-forms.tsx";

/** The length of the time line, in hours. */
const HOURS = 24;

/** A time line of the firings in the next 24 hours. */
function Line({ firings }: { firings: readonly Firing[] }) {
  const span = HOURS * 3_600_000;
  const start = now.value;
  return (
    <figure class="firings">
      <svg viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label={`${firings.length} firings in the next ${HOURS} hours`}>
        <path class="axis-line" d="M0 30h1000" />
        {firings.map((firing, index) => {
          const x = ((Date.parse(firing.at) - start) / span) * 1000;
          return x >= 0 && x <= 1000 ? <rect key={index} class="run solid" x={x} width="2" y="8" height="22"><title>{`${firing.workflow ?? ""} ${precise(firing.at)}`}</title></rect> : null;
        })}
      </svg>
      <figcaption>{[0, 6, 12, 18, 24].map((hour) => <span key={hour}>{hour === 0 ? "now" : clock(new Date(start + hour * 3_600_000).toISOString()).slice(-8, -3)}</span>)}</figcaption>
    </figure>
  );
}

/** A field for a cron expression, with a list of the next times at which the expression fires. */
function Preview() {
  const [expression, setExpression] = useState("0 2 * * *");
  const [zone, setZone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");
  return (
    <details class="box">
      <summary>Try a cron expression</summary>
      <div class="filters">
        <label><span>Expression</span><input class="mono" value={expression} onInput={(event) => setExpression(event.currentTarget.value)} /></label>
        <label><span>Time zone</span><input value={zone} onInput={(event) => setZone(event.currentTarget.value)} /></label>
      </div>
      <NextTimes expression={expression} zone={zone} />
    </details>
  );
}

async function act(path: string, done: string, method = "POST"): Promise<void> {
  try {
    const answer = await send<{ id?: string } | null>(method, path);
    say(done);
    notice();
    if (path.endsWith("/run-now") && answer?.id) go(url(`executions/${answer.id}`));
  } catch (error) {
    say(error instanceof ApiError ? error.message : String(error), true);
  }
}

function describe(schedule: Schedule): string {
  if (schedule.cron) return `${schedule.kind === "trigger" ? "polls at " : ""}${schedule.cron} ${schedule.timezone}`;
  return schedule.interval_us === null ? "after the ends of other workflows" : `polls every ${duration(schedule.interval_us)}`;
}

/** Maximum number of schedules, and of triggers, that are loaded. */
const MAX_SCHEDULES = 2000;
/** The kinds that are loaded, with their names. */
const KINDS = [["cron", "schedules"], ["trigger", "triggers"]] as const;

/** Loads the schedules, then the triggers. */
export async function loadSchedules(signal: AbortSignal): Promise<Schedule[]> {
  const kinds = KINDS.map(([kind]) => getAll<Schedule>(`/schedules?kind=${kind}&limit=200`, MAX_SCHEDULES, signal));
  return (await Promise.all(kinds)).flat();
}

/**
 * The texts that say why a schedule or trigger does not fire. The schedule and the reason are loaded separately, so a reason
 * that repeats an error may be older than the error of the schedule, which is shown instead.
 */
function troubleOf({ last_error }: Schedule, reason: Reason | undefined): string[] {
  return [reason?.code === "poll_failed" ? null : reason?.sentence, last_error].filter((text) => typeof text === "string");
}

export function SchedulesPage() {
  const { data, error, reload } = useLoad("schedules", loadSchedules);
  const until = Math.ceil((now.value + HOURS * 3_600_000) / 60_000) * 60_000;
  const firings = useGet<Page<Firing>>(`/schedules/firings?to=${part(new Date(until).toISOString())}`);
  const troubled = useGet<Attention>(data?.length ? "/attention?since=24h" : null).data?.schedules;
  const troubles = new Map(troubled?.map(({ id, reason }) => [id, reason]));
  const [isNew, setNew] = useState(false);
  return (
    <>
      <div class="title-line">
        <h1>Schedules</h1>
        {may("schedule") && <div class="actions"><button type="button" class="primary" onClick={() => setNew(true)}>New schedule…</button></div>}
      </div>
      {error && <ErrorBox error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data?.length === 0 && (
        <Empty title="No schedules">
          <p>A program registers a schedule on its runner:</p>
          <pre class="code" tabIndex={0}>{'runner.register_cron_workflow("etl", "0 2 * * *", "Europe/Berlin")'}</pre>
        </Empty>
      )}
      {firings.data && data && data.length > 0 && <Line firings={firings.data.items} />}
      {data && data.length > 0 && (
        <div class="scroll"><table class="list blocks schedule-list">
          <thead><tr><th>Schedule</th><th>Workflow</th><th>Next</th><th>Last</th><th>State</th><th class="grow"><span class="hidden">Why it does not fire</span></th></tr></thead>
          <tbody>
            {data.map((schedule) => (
              <tr key={schedule.id}>
                <td class="nowrap"><a href={url(`schedules/${schedule.id}`)} class="mono">{describe(schedule)}</a>{schedule.name && <span class="quiet"> {schedule.name}</span>}</td>
                <td><a href={url(`workflows/${part(schedule.workflow)}`)}>{schedule.workflow}</a></td>
                <td class="nowrap">{schedule.enabled && schedule.next_at ? <><Time at={schedule.next_at} /> <span class="quiet"><Time at={schedule.next_at} isRelative /></span></> : <span class="quiet">–</span>}</td>
                <td class="nowrap"><Time at={schedule.last_fired_at} isRelative /></td>
                <td>{schedule.enabled ? "enabled" : <span class="state rest"><Mark of="Paused" /> disabled</span>}</td>
                <td class="grow">{troubleOf(schedule, troubles.get(schedule.id)).map((text) => <div key={text}><span class="error-cell">{text}</span></div>)}</td>
              </tr>
            ))}
          </tbody>
        </table></div>
      )}
      {KINDS.map(([kind, name]) => data && data.filter((schedule) => schedule.kind === kind).length >= MAX_SCHEDULES && (
        <p key={kind} class="quiet">Only the first {grouped(MAX_SCHEDULES)} {name} are shown.</p>
      ))}
      <Preview />
      {isNew && <NewSchedule close={() => setNew(false)} />}
    </>
  );
}

/** Why a tick with this outcome started no execution. */
const WHY_NOT: Record<string, string> = {
  missed: "no runner was live when it was due, and the rule for missed ticks did not let it fire later",
  overlapped: "an earlier execution of the schedule had not ended, and the rule for overlaps did not let another one start",
  queued: "it waits until the earlier executions of the schedule have ended",
  skipped: "it was skipped",
  failed: "the function of the trigger failed",
};

const whyNot = ({ outcome, detail }: Tick): string =>
  [outcome === "skipped" && detail ? "" : (WHY_NOT[outcome] ?? ""), detail ?? ""].filter(Boolean).join(": ");

export function SchedulePage({ id }: { id: string }) {
  const path = `/schedules/${part(id)}`;
  const { data, error } = useGet<Schedule>(path);
  const why = useGet<Page<Reason>>(data ? `${path}/explain` : null);
  const [cursor, setCursor] = useState<string | null>(null);
  const ticks = useGet<Page<Tick>>(data ? `${path}/ticks?limit=50${cursor === null ? "" : `&cursor=${part(cursor)}`}` : null);
  const [asks, setAsks] = useState<"run" | "delete" | "backfill" | null>(null);
  const reasons = why.data?.items ?? [];
  // Only the first page of the ticks begins with the last tick. While another page loads, the data is that of the page before.
  const last = !ticks.isLoading && ticks.data?.prev === null ? ticks.data.items[0] : undefined;
  const silent = last && WHY_NOT[last.outcome] ? last : undefined;
  if (error) return <Missing kind="schedule" list="schedules" error={error} />;
  if (!data) return <Loading />;
  return (
    <>
      <div class="title-line">
        <h1>{data.workflow} <span class="quiet">{describe(data)}</span></h1>
        <div class="actions" role="toolbar" aria-label="Actions">
          {may("start") && data.kind === "cron" && <button type="button" class="primary" onClick={() => setAsks("run")}>Run now…</button>}
          {may("start") && data.kind === "cron" && <button type="button" onClick={() => setAsks("backfill")}>Backfill…</button>}
          {may("schedule") && <button type="button" onClick={() => void act(`${path}/${data.enabled ? "disable" : "enable"}`, data.enabled ? "The schedule is disabled." : "The schedule is enabled.")}>{data.enabled ? "Disable" : "Enable"}</button>}
          {may("schedule") && data.kind === "cron" && <button type="button" class="danger" onClick={() => setAsks("delete")}>Delete…</button>}
        </div>
      </div>
      <p class="ids"><span class="mono">{data.id}</span><Copy text={data.id} what="the id" /></p>
      <dl class="facts">
        <div><dt>State</dt><dd>{data.enabled ? "enabled" : "disabled"}{data.switched && <span class="quiet"> by {data.switched.by ?? "a program"} <Time at={data.switched.at} isRelative />{data.switched.note && `: ${data.switched.note}`}</span>}</dd></div>
        <div><dt>Next</dt><dd><Time at={data.enabled ? data.next_at : null} /></dd></div>
        <div><dt>Last fired</dt><dd><Time at={data.last_fired_at} /></dd></div>
        <div><dt>Missed ticks</dt><dd>{data.catchup}</dd></div>
        <div><dt>Overlap</dt><dd>{data.overlap}</dd></div>
        {data.jitter_us > 0 && <div><dt>Jitter</dt><dd>{duration(data.jitter_us)}</dd></div>}
      </dl>
      {(reasons.length > 0 || silent) && (
        <section class="why" aria-labelledby="why"><h2 id="why">Why it fires, or does not</h2>
          <ol>{silent && <li>The tick of <Time at={silent.due_at} /> started nothing: {whyNot(silent)}.</li>}{reasons.map((reason, index) => <li key={index}>{reason.sentence}{reason.remedy && <p class="remedy">To resolve it: {reason.remedy}.</p>}</li>)}</ol>
        </section>
      )}
      {data.last_error && <div class="box bad"><strong>The last poll failed</strong><p>{data.last_error}</p></div>}
      <section aria-labelledby="ticks"><h2 id="ticks">Ticks</h2>
        {ticks.data?.items.length === 0 && <p class="quiet">No tick has been due yet.</p>}
        {ticks.data && ticks.data.items.length > 0 && <div class="scroll" tabIndex={0}><table class="list">
          <thead><tr><th>Due</th><th>Outcome</th><th>Execution</th><th class="grow"><span class="hidden">Detail</span></th></tr></thead>
          <tbody>{ticks.data.items.map((tick) => (
            <tr key={tick.due_at}><td class="nowrap"><Time at={tick.due_at} /></td><td>{tick.outcome}</td><td class="nowrap">{tick.execution && <a class="mono" href={url(`executions/${tick.execution}`)}>{shortId(tick.execution)}</a>}</td><td class="grow quiet">{WHY_NOT[tick.outcome] ? whyNot(tick) : tick.detail}</td></tr>
          ))}</tbody>
        </table></div>}
        {ticks.data && (ticks.data.prev || ticks.data.next) && (
          <nav class="pager" aria-label="Pages of the ticks">
            {ticks.data.prev && <button type="button" onClick={() => setCursor(ticks.data?.prev ?? null)}>Newer</button>}
            {ticks.data.next && <button type="button" onClick={() => setCursor(ticks.data?.next ?? null)}>Older</button>}
          </nav>
        )}
      </section>
      {asks === "run" && (
        <Dialog title={`Run ${data.workflow} now`} close={() => setAsks(null)}>
          <p>An execution starts with the input of the schedule. The ticks of the schedule do not change.</p>
          <footer><button type="button" onClick={() => setAsks(null)}>Close</button><button type="button" class="primary" onClick={() => { setAsks(null); void act(`${path}/run-now`, "Started."); }}>Run now</button></footer>
        </Dialog>
      )}
      {asks === "backfill" && <BackfillDialog schedule={data} close={() => setAsks(null)} />}
      {asks === "delete" && (
        <Dialog title="Delete the schedule" close={() => setAsks(null)}>
          <p>The schedule will no longer fire. A program can register it again.</p>
          <footer><button type="button" onClick={() => setAsks(null)}>Keep it</button><button type="button" class="danger" onClick={() => { setAsks(null); void act(path, "The schedule is deleted.", "DELETE").then(() => go(url("schedules"))); }}>Delete</button></footer>
        </Dialog>
      )}
    </>
  );
}
