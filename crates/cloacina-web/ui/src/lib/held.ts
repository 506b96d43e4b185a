// Running executions with the reasons for their state. With these, the Runners page shows which tasks each runner holds.
import { each, get } from "./api.ts";
import type { Page, Reason, Summary } from "./types.ts";

export interface Explained {
  execution: Summary;
  reasons: Reason[];
}

/** Maximum number of executions that are loaded. */
const MAX_RUNNING = 40;

/** Loads the newest running executions, with the reasons for their state. */
export async function explainRunning(signal: AbortSignal): Promise<Explained[]> {
  const { items } = await get<Page<Summary>>(`/executions?status=Running&limit=${MAX_RUNNING}`, signal);
  const found = new Map<string, Reason[]>();
  await each(items, async ({ id }) => {
    try {
      found.set(id, (await get<Page<Reason>>(`/executions/${id}/explain`, signal)).items);
    } catch {
      // The execution is shown without reasons. It may have been deleted after it was listed.
    }
  });
  return items.map((execution) => ({ execution, reasons: found.get(execution.id) ?? [] }));
}
