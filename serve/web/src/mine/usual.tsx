import type { Cohort, Quartiles } from "../api/trend";
import { day, number, words } from "../words";
import type { Measure } from "./measures";

/** What is usual for the cases of others, in words: the band of the plot, or why there is none. */
export function Usual({ cohort, measure, usual, version }: { cohort: Cohort; measure: Measure; usual: Quartiles | undefined; version: string | null }) {
  const { mine } = words.value;
  if (cohort.state === "off" || cohort.state === "none of yours") return null;
  if (cohort.state === "too few") return <p class="soft">{mine.tooFew(cohort.least_cases, cohort.least_surgeons, cohort.missing_at_most ?? 0)}</p>;
  if (!usual) return <p class="soft">{mine.noUsual}</p>;
  if (measure.byModel && cohort.model_version !== version) return <p class="soft">{mine.otherModel(cohort.model_version ?? "")}</p>;
  return (
    <p>
      {mine.usual(number(usual.cases), measure.write(usual.low), measure.write(usual.median), measure.write(usual.high))}{" "}
      <span class="soft">{mine.usualMeans(day(cohort.day!))}</span>
    </p>
  );
}
