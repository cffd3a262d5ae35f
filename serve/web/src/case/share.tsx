import { useState } from "preact/hooks";

import { useResource } from "../api/resource";
import type { Job, Video } from "../api/types";
import { toCase } from "../router";
import { clock, words } from "../words";
import { Clip } from "./clip";
import { Links } from "./links";
import "./share.css";

interface Props {
  video: Video;
  /** The moment that is shown, in seconds of the video. */
  atS: number;
}

/** A link to this moment, read-only links that end, clips, and the map as a file. */
export function Share({ video, atS }: Props) {
  const { share } = words.value;
  const [isOpen, setOpen] = useState(false);
  const may = (right: string) => video.rights.includes(right);
  if (!may("watch") && !may("timeline")) return null;
  return (
    <details class="card share" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{share.title}</summary>
      {isOpen && (
        <>
          <MomentLink video={video} atS={atS} />
          {may("watch") && <Clip video={video} atS={atS} />}
          {may("timeline") && <Exports videoId={video.video_id} />}
          {may("share") && <Links video={video} />}
        </>
      )}
    </details>
  );
}

function MomentLink({ video, atS }: Props) {
  const { share } = words.value;
  const [copied, setCopied] = useState<"" | "copied" | string>("");
  const copy = async () => {
    const url = new URL(toCase(video.video_id, atS), location.href).href;
    try {
      await navigator.clipboard.writeText(url);
      setCopied("copied");
    } catch {
      setCopied(url); // without HTTPS a browser has no clipboard for a page
    }
  };
  return (
    <section aria-labelledby="share-moment">
      <h2 id="share-moment">{share.moment}</h2>
      <p class="soft">{share.momentMeans(clock(atS))}</p>
      <button type="button" class="plain" onClick={() => void copy()}>
        {share.copy}
      </button>
      <p role="status">
        {copied === "copied" ? share.copied : copied && `${share.copyYourself} `}
        {copied && copied !== "copied" && <code class="whole">{copied}</code>}
      </p>
    </section>
  );
}

const FOR_PEOPLE = ["csv", "vtt", "srt", "json"];
const FOR_SYSTEMS = ["dicom", "fhir", "fhir-r4"];
/** How a file of a format is named; the format's own name where it is not here. */
const ENDINGS: Record<string, string> = { dicom: "dcm", fhir: "fhir.json", "fhir-r4": "fhir-r4.json" };

/** The map as files. There is none before a first map is done. */
function Exports({ videoId }: { videoId: string }) {
  const { share } = words.value;
  const maps = useResource<Job[]>(`v1/videos/${videoId}/maps`);
  if (!maps.data?.some((job) => job.state === "done")) return null;
  const list = (formats: string[], label: string) => (
    <ul class="files" aria-label={label}>
      {formats.map((format) => (
        <li key={format}>
          <a
            href={`v1/videos/${videoId}/timeline?format=${format}`}
            download={`${videoId}.${ENDINGS[format] ?? format}`}
          >
            {share.formats[format]}
          </a>
        </li>
      ))}
    </ul>
  );
  return (
    <section aria-labelledby="share-exports">
      <h2 id="share-exports">{share.exports}</h2>
      <button type="button" class="plain" onClick={() => print()}>
        {words.value.summary.print}
      </button>
      {list(FOR_PEOPLE, share.exportsList)}
      <p class="soft">{share.otherSystems}</p>
      {list(FOR_SYSTEMS, share.otherSystems)}
    </section>
  );
}
