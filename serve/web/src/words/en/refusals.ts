import { size } from "..";

/** What a sentence about a refusal names, as the service gives it. */
export type Values = Record<string, string | number>;
export type Sentence = (values: Values) => string;

const closed = "A map that was made with other words than those of today can't be used. Map the case again.";
const parts = "The file did not arrive whole. Send it again: it goes on where it ended.";

/** What a person reads where the service refuses, by the code of the refusal. */
export const refusals: Record<string, Sentence> = {
  "annotations-full": ({ most }) => `A case takes at most ${most} corrections, and this one has them.`,
  "annotations-full-own": ({ most }) => `You have made ${most} corrections on this case, which is as many as one person may.`,
  "annotations-newer": () => "What people said about this case is newer than what you see. Load the page again.",
  "atlas-consent": () => "The patient's consent is withdrawn, so nothing of this case is used for teaching a model.",
  "atlas-nothing": () => "Nobody has corrected the map of this case yet. Correct it first.",
  "being-cleaned": () => "The video is still being cleaned. Wait until it is done.",
  "body-large": () => "This is more than the service takes at once. Make it shorter, or send it in parts.",
  "case-changed": () => "The files of this case have just changed. Load the page again.",
  "category-unknown": ({ tag, category }) => `“${category}” is no category of “${tag}”. Choose one from the list.`,
  "clip-damaged": () => "This part of the video is damaged, so no clip can be made of it. Choose another part.",
  "clip-long": ({ most }) => `A clip lasts at most ${most} seconds. Choose a shorter part.`,
  "comment-length": ({ most }) => `A comment has 1 to ${most} characters. Make it shorter.`,
  "comment-not-yours": () => "A comment is deleted by who wrote it, by the owner of the case, or by an administrator.",
  "comment-time": () => "This moment is not in the video. Choose another one.",
  "comments-full": ({ most }) => `This case has ${most} comments, and takes no more. Delete some first.`,
  "comments-full-own": ({ most }) => `You have ${most} comments on this case, which is as many as one person may. Delete some first.`,
  "copy-not-needed": () => "The browser can play this file as it is, or by the copy that there is.",
  "copy-not-ready": () => "A copy for browsers is made once the video is cleaned.",
  "day-invalid": () => "This is no day. Choose it in the calendar.",
  "day-outside": () => "The day of the operation can't lie in the future, nor so far in the past.",
  "files-many": ({ most }) => `A case has at most ${most} files, and each of them once.`,
  "hold-cleaning": () => "This case is under a legal hold. Without its cleaning its video would be lost, so the cleaning goes on.",
  "keep-fixed": () => "The patient's consent is withdrawn, so the day on which the case is deleted is fixed.",
  "keep-passed": () => "That day has passed. Choose a later one; to remove the case now, delete it.",
  "key-invalid": () => "This key is not valid. Look whether it is whole, or ask your administrator for a new one.",
  "labels-many": ({ most }) => `A case has at most ${most} labels. Remove some.`,
  "legal-hold": () => "This case is under a legal hold, so it can't be deleted. An administrator ends the hold first.",
  "link-days": ({ most }) => `A link lasts at most ${most} days. Choose a shorter time.`,
  "link-ended": () => "This link has ended, or it is not whole. Ask whoever sent it for a new one.",
  "link-hidden": () => "The case is under a legal hold, or the patient's consent is withdrawn. Nobody outside may see it, so no link is made.",
  "link-limits": () => "The link shows one case and nothing else. Sign in to see or to do more.",
  "link-moment": () => "The link shows a part of the video, and this moment is not in it. Choose one within the part.",
  "link-not-ready": () => "A link needs a video that is cleaned, and somebody who has looked through what was hidden in it.",
  "link-proficiency": () => "How well something was done is a part of the map. Choose the map too.",
  "link-part": () => "This part is not in the video. Choose a beginning and an end within its length.",
  "links-full": ({ most }) => `This case has ${most} links. End one of them first.`,
  "map-old": () => closed,
  "moment-not-mapped": () => "This moment is not mapped, so nothing like it can be found. Map the case first.",
  "moment-outside": () => "This moment lies behind the end. Choose an earlier one.",
  "no-atlas": () => "This site collects no examples for teaching a model. Its operator can set that up.",
  "no-search-model": () => "This site has no model for questions in words. Its operator can set one up; finding moments like one works.",
  "not-cleaned": () => "The video could not be cleaned, so nobody can see it and it can't be mapped.",
  "not-mapped": () => "This case is not mapped yet. Map it first.",
  "page-stale": () => "The list has changed meanwhile. Go to its first page.",
  "part-damaged": () => parts,
  quota: ({ left_bytes }) => `Your hospital has ${size(Number(left_bytes))} left on this site, and the file needs more. Delete a case, or ask an administrator for more room.`,
  "request-invalid": () => "The service did not understand what was sent. Look at what you have entered; where all is right, load the page again.",
  right: () => "You may not do this with this case. Ask its owner, or an administrator of your site.",
  "right-each-file": () => "You may not do this with each file of this case. Ask the owners of the others, or an administrator of your site.",
  "right-hidden-file": () => "A file of somebody else belongs to this case, and you don't see it. Ask an administrator of your site.",
  "right-withdrawn": () => "The patient's consent is withdrawn, so this can't be done with this case any more.",
  role: () => "Your role may not do this. Ask an administrator of your site.",
  "search-long": ({ most }) => `A search takes at most ${most} words. Search for fewer.`,
  "sent-dicom": () => "This is a DICOM file, whose header names the patient, so it was not kept. Send it from the picture archive to this site's DICOM receiver, or have it brought with “halsted dicom import”. Whoever runs this site knows both.",
  "sent-no-video": ({ what }) => `This is no video but ${sentInError[String(what)] ?? "another file. Choose the video itself"}.`,
  "session-token": () => "Your sign-in was renewed in another tab. Load the page again.",
  "setup-ended": () => "This link has ended or was used. Whoever runs this site starts the service again for another one.",
  "share-days": ({ most }) => `A case is shared for at most ${most} days. Choose a shorter time.`,
  "sign-in-needed": () => "You are not signed in any more. Sign in again.",
  "span-changed": () => "Somebody else has changed this meanwhile, so nothing of yours was kept. Look at it, then change it again.",
  "span-incomplete": () => "Something of this change is missing. Load the page again.",
  "span-outside": () => "This does not lie within the video, or it ends before it begins.",
  "span-removed": () => "This was removed meanwhile. Add it again.",
  "span-there": () => "This is there already. Change it instead of adding it.",
  "span-unknown": () => "This is not there any more. Load the page again.",
  "spans-at-once": ({ most }) => `At most ${most} entries of one kind hold at one time. Change one that is there.`,
  "spans-many": ({ most }) => `A case holds at most ${most} entries. Take some back first.`,
  "spans-many-own": ({ most }) => `You have ${most} entries on this case, which is as many as one person may. Take some back first.`,
  "store-full": () => "The site has no room left. Delete a case, or ask an administrator for room.",
  "text-length": ({ most }) => `A text here has 1 to ${most} characters. Make it shorter.`,
  "text-unreadable": () => "The text holds a character that can't be kept. Write it anew, without copying it from elsewhere.",
  "upload-completing": () => "This file is being put together already. Wait a moment.",
  "upload-ended": () => "This upload has ended. Choose the file again.",
  "upload-parts": () => parts,
  "upload-size": ({ most }) => `A file has at most ${size(Number(most))}, and is not empty.`,
  "uploads-open": ({ most }) => `Your hospital has ${most} uploads under way. Wait for one of them to end, or end one.`,
  "user-owns": ({ user }) => `The case belongs to ${user} already.`,
  "user-owns-none": ({ user }) => `${user} can't own a case: only surgeons and administrators do.`,
  "user-sees-none": ({ user }) => `${user} has a role that sees no case.`,
  "user-unknown": ({ user }) => `Nobody of this site is called “${user}”. People are known once they have signed in for the first time.`,
  "video-unusable": ({ why }) => `This file can't be used: ${unusable[String(why)] ?? "its picture can't be read"}.`,
};

