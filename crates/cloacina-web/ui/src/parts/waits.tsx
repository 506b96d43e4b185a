// The list of open waits for signals and approvals, and the dialogs that decide an approval and send a signal.
import { useState } from "preact/hooks";
import { ApiError, part, send } from "../lib/api.ts";
import { type Json, parse, write } from "../lib/json.ts";
import { notice } from "../lib/live.ts";
import { taskLink, url } from "../lib/route.ts";
import type { SentView } from "../lib/schema.ts";
import type { Page, Wait } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Choice, Command, Dialog, ErrorBox, Time, say, shortId } from "./basics.tsx";
import { may } from "./control.tsx";
import { SchemaFields, fieldsOf, missing, startValue } from "./schema.tsx";
import { Mark } from "./state.tsx";

const failed = (error: unknown) => (error instanceof ApiError ? error : new ApiError({ code: "page", title: "error", status: 0, detail: String(error) }));

/** Parses JSON that the user has typed. An empty text means no value. */
function typed(text: string): { value: Json | undefined; wrong: string } {
  if (!text.trim()) return { value: undefined, wrong: "" };
  try {
    return { value: parse(text), wrong: "" };
  } catch (error) {
    return { value: undefined, wrong: `This is not JSON: ${(error as Error).message}` };
  }
}

/** A dialog that approves or rejects an approval. */
export function DecideDialog({ wait, close }: { wait: Wait; close: () => void }) {
  const fields = fieldsOf(wait.schema);
  const [approves, setApproves] = useState<"approve" | "reject">("approve");
  const [value, setValue] = useState(() => startValue(fields ?? []));
  const [text, setText] = useState("");
  const [reason, setReason] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const own = typed(text);
  const lacks = fields && approves === "approve" ? missing(fields, value) : [];
  async function decide(): Promise<void> {
    setBusy(true);
    setError(null);
    const data = fields ? value : own.value;
    const body = approves === "reject" ? JSON.stringify(reason.trim() ? { reason: reason.trim() } : {}) : data === undefined ? "{}" : `{"data": ${write(data)}}`;
    try {
      await send("POST", `/executions/${part(wait.execution)}/tasks/${part(wait.task ?? "")}/${approves}`, body);
      say(approves === "approve" ? "Approved." : "Rejected.");
      notice();
      close();
    } catch (problem) {
      setError(failed(problem));
      setBusy(false);
    }
  }
  return (
    <Dialog title={wait.title ?? wait.name} close={close}>
      <p class="quiet">Task <code>{wait.task}</code> of <a href={url(`executions/${wait.execution}`)}>{wait.workflow}</a>{wait.to ? <> asked {wait.to}</> : " asked"} <Time at={wait.since} isRelative />. The first decision counts.</p>
      <form class="form" onSubmit={(event) => { event.preventDefault(); void decide(); }}>
        <Choice label="Decision" value={approves} choose={setApproves} options={[["approve", "Approve"], ["reject", "Reject"]]} />
        {approves === "approve" && fields && <SchemaFields fields={fields} value={value} change={setValue} prefix="data" />}
        {approves === "approve" && !fields && (
          <label for="data"><span>Data for the tasks after the approval, as JSON; optional</span>
            <textarea id="data" class="mono" rows={4} spellcheck={false} value={text} aria-invalid={own.wrong !== ""} onInput={(event) => setText(event.currentTarget.value)} />
          </label>
        )}
        {approves === "reject" && <label for="reason"><span>Reason</span><input id="reason" value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label>}
        <p class="error-text" role="status">{approves === "approve" ? own.wrong || (lacks.length > 0 ? `Missing: ${lacks.join(", ")}` : "") : ""}</p>
        {error && <ErrorBox error={error} />}
        <footer>
          <button type="button" onClick={close}>Decide later</button>
          <button type="submit" class={approves === "approve" ? "primary" : "danger"} disabled={isBusy || own.wrong !== "" || lacks.length > 0}>{approves === "approve" ? "Approve" : "Reject"}</button>
        </footer>
      </form>
    </Dialog>
  );
}

