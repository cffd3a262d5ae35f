import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { ApiError, api } from "./client";

export interface Resource<T> {
  /** What the service answered for this `path`; null until it has. Never what it answered for another path. */
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  reload: () => Promise<void>;
  /** Puts a newer state that another request has brought, such as the answer to a change. */
  put: (data: T) => void;
}

interface State<T> {
  path: string | null;
  data: T | null;
  error: ApiError | null;
}

/**
 * What the service answers to `GET path`. Another `path` clears what is shown at once, and an answer that comes late,
 * for a path that is no longer asked for, is dropped: so no case is ever shown under the address of another.
 * `path` null: nothing is asked.
 */
export function useResource<T>(path: string | null): Resource<T> {
  const [state, setState] = useState<State<T>>({ path, data: null, error: null });
  const current = useRef(path);
  const asked = useRef(0);
  current.current = path;

  const reload = useCallback(async () => {
    if (path === null) return;
    const number = ++asked.current;
    const isWanted = () => current.current === path && asked.current === number;
    try {
      const data = await api<T>(path);
      if (isWanted()) setState({ path, data, error: null });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // What was shown stays while the service is away; a case that is gone, or closed to the caller, does not stay.
      if (isWanted()) setState((before) => ({ path, data: error.mayPass && before.path === path ? before.data : null, error }));
    }
  }, [path]);

  useEffect(() => {
    void reload();
    return () => {
      asked.current++;
    };
  }, [reload]);

  const put = useCallback(
    (data: T) => {
      if (current.current !== path) return;
      asked.current++;
      setState({ path, data, error: null });
    },
    [path],
  );
  const mine = state.path === path ? state : { data: null, error: null };
  return { data: mine.data, error: mine.error, loading: path !== null && !mine.data && !mine.error, reload, put };
}

/** Calls `work` every `everyMs` milliseconds while the tab is seen; 0: never. */
export function useEvery(everyMs: number, work: () => unknown): void {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    if (!everyMs) return;
    const timer = setInterval(() => {
      if (!document.hidden) latest.current();
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}
