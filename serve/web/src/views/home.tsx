import { useEffect } from "preact/hooks";

import type { Cases, Home, Moment } from "../api/cases";
import { useEvery, useResource } from "../api/resource";
import type { Job } from "../api/types";
import { Loading, Trouble } from "../components/messages";
import "../components/plain-list.css";
import { NoCaseYet } from "../home/no-case-yet";
import { Trend } from "../home/trend";
import { toCase, toLibrary } from "../router";
import { mayWrite } from "../session";
import { AddVideos } from "../upload/add-videos";
import { arrivals } from "../upload/queue";
import { clock, number, percent, words } from "../words";
import "./home.css";

const DAYS = 30;
const LOOK_EVERY_MS = 2000;

/** One's last month: how much there was, how long it took, what is worth a look, what is under way. */
export function HomeView() {
  const { home } = words.value;
  const found = useResource<Home>(`v1/home?days=${DAYS}`);
  const { data } = found;
  const isQuiet = data !== null && data.cases === 0 && data.jobs.length === 0;
  // A month without a case is not yet a site without one.
  const all = useResource<Cases>(isQuiet ? "v1/cases?limit=1" : null);
  useEvery(data?.jobs.length || found.error?.mayPass ? LOOK_EVERY_MS : 0, found.reload);
  useEffect(() => {
    if (arrivals.value) void found.reload();
  }, [arrivals.value]);
  return (
    <>
      <h1>{home.title}</h1>
      <Trouble error={found.error ?? all.error} again={found.reload} />
      {found.loading && <Loading />}
      {all.data?.total === 0 && <NoCaseYet />}
      {mayWrite.value && <AddVideos />}
      {isQuiet && all.data && all.data.total > 0 && (
        <p>
          {home.none(data.days)} <a href={toLibrary()}>{home.toLibrary}</a>
        </p>
      )}
      {data && !isQuiet && <Month data={data} />}
    </>
  );
}

function Month({ data }: { data: Home }) {
  const { home } = words.value;
  return (
    <>
      <Jobs jobs={data.jobs} />
      <section aria-labelledby="days">
        <h2 id="days">{home.days(data.days)}</h2>
        <div class="tiles">
          <Tile value={number(data.cases)} text={home.tiles.cases(data.cases)} />
          <Length hours={data.hours} />
          <Tile value={number(data.stitches)} text={home.tiles.stitches(data.stitches)} />
          <Tile value={data.high_share === null ? "–" : percent(data.high_share)} text={home.high} more={certaintyOf(data)} />
        </div>
        {data.model_versions.length > 0 && <p class="soft">{home.versions(data.model_versions.join(", "))}</p>}
      </section>
      <Moments moments={data.moments} />
      <div class="two">
        <Trend weeks={data.trend} />
        <Phases phases={data.phases} />
      </div>
    </>
  );
}

/** The interval of the share and the number of stitches that it is from; with none of them, that it says so. */
function certaintyOf(data: Home): string {
  const { home } = words.value;
  if (data.high_low === null || data.high_high === null) return home.noProficiency;
  return home.between(percent(data.high_low), percent(data.high_high), number(data.high_n));
}

/** Below an hour in minutes: a first short case is not 0 hours. */
function Length({ hours }: { hours: number }) {
  const { tiles } = words.value.home;
  if (hours >= 1 || hours === 0) return <Tile value={number(hours, 1)} text={tiles.hours} />;
  const minutes = Math.max(1, Math.round(60 * hours));
  return <Tile value={number(minutes)} text={tiles.minutes(minutes)} />;
}

const Tile = ({ value, text, more }: { value: string; text: string; more?: string }) => (
  <div class="tile">
    <b>{value}</b>
    <span>{text}</span>
    {more && <p class="soft">{more}</p>}
  </div>
);

function Jobs({ jobs }: { jobs: Job[] }) {
  const { home, about, page } = words.value;
  if (jobs.length === 0) return null;
  return (
    <section aria-labelledby="jobs">
      <h2 id="jobs">{home.jobs}</h2>
      <ul class="plain-list">
        {jobs.map((job) => {
          const share = job.total_s ? job.done_s / job.total_s : 0;
          const name = about.name(job.video_id);
          const text = job.state === "queued" ? about.states.queued : percent(share);
          const title = job.kind === "clean" ? home.cleaningOf(name) : home.jobOf(name);
          return (
            <li key={job.job_id}>
              <a href={toCase(job.video_id)}>{title}</a>{" "}
              <span class="soft">{job.eta_s === null ? text : `${text}, ${page.left(job.eta_s)}`}</span>
              <progress max={1} value={share} aria-label={title} />
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function Moments({ moments }: { moments: Moment[] }) {
  const { home, about, review } = words.value;
  if (moments.length === 0) return null;
  return (
    <section aria-labelledby="moments">
      <h2 id="moments">{home.moments}</h2>
      <ul class="moments">
        {moments.map((moment) => (
          <li key={`${moment.why} ${moment.video_id} ${moment.start_s}`} class="card">
            <p class="soft">{home.why[moment.why] ?? moment.why}</p>
            <a href={toCase(moment.video_id, moment.start_s)}>{moment.category}</a>
            <p class="soft numbers">
              {review.tags[moment.tag] ?? moment.tag} · {about.name(moment.video_id)}, {clock(moment.start_s)}–{clock(moment.stop_s)}
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Phases({ phases }: { phases: Home["phases"] }) {
  const { home } = words.value;
  if (phases.length === 0) return null;
  return (
    <section aria-labelledby="phases">
      <h2 id="phases">{home.phases}</h2>
      <table>
        <thead>
          <tr>
            <th scope="col">{home.phase}</th>
            <th scope="col">{home.median}</th>
            <th scope="col">{home.count}</th>
          </tr>
        </thead>
        <tbody>
          {phases.map((phase) => (
            <tr key={phase.category}>
              <td>{phase.category}</td>
              <td>{home.seconds(number(phase.median_s, 1))}</td>
              <td>{number(phase.n)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
