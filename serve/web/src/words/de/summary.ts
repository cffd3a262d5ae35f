import type { Words } from "../en";

export const summary: Words["summary"] = {
  files: "Dateien",
  print: "Zusammenfassung drucken",
  procedure: "Eingriff laut Karte",
  chosen: "Eingriff",
  length: "Länge",
  stitches: "Stiche",
  handling: "Nadel fassen, Median",
  driving: "Durchstechen, Median",
  withdrawal: "Herausziehen, Median",
  high: (n) => `Hohe Güte, von ${n} beurteilten`,
  unknown: "nicht bekannt",
  seconds: (text) => `${text} s`,
  time: "Zeit",
  share: "Anteil am Video",
  others: (n) => `${n} weitere Schritte`,
  printed: (when) => `Gedruckt ${when}.`,
};
