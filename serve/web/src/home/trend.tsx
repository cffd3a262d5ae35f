import { useState } from "preact/hooks";

import type { Home } from "../api/cases";
import { Choice } from "../components/choice";
import { day, number, percent, words } from "../words";
import "./trend.css";

type Kind = "cases" | "hours" | "stitches" | "high_share";

const WIDTH = 640;
const HEIGHT = 140;
const GAP = 4;
const WIDEST = 48;
/** Room under the bars for the first and the last week. */
const FOOT = 20;
/** Room over the bars for the number of the highest. */
const HEAD = 26;

/** How much there was in each week, as bars, in words for who does not see them, and as a table. */
export function Trend({ weeks }: { weeks: Home["trend"] }) {
  const { home } = words.value;
  const [kind, setKind] = useState<Kind>("cases");
  if (weeks.length === 0) return null;
  const names: Record<Kind, string> = { cases: home.cases, hours: home.hours, stitches: home.stitches, high_share: home.high };
  const write = (value: number | null) =>
    value === null ? "–" : kind === "high_share" ? percent(value) : number(value, kind === "hours" ? 1 : 0);
  const most = kind === "high_share" ? 1 : Math.max(1, ...weeks.map((week) => week[kind] ?? 0));
  const wide = WIDTH / weeks.length;
  const inWords = weeks.map((week) => `${day(week.week)} ${write(week[kind])}`).join("; ");
  return (
    <section aria-labelledby="trend">
      <h2 id="trend">{home.trend}</h2>
      <Choice
        id="trend-of"
        label={home.trendOf}
        value={kind}
        onChange={(value) => setKind(value as Kind)}
        options={Object.entries(names)}
      />
      <svg class="trend" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={home.trendText(names[kind], inWords)}>
        <line x1="0" x2={WIDTH} y1={HEIGHT - FOOT} y2={HEIGHT - FOOT} />
        {weeks.map((week, index) => {
          const bar = Math.min(wide - GAP, WIDEST);
          const height = ((week[kind] ?? 0) / most) * (HEIGHT - FOOT - HEAD);
          const left = index * wide + (wide - bar) / 2;
          return (
            <g key={week.week}>
              <rect x={left} y={HEIGHT - FOOT - height} width={Math.max(1, bar)} height={height} />
              <text x={left + bar / 2} y={HEIGHT - FOOT - height - 5} text-anchor="middle">
                {write(week[kind])}
              </text>
            </g>
          );
        })}
        <text x="0" y={HEIGHT - 4}>
          {day(weeks[0]!.week)}
        </text>
        {weeks.length > 1 && (
          <text x={WIDTH} y={HEIGHT - 4} text-anchor="end">
            {day(weeks.at(-1)!.week)}
          </text>
        )}
      </svg>
      <details>
        <summary>{home.trendTable}</summary>
        <div class="scroll" tabIndex={0} role="region" aria-label={home.trendTable}>
          <table>
            <thead>
              <tr>
                <th scope="col">{home.week}</th>
                {Object.values(names).map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {weeks.map((week) => (
                <tr key={week.week}>
                  <td>{day(week.week)}</td>
                  <td>{number(week.cases)}</td>
                  <td>{number(week.hours, 1)}</td>
                  <td>{number(week.stitches)}</td>
                  <td>{week.high_share === null ? "–" : percent(week.high_share)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}
