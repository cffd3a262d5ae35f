import type { TrendCase } from "../api/trend";
import { toCase } from "../router";
import { day, number, words } from "../words";
import type { Measure } from "./measures";

/** The same as the plot, in rows: day, value with its interval and number, model. */
export function CaseTable({ cases, measure }: { cases: TrendCase[]; measure: Measure }) {
  const { mine, about } = words.value;
  const values = cases.map(measure.of);
  const [hasInterval, hasNumber] = [values.some((one) => one?.low !== undefined), values.some((one) => one?.n !== undefined)];
  return (
    <div class="scroll mine-table" tabIndex={0} role="region" aria-label={mine.table}>
      <table>
        <thead>
          <tr>
            <th scope="col">{mine.day}</th>
            <th scope="col">{mine.case}</th>
            <th scope="col">{measure.name}</th>
            {hasInterval && <th scope="col">{mine.interval}</th>}
            {hasNumber && <th scope="col">{mine.number}</th>}
            <th scope="col">{mine.model}</th>
          </tr>
        </thead>
        <tbody>
          {cases.map((one, index) => {
            const its = values[index];
            return (
              <tr key={one.case_id}>
                <td>{day(one.day)}</td>
                <td>
                  <a href={toCase(one.video_id)}>{about.name(one.video_id)}</a>
                </td>
                <td>
                  {its ? measure.write(its.value) : one.figures || !measure.byModel ? mine.notKnown : mine.notCompared}
                  {!one.complete && its && <span class="soft"> {mine.incomplete}</span>}
                </td>
                {hasInterval && <td>{its?.low === undefined ? "" : mine.between(measure.write(its.low), measure.write(its.high!))}</td>}
                {hasNumber && <td>{its?.n === undefined ? "" : number(its.n)}</td>}
                <td>{one.model_versions.join(" + ") || mine.unmapped}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
