import type { ComponentChildren } from "preact";

/** A button with the key that does the same. `hint`: what it does, in a sentence. */
export function DeedButton({ keyName, shown = keyName, hint, disabled, plain = true, submits = false, onClick, children }: {
  keyName: string;
  shown?: string;
  hint?: string;
  disabled?: boolean;
  plain?: boolean;
  /** Sends the form that it is in. */
  submits?: boolean;
  onClick?: () => void;
  children: ComponentChildren;
}) {
  return (
    <button type={submits ? "submit" : "button"} class={plain ? "plain small" : "small"} title={hint} disabled={disabled} aria-keyshortcuts={keyName.replace("Ctrl", "Control")} onClick={onClick}>
      {children} <kbd aria-hidden="true">{shown}</kbd>
    </button>
  );
}
