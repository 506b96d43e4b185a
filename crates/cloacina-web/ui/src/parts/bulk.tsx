// The dialog for an action on all executions that match a filter. It makes a dry run,
// asks for confirmation, applies the action, and shows the refusals.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, send } from "../lib/api.ts";
import { notice } from "../lib/live.ts";
import type { BulkView, Refused } from "../lib/schema.ts";
import { Dialog, ErrorBox, Loading, say, shortId } from "./basics.tsx";
import { ACTIONS, type Action } from "./control.tsx";

/** The sum of the answers so far. */
interface Outcome {
  matched: number;
  done: number;
  refused: number;
  /** The number of refusals for each reason. */
  reasons: ReadonlyMap<string, number>;
  /** The first refusals. */
  first: readonly Refused[];
  /** The cursor with which to continue; null if all matching executions were examined. */
  next: string | null;
}

/** Maximum number of matching executions that one request examines. */
const STEP = 500;
/** Maximum number of refusals that are shown one by one. */
const MAX_SHOWN = 10;

const NOTHING: Outcome = { matched: 0, done: 0, refused: 0, reasons: new Map(), first: [], next: null };

function added(sum: Outcome, answer: BulkView): Outcome {
  const reasons = new Map(sum.reasons);
  for (const { detail, id } of answer.refused) {
    const text = detail.replace(id, "").replace(/^execution\s+/, "").trim();
    reasons.set(text, (reasons.get(text) ?? 0) + 1);
  }
  return {
    matched: sum.matched + answer.matched,
    done: sum.done + answer.done,
    refused: sum.refused + answer.refused.length,
    reasons,
    first: [...sum.first, ...answer.refused].slice(0, MAX_SHOWN),
    next: answer.next,
  };
}

/** Applies the action, or makes a dry run (`isDry`), until all matching executions are examined or `isStopped` returns true. */
async function run(action: Action, filter: Record<string, string[]>, isDry: boolean, from: Outcome, told: (outcome: Outcome) => void, isStopped: () => boolean): Promise<void> {
  let sum = from;
  do {
    const cursor = sum.next === null ? {} : { cursor: sum.next };
    sum = added(sum, await send<BulkView>("POST", "/executions/bulk", { action, filter, dry_run: isDry, limit: STEP, ...cursor }));
    told(sum);
  } while (sum.next !== null && !isStopped());
}

export function BulkDialog({ action, filter, close }: { action: Action; filter: Record<string, string[]>; close: () => void }) {
  const { title, about, done: past } = ACTIONS[action];
  const [plan, setPlan] = useState<Outcome | null>(null);
  const [result, setResult] = useState<Outcome | null>(null);
  const [isRunning, setRunning] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const isStopped = useRef(false);
  const fail = (problem: unknown) => setError(problem instanceof ApiError ? problem : new ApiError({ code: "page", title: "error", status: 0, detail: String(problem) }));
  useEffect(() => {
    let isGone = false;
    run(action, filter, true, NOTHING, (outcome) => !isGone && setPlan(outcome), () => isGone).catch((problem: unknown) => !isGone && fail(problem));
    return () => {
      isGone = true;
      isStopped.current = true;
    };
  }, []);
  async function act(): Promise<void> {
    let last = result ?? NOTHING;
    isStopped.current = false;
    setError(null);
    setResult(last);
    setRunning(true);
    try {
      await run(action, filter, false, last, (outcome) => { last = outcome; setResult(outcome); }, () => isStopped.current);
      // The dialog stays open if more executions were refused than in the dry run.
      if (last.next === null && last.refused <= (plan?.refused ?? 0)) {
        say(`${last.done} executions were ${past}.`);
        close();
      }
    } catch (problem) {
      fail(problem);
    }
    setRunning(false);
    notice();
  }
  const names = Object.entries(filter).map(([name, values]) => `${name} = ${values.join(" or ")}`);
  const able = plan?.done ?? 0;
  const isCounting = plan !== null && plan.next !== null && error === null;
  // Whether the action has ended, was stopped, or has failed.
  const isOver = result !== null && !isRunning;
  const canContinue = isOver && (result.next !== null || error !== null);
  return (
    <Dialog title={`${title}: all that match`} close={close}>
      <p>{about}</p>
      <p class="quiet">{names.length > 0 ? names.join(", ") : "No filter: all executions."}</p>
      {!plan && !error && <Loading />}
      {plan && (
        <ul class="plain-list" aria-label="What will happen">
          <li><strong>{plan.done}</strong> of {plan.matched}{plan.next !== null ? " so far" : ""} will be {past}.</li>
          {[...(result ?? plan).reasons].map(([text, count]) => <li key={text}>{count} stay as they are: {text}</li>)}
        </ul>
      )}
      {isCounting && <p class="quiet" role="status">Still counting. The action can start when all matching executions are counted.</p>}
      {isRunning && <progress max={Math.max(1, plan?.matched ?? 1)} value={result?.matched ?? 0} aria-label="Progress" />}
      {isOver && (
        <div class="box" role="status">
          <strong>{canContinue && "Stopped: "}{result.done} {past}, {result.refused} refused</strong>
          {canContinue && <p>The other executions that match were not examined.</p>}
          <ul>{result.first.map(({ id, detail }) => <li key={id}><code>{shortId(id)}</code> {detail}</li>)}</ul>
        </div>
      )}
      {error && <ErrorBox error={error} />}
      <footer>
        {isRunning
          ? <button type="button" onClick={() => (isStopped.current = true)}>Stop</button>
          : <button type="button" onClick={close}>{isOver ? "Close" : "Keep as it is"}</button>}
        {canContinue && <button type="button" class={action === "cancel" ? "danger" : "primary"} onClick={() => void act()}>Continue</button>}
        {!isOver && <button type="button" class={action === "cancel" ? "danger" : "primary"} disabled={!plan || plan.next !== null || able === 0 || isRunning} onClick={() => void act()}>{title} ({able})</button>}
      </footer>
    </Dialog>
  );
}