/** Why a file can't be used, by the code of its fault. */
const unusable: Record<string, string> = {
  unreadable: "it is no video, or one that can't be read",
  "too-long": "it is longer than this site takes",
  corrupt: "it is damaged",
  "decoder-hung": "reading it never came to an end",
  "decoder-died": "it can't be read",
};

/** Why a job failed, by the code of its cause. */
export const failures: Record<string, Sentence> = {
  unreadable: () => "it is no video, or one that can't be read",
  "too-long": () => "it is longer than this site takes",
  corrupt: () => "the video is damaged",
  "decoder-hung": () => "reading the video never came to an end",
  "decoder-died": () => "the video can't be read",
  "file-unusable": () => "its picture can't be read",
  "job-memory": ({ most_mb }) => `the video needs more memory than the ${most_mb} MB that a job may take here. Cut it into parts, or ask whoever runs this site for more`,
  quota: ({ left_bytes }) => `your hospital has only ${size(Number(left_bytes))} left on this site. Delete a case, or ask an administrator for more room`,
  "worker-lost": ({ attempts }) => `the service was interrupted ${attempts} times while it worked on this. Try again; if it fails again, tell whoever runs this site`,
  "cleaning-stopped": () => "its cleaning was stopped. Send the video again",
  "video-not-cleaned": () => "its video could not be cleaned",
  "store-failed": () => "the site could not read or write its files. Try again; if it fails again, tell whoever runs this site",
  "model-unusable": () => "the site's model can't be used. Tell whoever runs this site",
  "service-error": () => "the service made a mistake. Tell whoever runs this site, who finds it in the log",
};

/** What a file is that was sent in place of a video, and what to do. */
export const sentInError: Record<string, string> = {
  document: "a document. Choose the video itself",
  archive: "a packed archive. Unpack it, and send the videos in it",
  picture: "a single picture. Choose the video itself",
  "dvd-index": "an index of a DVD, which holds no picture. Send the VOB files beside it",
  "disc-image": "the image of a disc. Open it, and send the video files in it",
  encrypted: "an encrypted file. Decrypt it, and send that",
  zeros: "a file of nothing but zeros, as after a copy that failed. Copy the recording again, and send that",
};

/** What a text looks like that may name a patient. */
export const looksLike: Record<string, string> = {
  person: "this looks like a person's name",
  record: "this looks like the number of a patient or of a record",
  birth: "this looks like a date of birth",
  address: "this looks like a person's mail address or telephone number",
};
