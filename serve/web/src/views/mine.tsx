import { useState } from "preact/hooks";

import { useResource } from "../api/resource";
import type { Cohort, OwnTrend } from "../api/trend";
import { Choice } from "../components/choice";
import { Loading, Trouble } from "../components/messages";
import { CasePlot } from "../mine/case-plot";
import { CaseTable } from "../mine/case-table";
import { measuresOf } from "../mine/measures";
import { Usual } from "../mine/usual";
import { replace, toMine } from "../router";
import { number, words } from "../words";

/** What is looked at, as it stands in the address. Empty: what the service chooses, and the length. */
interface Wanted {
  procedure: string;
  since: string;
  until: string;
  model_version: string;
  measure: string;
}

const NAMES = ["procedure", "since", "until", "model_version", "measure"] as const;

const asked = (wanted: Wanted): string => {
  const query = new URLSearchParams(Object.entries(wanted).filter(([name, value]) => value && name !== "measure")).toString();
  return query && `?${query}`;
};

const isEmpty = (trend: OwnTrend): boolean => trend.procedures.length === 0 && trend.cases.length === 0;

/** One's own cases of one procedure, one after another. Of nobody else: there is no such view of a colleague. */
export function Mine({ query }: { query: URLSearchParams }) {
  const { mine } = words.value;
  const [wanted, setWanted] = useState<Wanted>(() => Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""])) as unknown as Wanted);
  const { data, error, loading, reload } = useResource<OwnTrend>(`v1/home/trend${asked(wanted)}`);
  const set = (changed: Partial<Wanted>) => {
    const next = { ...wanted, ...changed };
    setWanted(next);
    replace(toMine({ ...next }));
  };
  return (
    <article aria-labelledby="mine-title">
      <h1 id="mine-title">{mine.title}</h1>
      <p class="soft">{mine.about}</p>
      <Trouble error={error} again={reload} />
      {loading && <Loading />}
      {data && isEmpty(data) && <p>{mine.none}</p>}
      {data && !isEmpty(data) && <Chosen trend={data} wanted={wanted} set={set} />}
    </article>
  );
}

function Chosen({ trend, wanted, set }: { trend: OwnTrend; wanted: Wanted; set: (changed: Partial<Wanted>) => void }) {
  const { mine } = words.value;
  const procedure = trend.procedure ?? "";
  const measures = measuresOf(trend);
  const measure = measures.find((one) => one.key === wanted.measure) ?? measures[0]!;
  const cohort = useResource<Cohort>(procedure ? `v1/home/cohort?${new URLSearchParams({ procedure })}` : null).data;
  const found = cohort?.state === "shown" ? cohort.quartiles.find(measure.quartiles) : undefined;
  const usual = measure.byModel && cohort?.model_version !== trend.model_version ? undefined : found;
  const csv = new URLSearchParams(asked(wanted));
  csv.set("format", "csv");
  return (
    <>
      <div class="row mine-choices">
        {trend.procedures.length > 0 && (
          <Choice
            id="mine-procedure"
            label={mine.procedure}
            value={procedure}
            onChange={(value) => set({ procedure: value, model_version: "" })}
            options={trend.procedures.map((one): [string, string] => [one.procedure, mine.ofCases(one.procedure, number(one.cases))])}
          />
        )}
        <Choice id="mine-measure" label={mine.measure} value={measure.key} onChange={(value) => set({ measure: value })} options={measures.map((one): [string, string] => [one.key, one.name])} />
        <Day id="mine-since" label={mine.since} value={wanted.since} onChange={(since) => set({ since })} />
        <Day id="mine-until" label={mine.until} value={wanted.until} onChange={(until) => set({ until })} />
        {trend.model_versions.length > 1 && (
          <Choice
            id="mine-model"
            label={mine.model}
            value={trend.model_version ?? ""}
            onChange={(value) => set({ model_version: value })}
            options={trend.model_versions.flatMap((one): [string, string][] => (one.model_version === null ? [] : [[one.model_version, one.model_version]]))}
          />
        )}
      </div>
      {trend.cases.length === 0 ? (
        <p>{mine.noneThen}</p>
      ) : (
        <section aria-labelledby="mine-measured">
          <h2 id="mine-measured">{measure.name}</h2>
          <CasePlot cases={trend.cases} measure={measure} usual={usual} />
          {cohort && <Usual cohort={cohort} measure={measure} usual={found} version={trend.model_version} />}
          <LeftOut trend={trend} byModel={measure.byModel} />
          <CaseTable cases={trend.cases} measure={measure} />
          <p class="soft row">
            <a href={`v1/home/trend?${csv}`} download>
              {mine.csv}
            </a>
            {trend.model_version && <span>{mine.version(trend.model_version)}</span>}
          </p>
        </section>
      )}
    </>
  );
}

/** What is not in the trend, counted: nothing is left out in silence. */
function LeftOut({ trend, byModel }: { trend: OwnTrend; byModel: boolean }) {
  const { mine } = words.value;
  const others = trend.model_versions.filter((one) => one.model_version !== trend.model_version);
  const said = [
    ...(byModel ? others.map((one) => mine.otherCases(number(one.cases), one.model_version)) : []),
    ...(byModel && trend.unmapped ? [mine.unmappedCases(number(trend.unmapped))] : []),
    ...(trend.with_others ? [mine.withOthers(number(trend.with_others))] : []),
    ...(trend.unnamed ? [mine.unnamed(number(trend.unnamed))] : []),
    ...(trend.earlier ? [mine.earlier(number(trend.earlier))] : []),
  ];
  return said.length > 0 ? <p class="notice">{said.join(" ")}</p> : null;
}

function Day({ id, label, value, onChange }: { id: string; label: string; value: string; onChange: (value: string) => void }) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="date" value={value} onChange={(event) => onChange(event.currentTarget.value)} />
    </div>
  );
}
