import { useMemo } from "preact/hooks";

import type { Video } from "../api/types";
import { clock, dateTime, number, percent, words } from "../words";
import type { Lane } from "./interfaces";
import { qualityShown } from "./quality";
import { counted, stepRows } from "./step-times";
import type { Stitches } from "./stitches";
import "./summary.css";
import { token } from "./timeline/colours";

/** So many rows of steps fit on the page; the others are summed in one. */
const ROWS = 24;

interface Props {
  video: Pick<Video, "video_id" | "duration_s" | "job">;
  /** All lanes of the map, as people have corrected it. */
  lanes: Lane[];
  found: Stitches | null;
  /** What a person says the procedure is. */
  chosen?: string | null;
  /** What the map suggests, by the same rule as in the library; without it, what the map says first. */
  suggested?: string | null;
  /** Of a case of several files: how many there are, and what they say of themselves in words. */
  files?: string;
}

/**
 * A case on one printed page: it is seen on paper alone. It counts what is on the page by itself, from the lanes.
 * Proficiency stands there only where it was asked for.
 */
export function Summary({ video, lanes, found, chosen, suggested, files }: Props) {
  const { about, summary, compare, page } = words.value;
  const withQuality = qualityShown.value;
  const steps = lanes.find((lane) => lane.tag === "step");
  const rows = useMemo(() => stepRows(steps), [steps]);
  const procedure = lanes.find((lane) => lane.tag === "procedure")?.spans.find(counted);
  const { totals } = found ?? {};
  const rest = rows.slice(ROWS);
  const seconds = (value: number | null | undefined) => (value == null ? summary.unknown : summary.seconds(number(value, 1)));
  return (
    <section class="summary" aria-hidden="true">
      <h1>{about.name(video.video_id)}</h1>
      <dl>
        {chosen ? <Fact name={summary.chosen} value={chosen} /> : <Fact name={summary.procedure} value={suggested ?? procedure?.category ?? summary.unknown} />}
        <Fact name={summary.length} value={clock(video.duration_s)} />
        {files && <Fact name={summary.files} value={files} />}
        <Fact name={summary.stitches} value={totals ? number(totals.count) : summary.unknown} />
        {totals && totals.count > 0 && (
          <>
            <Fact name={summary.handling} value={seconds(totals.handling_s)} />
            <Fact name={summary.driving} value={seconds(totals.driving_s)} />
            <Fact name={summary.withdrawal} value={seconds(totals.withdrawal_s)} />
          </>
        )}
        {withQuality && totals?.high_share != null && (
          <Fact
            name={summary.high(totals.proficiency_n)}
            value={`${percent(totals.high_share)} (${percent(totals.high_low ?? 0)}–${percent(totals.high_high ?? 1)})`}
          />
        )}
      </dl>
      {steps && (
        <svg class="strip" viewBox={`0 0 ${video.duration_s} 1`} preserveAspectRatio="none">
          {steps.spans.filter(counted).map((span) => (
            <rect key={span.id} x={span.startS} width={span.stopS - span.startS} height="1" style={{ fill: `var(${token(steps, span.category)})` }} />
          ))}
        </svg>
      )}
      <table>
        <thead>
          <tr>
            <th scope="col">{compare.perStep}</th>
            <th scope="col">{summary.time}</th>
            <th scope="col">{summary.share}</th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, ROWS).map((row) => (
            <tr key={row.category}>
              <td>
                {steps && <i class="swatch" style={{ background: `var(${token(steps, row.category)})` }} />}
                {row.category} ({compare.times(row.times)})
              </td>
              <td>{clock(Math.round(row.seconds))}</td>
              <td>{percent(row.seconds / video.duration_s)}</td>
            </tr>
          ))}
          {rest.length > 0 && (
            <tr>
              <td>{summary.others(rest.length)}</td>
              <td>{clock(Math.round(rest.reduce((sum, row) => sum + row.seconds, 0)))}</td>
              <td />
            </tr>
          )}
        </tbody>
      </table>
      <footer>
        {video.job?.model_version ? page.research(video.job.model_version) : page.researchOnly} {summary.printed(dateTime(Date.now() / 1000))}
      </footer>
    </section>
  );
}

const Fact = ({ name, value }: { name: string; value: string }) => (
  <div>
    <dt>{name}</dt>
    <dd>{value}</dd>
  </div>
);