/** A dialog that sends a signal: to all waits for its name and key, or to one execution. */
export function SignalDialog({ name: first = "", signalKey = null, to = null, close }: { name?: string; signalKey?: string | null; to?: string | null; close: () => void }) {
  const [name, setName] = useState(first);
  const [key, setKey] = useState(signalKey ?? "");
  const [text, setText] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const own = typed(text);
  async function act(): Promise<void> {
    setBusy(true);
    setError(null);
    const parts = [`"name": ${JSON.stringify(name.trim())}`];
    if (to !== null) parts.push(`"to": ${JSON.stringify(to)}`);
    else if (key.trim()) parts.push(`"key": ${JSON.stringify(key.trim())}`);
    if (own.value !== undefined) parts.push(`"data": ${write(own.value)}`);
    try {
      const { woken } = await send<SentView>("POST", "/signals", `{${parts.join(", ")}}`);
      say(woken === 0 ? "Sent. No task waits for it now; a later wait receives it." : `Sent. It woke ${woken} ${woken === 1 ? "task" : "tasks"}.`);
      notice();
      close();
    } catch (problem) {
      setError(failed(problem));
      setBusy(false);
    }
  }
  return (
    <Dialog title="Send a signal" close={close}>
      <p class="quiet">{to === null ? "All tasks that wait for the name and the key of the signal receive it, now or later." : <>Only execution <span class="mono">{shortId(to)}</span> receives the signal.</>}</p>
      <form class="form" onSubmit={(event) => { event.preventDefault(); void act(); }}>
        <label for="signal-name"><span>Name</span><input id="signal-name" value={name} required onInput={(event) => setName(event.currentTarget.value)} /></label>
        {to === null && <label for="signal-key"><span>Key; empty for waits without a key</span><input id="signal-key" value={key} onInput={(event) => setKey(event.currentTarget.value)} /></label>}
        <label for="signal-data"><span>Data, as JSON; optional</span>
          <textarea id="signal-data" class="mono" rows={4} spellcheck={false} value={text} aria-invalid={own.wrong !== ""} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <p class="error-text" role="status">{own.wrong}</p>
        {error && <ErrorBox error={error} />}
        <footer>
          <button type="button" onClick={close}>Close</button>
          <button type="submit" class="primary" disabled={isBusy || !name.trim() || own.wrong !== ""}>Send</button>
        </footer>
      </form>
    </Dialog>
  );
}

/** The open waits for signals and approvals: of all executions, of one execution, or of one task. */
export function Waits({ execution, task, empty, kind }: { execution?: string; task?: string; empty?: string; kind?: "approval" | "signal" }) {
  const { data, error } = useGet<Page<Wait>>(execution ? `/executions/${part(execution)}/waits` : `/waits?${kind ? `kind=${kind}&` : ""}limit=200`);
  const [decides, setDecides] = useState<Wait | null>(null);
  const [sends, setSends] = useState<Wait | null>(null);
  if (error) return <ErrorBox error={error} />;
  const items = (data?.items ?? []).filter((wait) => (task === undefined || wait.task === task) && (kind === undefined || wait.kind === kind));
  if (items.length === 0) return empty ? <p class="quiet">{empty}</p> : null;
  return (
    <>
      <ul class="items" aria-label={kind ? `Open ${kind}s` : "Open signals and approvals"}>
        {items.map((wait, index) => {
          const isApproval = wait.kind === "approval";
          return (
            <li class="item" key={`${wait.execution} ${wait.task} ${wait.name} ${index}`}>
              <Mark of="Waiting" />
              <div>
                <p>
                  <strong>{isApproval ? (wait.title ?? wait.name) : wait.name}</strong>{" "}
                  {isApproval ? <>approval{wait.to && <> by {wait.to}</>}</> : <>signal{wait.key && <> with key <code>{wait.key}</code></>}</>}
                  {wait.kind === "cancel" && " that cancels the execution"}
                </p>
                <p class="quiet">
                  {execution === undefined && <><a href={url(`executions/${wait.execution}`, {}, wait.task ? `task=${encodeURIComponent(wait.task)}` : "")}>{wait.workflow} <span class="mono">{shortId(wait.execution)}</span></a>{" · "}</>}
                  {execution !== undefined && wait.task && <><a href={taskLink(wait.task)}>{wait.task}</a>{" · "}</>}
                  began <Time at={wait.since} isRelative />{wait.deadline_at && <> · times out <Time at={wait.deadline_at} isRelative /></>}
                </p>
              </div>
              {may("control") && (isApproval
                ? <button type="button" class="primary" onClick={() => setDecides(wait)}>Decide…</button>
                : <button type="button" onClick={() => setSends(wait)}>Send…</button>)}
            </li>
          );
        })}
      </ul>
      {data?.next && <p class="quiet">Only the oldest {items.length} are shown. This command lists more:</p>}
      {data?.next && <Command text="cloaca waits --limit 10000" />}
      {decides && <DecideDialog wait={decides} close={() => setDecides(null)} />}
      {sends && <SignalDialog name={sends.name} signalKey={sends.key} close={() => setSends(null)} />}
    </>
  );
}
