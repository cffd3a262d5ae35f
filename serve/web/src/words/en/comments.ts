export const comments = {
  title: "Comments",
  none: "Nobody has written anything yet.",
  goTo: (time: string) => `Go to ${time}`,
  write: (time: string) => `Comment at ${time}`,
  hint: "Everybody who may watch this case reads it. Write no name, date of birth or record number.",
  add: "Add the comment",
  remove: "Delete",
  removeOf: (who: string, time: string) => `Delete the comment of ${who} at ${time}`,
  sure: (who: string, time: string) => `Delete what ${who} wrote at ${time}? It cannot be brought back.`,
  warning: (what: string) => `Your comment was added. Please look at it again, and delete it if it names a patient: ${what}`,
};
