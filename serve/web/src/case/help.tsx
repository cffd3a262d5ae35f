import { Dialog } from "../components/dialog";
import { singleKeys, switchSingleKeys } from "../components/keys";
import { words } from "../words";

/** The list of keys, and the switch for single ones. */
export function Help({ onClose }: { onClose: () => void }) {
  const { review, page } = words.value;
  return (
    <Dialog title={review.help.title} onClose={onClose}>
      <label class="switch">
        <input type="checkbox" checked={singleKeys.value} onChange={(event) => switchSingleKeys(event.currentTarget.checked)} />
        <span>{review.help.everywhere}</span>
      </label>
      <table class="keys">
        <tbody>
          {review.help.rows.map(([keys, what]) => (
            <tr key={keys}>
              <th scope="row">
                <kbd>{keys}</kbd>
              </th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="soft">{review.help.near}</p>
      <p class="row">
        <button type="button" onClick={onClose}>
          {page.close}
        </button>
      </p>
    </Dialog>
  );
}
