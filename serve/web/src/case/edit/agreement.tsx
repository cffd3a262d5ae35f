import { useState } from "preact/hooks";

import { useResource } from "../../api/resource";
import { Loading, Trouble } from "../../components/messages";
import { number, words } from "../../words";
import { laneName } from "../describe";

/** How far two people agree on a lane. `n`: seconds that both have looked at; null where it is not defined. */
interface Pair {
  one_name: string;
  other_name: string;
  tag: string;
  kappa: number | null;
  boundary_error_s: number | null;
  n: number;
}

/** The agreement between people, in numbers and in words. It is asked for only when it is opened. */
export function Agreement({ path, revision }: { path: string; revision: number }) {
  const { edit: text } = words.value;
  const [isOpen, setOpen] = useState(false);
  return (
    <details class="part" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{text.agreement}</summary>
      {isOpen && <Pairs key={revision} path={path} />}
    </details>
  );
}

function Pairs({ path }: { path: string }) {
  const { data, error, loading, reload } = useResource<{ pairs: Pair[] }>(`${path}/agreement`);
  if (loading) return <Loading />;
  if (!data) return <Trouble error={error} again={reload} />;
  return data.pairs.length ? <Table pairs={data.pairs} /> : <p class="soft">{words.value.edit.noAgreement}</p>;
}

function Table({ pairs }: { pairs: Pair[] }) {
  const { edit: text } = words.value;
  const none = words.value.suturing.noValue;
  return (
    <>
      <p class="soft">{text.agreementHint}</p>
      <div class="scroll" role="region" aria-label={text.agreement} tabIndex={0}>
        <table>
          <thead>
            <tr>
              {[text.pair, text.lane, text.kappa, text.ends, text.frames].map((heading) => (
                <th key={heading} scope="col">
                  {heading}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {pairs.map((pair) => (
              <tr key={`${pair.one_name} ${pair.other_name} ${pair.tag}`}>
                <th scope="row">{text.and(pair.one_name, pair.other_name)}</th>
                <td>{laneName(pair.tag)}</td>
                <td>{pair.kappa === null ? none : `${number(pair.kappa, 2)} (${text.kappaWords(pair.kappa)})`}</td>
                <td>{pair.boundary_error_s === null ? none : text.seconds(number(pair.boundary_error_s, 1))}</td>
                <td>{number(pair.n)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
