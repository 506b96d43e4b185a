// Actions on executions: the states that allow them, and the dialog that asks for confirmation.
import { useState } from "preact/hooks";
import { ApiError, each, send } from "../lib/api.ts";
import { notice } from "../lib/live.ts";
import { meta } from "../lib/meta.ts";
import type { Status, Summary } from "../lib/types.ts";
import { Dialog, say, shortId } from "./basics.tsx";
import { State } from "./state.tsx";

export type Action = "cancel" | "pause" | "resume" | "retry";

export const ACTIONS: Record<Action, { title: string; done: string; states: readonly Status[]; about: string }> = {
  retry: { title: "Retry failed tasks", done: "retried", states: ["Failed"], about: "The same execution continues: completed tasks keep their results." },
  pause: { title: "Pause", done: "paused", states: ["Pending", "Running"], about: "Running tasks continue to their end. No other task starts until the execution is resumed." },
  resume: { title: "Resume", done: "resumed", states: ["Paused"], about: "The tasks continue where the pause stopped them." },
  cancel: { title: "Cancel", done: "cancelled", states: ["Pending", "Running", "Paused"], about: "A cancelled execution does not continue. Running tasks are asked to stop." },
};

export const NAMES = Object.keys(ACTIONS) as Action[];
export const allows = (action: Action, status: Status) => ACTIONS[action].states.includes(status);
export const may = (permission: string) => meta.value?.permissions.includes(permission) ?? false;

export async function control(id: string, action: Action, fromTask?: string): Promise<void> {
  await send("POST", `/executions/${id}/${action}`, fromTask ? { from_task: fromTask } : {});
}

type Item = Pick<Summary, "id" | "status" | "workflow">;

/** A dialog that asks for confirmation, applies an action to one or more executions, and shows what was refused. */
export function ControlDialog({ action, items, fromTask, close, done }: {
  action: Action;
  items: readonly Item[];
  fromTask?: string | undefined;
  close: () => void;
  done?: (failed: string[]) => void;
}) {
  const { title, states, about, done: past } = ACTIONS[action];
  const able = items.filter((item) => fromTask !== undefined || states.includes(item.status));
  const refused = items.filter((item) => !able.includes(item));
  const [progress, setProgress] = useState<number | null>(null);
  const [problems, setProblems] = useState<{ id: string; text: string }[]>([]);
  const isOne = items.length === 1;
  const isOver = progress !== null && progress === able.length;

  async function act(): Promise<void> {
    setProgress(0);
    const failed: { id: string; text: string }[] = [];
    await each(able, async ({ id }) => {
      try {
        await control(id, action, fromTask);
      } catch (error) {
        failed.push({ id, text: error instanceof ApiError ? error.message : String(error) });
      }
      setProgress((before) => (before ?? 0) + 1);
    });
    setProblems(failed);
    done?.(failed.map((one) => one.id));
    if (failed.length === 0) {
      say(isOne ? `The execution was ${past}.` : `${able.length} executions were ${past}.`);
      close();
    }
    notice();
  }

  const counts = new Map<string, number>();
  for (const item of refused) counts.set(item.status, (counts.get(item.status) ?? 0) + 1);
  return (
    <Dialog title={fromTask ? `Run again from ${fromTask}` : isOne ? title : `${title}: ${items.length} executions`} close={close}>
      <p>{fromTask ? "This task and all that depend on it run again. Other tasks keep their results." : about}</p>
      {!isOne && (
        <ul class="plain-list" aria-label="What will happen">
          <li><strong>{able.length}</strong> of {items.length} will be {past}.</li>
          {[...counts].map(([state, count]) => <li key={state}><State of={state} /> {count} stay as they are.</li>)}
        </ul>
      )}
      {progress !== null && !isOver && <progress max={able.length} value={progress} aria-label="Progress" />}
      {problems.length > 0 && (
        <div class="box bad" role="alert">
          <strong>{problems.length} refused</strong>
          <ul>{problems.slice(0, 20).map(({ id, text }) => <li key={id}><code>{shortId(id)}</code> {text}</li>)}</ul>
        </div>
      )}
      <footer>
        <button type="button" onClick={close}>{isOver ? "Close" : "Keep as it is"}</button>
        {!isOver && (
          <button type="button" class={action === "cancel" ? "danger" : "primary"} disabled={able.length === 0 || progress !== null}
            onClick={() => void act()}>
            {isOne ? (fromTask ? "Run again" : title) : `${title} (${able.length})`}
          </button>
        )}
      </footer>
    </Dialog>
  );
}
