import type { Quartiles, TrendCase } from "../api/trend";
import { day, words } from "../words";
import { type Measure, changes, runs } from "./measures";
import "./mine.css";

const [WIDTH, HEIGHT] = [680, 240];
/** Room for the scale at the left, and for days and the marks of other models at the foot. */
const [LEFT, FOOT, HEAD] = [64, 34, 18];
const SPACE = 1.1;

/** A value per case, in the order of the days; the band is what is usual for others. The table beside it says the same. */
export function CasePlot({ cases, measure, usual }: { cases: TrendCase[]; measure: Measure; usual: Quartiles | undefined }) {
  const { mine } = words.value;
  const values = cases.map(measure.of);
  const known = values.flatMap((one) => (one ? [one.high ?? one.value] : []));
  const most = measure.most ?? Math.max(1e-9, ...known, usual?.high ?? 0) * SPACE;
  const x = (index: number) => LEFT + ((index + 0.5) / cases.length) * (WIDTH - LEFT);
  const y = (value: number) => HEIGHT - FOOT - (value / most) * (HEIGHT - FOOT - HEAD);
  const breaks = measure.byModel ? changes(cases) : [];
  const inWords = cases.map((one, index) => `${day(one.day)} ${values[index] ? measure.write(values[index].value) : mine.notCompared}`).join("; ");
  return (
    <svg class="case-plot" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={mine.plotText(measure.name, inWords)}>
      {usual && (
        <g class="usual">
          <rect x={LEFT} width={WIDTH - LEFT} y={y(usual.high)} height={Math.max(1, y(usual.low) - y(usual.high))} />
          <line x1={LEFT} x2={WIDTH} y1={y(usual.median)} y2={y(usual.median)} />
        </g>
      )}
      {[0, 0.5, 1].map((share) => (
        <g key={share} class="scale">
          <line x1={LEFT} x2={WIDTH} y1={y(share * most)} y2={y(share * most)} />
          <text x={LEFT - 6} y={y(share * most) + 4} text-anchor="end">
            {measure.write(share * most)}
          </text>
        </g>
      ))}
      {breaks.map(([index, text]) => (
        <g key={index} class="break">
          <line x1={x(index - 0.5)} x2={x(index - 0.5)} y1={HEAD - 6} y2={HEIGHT - FOOT} />
          <text x={x(index - 0.5)} y={HEAD - 8} text-anchor={index > cases.length / 2 ? "end" : "start"}>
            {text}
          </text>
        </g>
      ))}
      {runs(values).map((run) => (
        <polyline key={run[0]![0]} points={run.map(([index, { value }]) => `${x(index)},${y(value)}`).join(" ")} />
      ))}
      {cases.map((one, index) => {
        const its = values[index];
        if (!its) return <text key={one.case_id} class="none" x={x(index)} y={HEIGHT - FOOT - 3} text-anchor="middle">×</text>;
        return (
          <g key={one.case_id}>
            {its.low !== undefined && its.high !== undefined && <line class="interval" x1={x(index)} x2={x(index)} y1={y(its.low)} y2={y(its.high)} />}
            <circle cx={x(index)} cy={y(its.value)} r={4} class={one.complete ? undefined : "incomplete"} />
          </g>
        );
      })}
      {cases.length > 0 && (
        <text x={LEFT} y={HEIGHT - 6}>
          {day(cases[0]!.day)}
        </text>
      )}
      {cases.length > 1 && (
        <text x={WIDTH} y={HEIGHT - 6} text-anchor="end">
          {day(cases.at(-1)!.day)}
        </text>
      )}
    </svg>
  );
}
