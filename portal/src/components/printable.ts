const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu;

/** A text from a stranger's file, without what would hide or turn the text around it. */
export const printable = (text: string): string => text.replace(UNSEEN, "\u{fffd}");
