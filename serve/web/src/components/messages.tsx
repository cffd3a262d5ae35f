import type { Cause } from "../api/cases";
import { ApiError } from "../api/client";
import { words } from "../words";

/** What a person reads where the service refuses or does not answer: what happened, and what to do. */
export function told(error: unknown): string {
  const { errors, refusals } = words.value;
  if (!(error instanceof ApiError)) return errors.other("");
  // A service that is newer than this page may have refusals that the page does not know.
  if (Object.hasOwn(refusals, error.code)) return refusals[error.code]!(error.values);
  if (error.status === 0 || error.status === 502 || error.status === 504) return errors.away;
  if ([408, 429, 503].includes(error.status)) return errors.busy;
  if (error.status === 403) return errors.forbidden;
  if (error.status === 404) return errors.missing;
  if (error.status === 507) return errors.full;
  return errors.other(error.message);
}

/** Why a job or a cleaning failed: in the page's words where it knows the cause, else as the service says it. */
export function because({ reason, cause }: { reason?: string | null; cause?: Cause | null }): string {
  const { failures, about } = words.value;
  if (cause && Object.hasOwn(failures, cause.code)) return failures[cause.code]!(cause.values);
  return reason || about.states.noReason;
}

export function Trouble({ error, again }: { error: unknown; again?: () => unknown }) {
  if (!error) return null;
  return (
    <div class="notice bad" role="alert">
      {told(error)}{" "}
      {again && (
        <button type="button" class="plain small" onClick={() => again()}>
          {words.value.page.again}
        </button>
      )}
    </div>
  );
}

export const Loading = () => (
  <p class="soft" role="status">
    {words.value.page.loading}
  </p>
);
