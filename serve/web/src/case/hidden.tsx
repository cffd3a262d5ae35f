import { useState } from "preact/hooks";

import { useResource } from "../api/resource";
import type { Video } from "../api/types";
import { Loading, Trouble } from "../components/messages";
import { toCase } from "../router";
import { clockTenths, words } from "../words";
import "./hidden.css";

/** A stretch that became black, in seconds of the video. */
interface Black {
  start_s: number;
  stop_s: number;
  reason: string;
}

/** What is read of a certificate: `spans` of the whole picture, `masks` of a box in it. */
interface Certificate {
  black: { spans: Black[]; masks: Black[] };
}

/** The list to look through: what became black before the video was stored, each with a way to its moment. */
export function HiddenParts({ video, count }: { video: Video; count: number }) {
  const { about } = words.value;
  const [isOpen, setOpen] = useState(false);
  const { data, error, loading, reload } = useResource<Certificate>(isOpen ? `v1/videos/${video.video_id}/certificate` : null);
  const inTime = (one: Black, other: Black) => one.start_s - other.start_s;
  const found = [
    ...(data?.black.spans ?? []).map((one) => ({ ...one, where: about.hiddenWhole })),
    ...(data?.black.masks ?? []).map((one) => ({ ...one, where: about.hiddenBox })),
  ].sort(inTime);
  return (
    <details class="hidden-parts" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{about.hiddenParts(count)}</summary>
      {loading && <Loading />}
      <Trouble error={error} again={reload} />
      <ul>
        {found.map((one, n) => (
          <li key={n}>
            <a class="numbers" href={toCase(video.video_id, one.start_s)}>
              {`${clockTenths(one.start_s)}–${clockTenths(Math.min(one.stop_s, video.duration_s))}`}
            </a>{" "}
            {one.where}, {about.hiddenWhy[one.reason] ?? one.reason}
          </li>
        ))}
      </ul>
    </details>
  );
}
