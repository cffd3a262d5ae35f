import { useState } from "preact/hooks";

import { api } from "../api/client";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { because, Trouble } from "../components/messages";
import { tasks } from "../model";
import { linked, mayWrite } from "../session";
import { clock, date, dateTime, percent, size, words } from "../words";
import "./about.css";
import { DeleteFile, type FileInCase } from "./delete";
import { HiddenParts } from "./hidden";

interface Props {
  video: Video;
  /** Asks the service for the case anew. */
  reload: () => Promise<void>;
}

/** The state of a case in words, what was done to its video before it was stored, mapping it again, deleting it. */
export function About({ video, file = null, reload }: Props & { file?: FileInCase | null }) {
  const { about } = words.value;
  const { rights } = video;
  const isWithdrawn = video.consent === "withdrawn" && !rights.includes("watch");
  return (
    <section class="about card" aria-label={about.title}>
      {isWithdrawn && (
        <p class="notice warn" role="status">
          {about.withdrawn(video.keep_until_s ? date(video.keep_until_s) : null)}
        </p>
      )}
      <p class="soft">{factsOf(video)}</p>
      {/* Whoever looks by a link learns neither of jobs nor of the cleaning. */}
      {!linked.value && <State video={video} reload={reload} />}
      {!linked.value && <Cleaned video={video} reload={reload} />}
      <div class="row">
        {rights.includes("map") && isMappedBefore(video) && <MapAgain video={video} reload={reload} />}
        {rights.includes("delete") && <DeleteFile video={video} facts={factsOf(video)} file={file} />}
      </div>
    </section>
  );
}

/** Whether a map has ended, and none is under way: before that there is nothing to do again. */
const isMappedBefore = ({ state, job }: Video): boolean =>
  !["cleaning", "failed"].includes(state) && job != null && !["queued", "running"].includes(job.state);

export const factsOf = (video: Video): string =>
  words.value.about.facts(
    dateTime(video.created_s),
    clock(video.duration_s),
    `${video.width}×${video.height}`,
    size(video.size_bytes),
  );

/** The state of the newest job, with the buttons that apply to it. */
function State({ video, reload }: Props) {
  const { about, page } = words.value;
  const { states } = about;
  const action = useAction(async (path: string, json?: unknown) => {
    await api(path, { method: "POST", json });
    await reload();
  });
  const mayMap = mayWrite.value && video.rights.includes("map");
  const ask = (text: string, plain = false) =>
    mayMap && (
      <button
        type="button"
        class={plain ? "plain" : ""}
        disabled={action.busy}
        onClick={() => void action.run(`v1/videos/${video.video_id}/maps`, {})}
      >
        {text}
      </button>
    );
  const { job, cleaning_job: cleaning } = video;
  const shareOf = (one: { done_s: number; total_s: number }) => (one.total_s ? one.done_s / one.total_s : 0);
  let shown;
  if (video.state === "failed") shown = <span class="failed">{states.failed(because(video))}</span>;
  else if (video.state === "cleaning") {
    const share = cleaning ? shareOf(cleaning) : 0;
    shown = (
      <>
        <span>{cleaning?.state === "running" ? states.cleaningAt(percent(share)) : states.cleaning}</span>
        <progress max={1} value={share} aria-label={about.cleaningProgress} />
      </>
    );
  } else if (!job || job.state === "cancelled")
    shown = (
      <>
        <span>{job ? states.stopped : states.new}</span>
        {ask(about.map)}
      </>
    );
  else if (job.state === "failed")
    shown = (
      <>
        <span class="failed">{states.mapFailed(because(job))}</span>
        {ask(about.again, true)}
      </>
    );
  else if (job.state === "done") shown = <span>{job.outcome === "partial" ? states.partial : states.mapped}</span>;
  else {
    const text = job.state === "queued" ? states.queued : states.mapping(percent(shareOf(job)));
    shown = (
      <>
        <span>{job.eta_s === null ? text : `${text}, ${page.left(job.eta_s)}`}</span>
        {mayMap && (
          <button
            type="button"
            class="plain"
            disabled={action.busy}
            onClick={() => void action.run(`v1/jobs/${job.job_id}/cancel`)}
          >
            {about.stop}
          </button>
        )}
        <progress max={1} value={shareOf(job)} aria-label={about.progress} />
      </>
    );
  }
  return (
    <>
      <Trouble error={action.error} />
      <div class="row state">{shown}</div>
    </>
  );
}

/** What was done to the video before it was stored, with its certificate; where something was hidden, a button. */
function Cleaned({ video, reload }: Props) {
  const { about } = words.value;
  const action = useAction(async () => {
    await api(`v1/videos/${video.video_id}/certificate/accept`, { method: "POST" });
    await reload();
  });
  if (video.state === "cleaning" || video.state === "failed") return null;
  if (!video.cleaning) return <p class="soft">{about.notCleaned}</p>;
  const { spans, boxes, removed, level } = video.cleaning;
  const found = [
    ...(spans ? [about.spans(spans)] : []),
    ...(boxes ? [about.boxes(boxes)] : []),
    ...(removed.length ? [about.removed(removed.map((kind) => about.kinds[kind] ?? kind).join(", "))] : []),
  ];
  const isOpen = video.state === "review";
  return (
    <div class={isOpen ? "notice warn" : undefined}>
      <Trouble error={action.error} />
      <p class="soft row">
        <span>
          {about.cleaned(found.join(", ") || about.nothingFound)} {level !== "full" ? about.pictureNot : !spans && !boxes && about.pictureClean}
        </span>
        <a href={`v1/videos/${video.video_id}/certificate`} download={`${video.video_id}-certificate.json`}>
          {about.certificate}
        </a>
      </p>
      {spans + boxes > 0 && video.rights.includes("watch") && <HiddenParts video={video} count={spans + boxes} />}
      {isOpen && video.rights.includes("map") && (
        <p>
          <button type="button" class="small" disabled={action.busy} onClick={() => void action.run()}>
            {about.accept}
          </button>
        </p>
      )}
    </div>
  );
}

function MapAgain({ video, reload }: Props) {
  const { about, upload } = words.value;
  const [instruction, setInstruction] = useState("");
  const action = useAction(async () => {
    const json = instruction ? { instruction } : {};
    await api(`v1/videos/${video.video_id}/maps`, { method: "POST", json });
    await reload();
  });
  return (
    <form
      class="row"
      aria-label={about.mapAgain}
      onSubmit={(event) => {
        event.preventDefault();
        void action.run();
      }}
    >
      <Trouble error={action.error} />
      <label for="map-again">{about.mapAgain}</label>
      <select
        id="map-again"
        aria-label={about.task}
        value={instruction}
        onChange={(event) => setInstruction(event.currentTarget.value)}
      >
        <option value="">{upload.everything}</option>
        {tasks.value.map(([asked, text]) => (
          <option key={asked} value={asked}>
            {text}
          </option>
        ))}
      </select>
      <button disabled={action.busy}>{about.start}</button>
    </form>
  );
}
