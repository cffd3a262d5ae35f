import type { Words } from "../en";

export const summary: Words["summary"] = {
  files: "Dateien",
  print: "Zusammenfassung drucken",
  procedure: "Eingriff laut Karte",
  chosen: "Eingriff",
  length: "Länge",
  stitches: "Stiche",
  handling: "Nadelführung, Median",
  driving: "Durchstechen, Median",
  withdrawal: "Ausziehen, Median",
  high: (n) => `Hohe Güte, von ${n} beurteilten`,
  unknown: "nicht bekannt",
  seconds: (text) => `${text} s`,
  time: "Zeit",
  share: "Vom Video",
  others: (n) => `${n} weitere Schritte`,
  printed: (when) => `Gedruckt ${when}.`,
};
