import "./secret.css";

/** A text that is shown once, such as a key: one click selects the whole of it. */
export const Secret = ({ text }: { text: string }) => (
  <p>
    <code class="secret">{text}</code>
  </p>
);
