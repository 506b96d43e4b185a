// An action on everything that matches a filter: a dry run first, then the action, with the refusals.
import { useEffect, useState } from "preact/hooks";
import { ApiError, send } from "../lib/api.ts";
import { notice } from "../lib/live.ts";
import { Dialog, ErrorBox, Loading, say, shortId } from "./basics.tsx";
import { ACTIONS, type Action } from "./control.tsx";

interface Outcome {
  matched: number;
  done: number;
  refused: { id: string; code: string; detail: string }[];
}

interface Answer extends Outcome {
  next: string | null;
}

/** Maximum number of executions of one request. */
const STEP = 500;
/** Maximum number of requests of one run. Executions that they do not reach are left unchanged. */
const MAX_STEPS = 200;

async function run(action: Action, filter: Record<string, string[]>, isDry: boolean, told: (outcome: Outcome, isMore: boolean) => void, isStopped: () => boolean): Promise<void> {
  const sum: Outcome = { matched: 0, done: 0, refused: [] };
  let cursor: string | null = null;
  for (let step = 0; step < MAX_STEPS && !isStopped(); step++) {
    const answer: Answer = await send<Answer>("POST", "/executions/bulk", { action, filter, dry_run: isDry, limit: STEP, ...(cursor === null ? {} : { cursor }) });
    sum.matched += answer.matched;
    sum.done += answer.done;
    sum.refused.push(...answer.refused);
    cursor = answer.next;
    told({ ...sum, refused: [...sum.refused] }, cursor !== null);
    if (cursor === null) return;
  }
}

export function BulkDialog({ action, filter, close }: { action: Action; filter: Record<string, string[]>; close: () => void }) {
  const { title, about, done: past } = ACTIONS[action];
  const [plan, setPlan] = useState<{ outcome: Outcome; isMore: boolean } | null>(null);
  const [result, setResult] = useState<Outcome | null>(null);
  const [isOver, setOver] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const fail = (problem: unknown) => setError(problem instanceof ApiError ? problem : new ApiError({ code: "page", title: "error", status: 0, detail: String(problem) }));
  useEffect(() => {
    let isGone = false;
    run(action, filter, true, (outcome, isMore) => !isGone && setPlan({ outcome, isMore }), () => isGone).catch((problem: unknown) => !isGone && fail(problem));
    return () => { isGone = true; };
  }, []);
  async function act(): Promise<void> {
    setResult({ matched: 0, done: 0, refused: [] });
    try {
      let last: Outcome = { matched: 0, done: 0, refused: [] };
      await run(action, filter, false, (outcome) => { last = outcome; setResult(outcome); }, () => false);
      setOver(true);
      notice();
      // Refusals that the dry run has already reported are left out.
      if (last.refused.length <= (plan?.outcome.refused.length ?? 0)) {
        say(`${last.done} executions are ${past}.`);
        close();
      }
    } catch (problem) {
      fail(problem);
      setOver(true);
    }
  }
  const names = Object.entries(filter).map(([name, values]) => `${name} = ${values.join(" or ")}`);
  const refusals = new Map<string, number>();
  for (const { detail, id } of (result ?? plan?.outcome)?.refused ?? []) {
    const text = detail.replace(id, "").replace(/^execution\s+/, "").trim();
    refusals.set(text, (refusals.get(text) ?? 0) + 1);
  }
  const able = plan?.outcome.done ?? 0;
  return (
    <Dialog title={`${title}: all that match`} close={close}>
      <p>{about}</p>
      <p class="quiet">{names.length > 0 ? names.join(", ") : "No filter: all executions."}</p>
      {!plan && !error && <Loading />}
      {plan && (
        <ul class="plain-list" aria-label="What will happen">
          <li><strong>{plan.outcome.done}</strong> of {plan.outcome.matched}{plan.isMore ? " so far" : ""} will be {past}.</li>
          {[...refusals].map(([text, count]) => <li key={text}>{count} stay as they are: {text}</li>)}
        </ul>
      )}
      {result && !isOver && <progress max={Math.max(1, plan?.outcome.matched ?? 1)} value={result.matched} aria-label="Progress" />}
      {result && isOver && (
        <div class="box" role="status"><strong>{result.done} {past}, {result.refused.length} refused</strong>
          <ul>{result.refused.slice(0, 10).map(({ id, detail }) => <li key={id}><code>{shortId(id)}</code> {detail}</li>)}</ul>
        </div>
      )}
      {error && <ErrorBox error={error} />}
      <footer>
        <button type="button" onClick={close}>{isOver ? "Close" : "Keep as it is"}</button>
        {!isOver && <button type="button" class={action === "cancel" ? "danger" : "primary"} disabled={!plan || plan.isMore || able === 0 || result !== null} onClick={() => void act()}>{title} ({able})</button>}
      </footer>
    </Dialog>
  );
}
