import { useEffect, useState } from "preact/hooks";

import { api } from "../api/client";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { Choice } from "../components/choice";
import { Trouble } from "../components/messages";
import { words } from "../words";

const DAY_S = 86_400;

/** The local day of a time, as a date field holds it. */
export function fieldDay(seconds: number): string {
  const at = new Date(seconds * 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** The patient's consent, and until when the case is kept. */
export function Keeping({ video, reload }: { video: Video; reload: () => Promise<void> }) {
  const { people: text } = words.value;
  const stored = { consent: video.consent as string, until: video.keep_until_s ? fieldDay(video.keep_until_s) : "" };
  const [consent, setConsent] = useState(stored.consent);
  const [until, setUntil] = useState(stored.until);
  useEffect(() => {
    setConsent(stored.consent);
    setUntil(stored.until);
  }, [stored.consent, stored.until]);
  const action = useAction(async () => {
    const json: Record<string, unknown> = {};
    if (consent !== stored.consent) json.consent = consent;
    if (until && until !== stored.until && stored.consent !== "withdrawn" && consent !== "withdrawn")
      json.keep_until_s = new Date(`${until}T23:59:59`).getTime() / 1000;
    await api(`v1/videos/${video.video_id}/keeping`, { method: "PATCH", json });
    await reload();
  });
  const isNewlyWithdrawn = consent === "withdrawn" && stored.consent !== "withdrawn";
  return (
    <form
      class="row"
      aria-label={text.consent}
      onSubmit={(event) => {
        event.preventDefault();
        void action.run();
      }}
    >
      <Trouble error={action.error} />
      <Choice id="consent" label={text.consent} value={consent} onChange={setConsent} options={text.consentChoices} />
      <div class="field">
        <label for="keep-until">{text.keepUntil}</label>
        <input
          id="keep-until"
          type="date"
          min={fieldDay(Date.now() / 1000 + DAY_S)}
          disabled={stored.consent === "withdrawn"}
          value={until}
          onInput={(event) => setUntil(event.currentTarget.value)}
        />
      </div>
      <button class={isNewlyWithdrawn ? "danger" : ""} disabled={action.busy}>
        {isNewlyWithdrawn ? text.withdrawConsent : text.save}
      </button>
      {isNewlyWithdrawn && <p class="soft">{text.withdrawMeans}</p>}
    </form>
  );
}
