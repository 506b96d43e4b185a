// The open executions with their reasons, for the page of the runners.
import { each, get } from "./api.ts";
import type { Page, Reason, Summary } from "./types.ts";

export interface Explained {
  execution: Summary;
  reasons: Reason[];
}

const MAX_OPEN = 40;

/** The newest running executions with their reasons. */
export async function explainRunning(signal: AbortSignal): Promise<Explained[]> {
  const { items } = await get<Page<Summary>>(`/executions?status=Running&limit=${MAX_OPEN}`, signal);
  const found = new Map<string, Reason[]>();
  await each(items, async ({ id }) => {
    try {
      found.set(id, (await get<Page<Reason>>(`/executions/${id}/explain`, signal)).items);
    } catch {
      // The execution was deleted in between.
    }
  });
  return items.map((execution) => ({ execution, reasons: found.get(execution.id) ?? [] }));
}
