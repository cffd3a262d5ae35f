/** English: the first administrator, keys, roles without a case, the model, and the home view. */
export const setup = {
  title: "The first administrator of this site",
  tenant: "Hospital or department, in short",
  tenantHint: "Lower-case letters, digits and dashes, such as north",
  user: "Your user name",
  submit: "Set up",
  done: "Your key is shown only now. Keep it where you keep passwords:",
  goOn: "Go on to the cases",
};

export const account = {
  newKey: "New key",
  title: "A new key",
  ends: (day: string) => `Your key is valid until ${day}.`,
  means: "A new key takes its place. The old one stays valid for a day, so that programs can change over.",
  make: "Make a new key",
  made: "It is shown only now. Keep it where you keep passwords:",
  noCases: "Your role sees no case.",
  roles: { admin: "administrator", surgeon: "surgeon", trainee: "trainee", reviewer: "reviewer", annotator: "annotator", auditor: "auditor", monitor: "monitor" } as Record<string, string>,
  forPrograms: "What it may read is for programs: see",
  apiDocs: "the description of the service",
};

export const model = {
  about: "About the model: what it was taught, and what it is not for",
  noCard: "The model has no description.",
  /** A task as people read it: the part of an operation that it maps. */
  tasks: {
    macro: "procedure and steps",
    micro: "dissection",
    proficiency: "suturing",
    context: "needle driving",
  } as Record<string, string>,
  /** What the service is asked, as people read it. */
  instructions: {
    "map procedure type": "procedure and steps",
    "map dissection activity": "dissection",
    "map suturing activity": "suturing",
    "map needle driving activity": "needle driving",
  } as Record<string, string>,
};

export const home = {
  title: "Home",
  days: (days: number) => `The last ${days} days`,
  cases: "cases",
  hours: "hours of video",
  stitches: "stitches",
  tiles: {
    cases: (n: number): string => (n === 1 ? "case" : "cases"),
    hours: "hours of video",
    minutes: (n: number): string => (n === 1 ? "minute of video" : "minutes of video"),
    stitches: (n: number): string => (n === 1 ? "stitch" : "stitches"),
  },
  high: "stitches of high proficiency",
  between: (low: string, high: string, n: string) => `95% interval ${low} to ${high}, from ${n} ${n === "1" ? "stitch" : "stitches"}`,
  noProficiency: "No stitch was judged in this time.",
  versions: (names: string) => `Model ${names}`,
  phases: "Median time per phase of a stitch",
  phase: "Phase",
  median: "Median",
  count: "Number",
  seconds: (value: string) => `${value} s`,
  trend: "From week to week",
  trendOf: "Shown",
  trendText: (what: string, weeks: string) => `${what} from week to week: ${weeks}`,
  trendTable: "As a table",
  week: "Week of",
  moments: "Worth a look",
  why: {
    "least sure": "The model is least sure here",
    longest: "The longest",
    "unlike the others": "Unlike the others",
  } as Record<string, string>,
  watch: "Watch",
  jobs: "Under way",
  jobOf: (name: string) => `Map of ${name}`,
  cleaningOf: (name: string) => `Cleaning of ${name}`,
  emptyTitle: "There is no case yet",
  empty: "Add a video of an operation. The service cleans it as your site has set, then maps it: steps, instruments, stitches.",
  sample: "Try it with a sample case",
  sampleMeans: "The sample is a drawn operation of a minute. It shows no patient.",
  sampleComes: "The sample is being drawn. Its case opens by itself, within a minute.",
  none: (days: number) => `No case was added in the last ${days} days.`,
  toLibrary: "All cases",
};
