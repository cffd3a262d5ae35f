import { words } from "../words";

/** For roles that see no case: auditor and monitor. */
export function NoCases() {
  const { account } = words.value;
  return (
    <section class="sheet card">
      <h1>{account.noCases}</h1>
      <p>
        {account.forPrograms} <a href="docs">{account.apiDocs}</a>.
      </p>
    </section>
  );
}
