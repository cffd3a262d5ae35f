import { useState } from "preact/hooks";

import { ApiError, file } from "../api/client";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import { SpanFields, spanOf, spanText } from "../components/span-fields";
import { linked } from "../session";
import { clock, words } from "../words";

const LONGEST_S = 120;
const SUGGESTED_S = 10;

/** Saves a short part of the video as a file, with or without what the model says burnt into the picture. */
export function Clip({ video, atS }: { video: Video; atS: number }) {
  const { share } = words.value;
  const endS = linked.value?.to_s ?? video.duration_s;
  const [span, setSpan] = useState(() => spanText(atS, Math.min(atS + SUGGESTED_S, endS)));
  const [isLabelled, setLabelled] = useState(false);
  const action = useAction(async () => {
    const found = spanOf(span, video.duration_s);
    if (!found) throw new ApiError(422, share.timeRule);
    const [start, stop] = found;
    if (stop - start > LONGEST_S) throw new ApiError(422, share.clipRule(clock(LONGEST_S)));
    const labels = isLabelled ? "burnt" : "none";
    save(
      await file(`v1/videos/${video.video_id}/clip?start_s=${start}&stop_s=${stop}&labels=${labels}`),
      `${video.video_id}-${clock(start).replaceAll(":", ".")}.mp4`,
    );
  });
  return (
    <section aria-labelledby="share-clip">
      <h2 id="share-clip">{share.clip}</h2>
      <p class="soft">{share.clipMeans(clock(LONGEST_S))}</p>
      <Trouble error={action.error} />
      <form
        class="row"
        aria-labelledby="share-clip"
        onSubmit={(event) => {
          event.preventDefault();
          void action.run();
        }}
      >
        <SpanFields id="clip" value={span} onChange={setSpan} />
        {video.rights.includes("timeline") && (
          <label class="check">
            <input type="checkbox" checked={isLabelled} onChange={(event) => setLabelled(event.currentTarget.checked)} />
            {share.labels}
          </label>
        )}
        <button disabled={action.busy}>{share.save}</button>
      </form>
    </section>
  );
}

function save(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // a browser reads it after the click has returned
}
