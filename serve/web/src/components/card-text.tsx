/** A model's card as people read it: the few parts of Markdown that cards are made of. What else it holds stays text. */
import type { ComponentChildren } from "preact";

/** `text`: blocks between empty lines. No block becomes markup of its own, so a card can't bring a script or a link. */
export function CardText({ text }: { text: string }) {
  const blocks = text.trim().split(/\n[ \t]*\n/);
  return <>{blocks.map((block, n) => <Block key={n} lines={block.split("\n")} />)}</>;
}

function Block({ lines }: { lines: string[] }) {
  const [first = "", ...rest] = lines;
  const heading = /^#{1,6} +(.*)$/.exec(first);
  if (heading)
    return (
      <>
        <h2>{inline(heading[1]!)}</h2>
        {rest.length > 0 && <Block lines={rest} />}
      </>
    );
  if (lines.length > 1 && isRow(first) && /^[|\s:-]+$/.test(rest[0]!)) return <Table head={first} rows={rest.slice(1).filter(isRow)} />;
  if (/^[-*] /.test(first)) return <ul>{itemsOf(lines).map((item, n) => <li key={n}>{inline(item)}</li>)}</ul>;
  return <p>{inline(lines.join(" "))}</p>;
}

const isRow = (line: string): boolean => line.trim().startsWith("|");
const cellsOf = (line: string): string[] => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function Table({ head, rows }: { head: string; rows: string[] }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={cellsOf(head).join(", ")}>
      <table>
        <thead>
          <tr>{cellsOf(head).map((cell, n) => <th key={n} scope="col">{inline(cell)}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row, n) => (
            <tr key={n}>{cellsOf(row).map((cell, m) => <td key={m}>{inline(cell)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A line that begins no item goes on with the one before. */
function itemsOf(lines: string[]): string[] {
  const items: string[] = [];
  for (const line of lines) {
    if (/^[-*] /.test(line)) items.push(line.slice(2));
    else items.push(`${items.pop() ?? ""} ${line.trim()}`);
  }
  return items;
}

/** Code between backticks and bold between two stars. */
const inline = (text: string): ComponentChildren[] =>
  text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part, n) => {
    if (/^`.+`$/.test(part)) return <code key={n}>{part.slice(1, -1)}</code>;
    return /^\*\*.+\*\*$/.test(part) ? <b key={n}>{part.slice(2, -2)}</b> : part;
  });
