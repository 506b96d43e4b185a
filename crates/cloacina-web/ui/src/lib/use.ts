// Hooks: data of the API that follows the changes.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "./api.ts";
import { changes } from "./live.ts";

export interface Loaded<T> {
  data: T | undefined;
  error: ApiError | undefined;
  isLoading: boolean;
  reload: () => void;
}

/** Loads data by a function, and again when `key` or the database changes. Without a key nothing is loaded. */
export function useLoad<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>, isLive = true): Loaded<T> {
  const [state, setState] = useState<{ key: string | null; data?: T; error?: ApiError }>({ key: null });
  const [turn, setTurn] = useState(0);
  const change = isLive ? changes.value : 0;
  const running = useRef(false);
  const wanted = useRef(false);
  useEffect(() => {
    if (key === null) return;
    const abort = new AbortController();
    const run = async (): Promise<void> => {
      running.current = true;
      try {
        const data = await load(abort.signal);
        if (!abort.signal.aborted) setState({ key, data });
      } catch (error) {
        if (abort.signal.aborted) return;
        const problem = error instanceof ApiError ? error : new ApiError({ code: "page", title: "error", status: 0, detail: String(error) });
        setState((before) => (before.key === key && problem.problem.status === 0 ? { ...before, error: problem } : { key, error: problem }));
      } finally {
        running.current = false;
      }
    };
    void run();
    return () => {
      wanted.current = false;
      abort.abort();
    };
  }, [key, change, turn]);
  return {
    data: state.data,
    error: state.key === key ? state.error : undefined,
    isLoading: key !== null && state.key !== key,
    reload: () => setTurn((before) => before + 1),
  };
}

/** Loads an answer of the API. */
export function useGet<T>(path: string | null, isLive = true): Loaded<T> {
  return useLoad<T>(path, (signal) => get<T>(path ?? "", signal), isLive);
}
