/** Times in the reader's zone and language. */

const MS = 1000;
/** The last second that a calendar of the browser has. */
const LAST = 8.64e12;

export const isOnCalendar = (seconds: number): boolean => seconds <= LAST;

/** The reader's own variety of a language, so that dates are written as the reader writes them. */
const regional = (language: string): string =>
  navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language;

/** A time for a sentence: day, hour, minute, zone. */
export function moment(seconds: number, language: string): string {
  return new Intl.DateTimeFormat(regional(language), {
    dateStyle: "long",
    timeStyle: "short",
  }).format(seconds * MS);
}

/** A time to the second, with its zone. */
export function exact(seconds: number, language: string): string {
  return new Intl.DateTimeFormat(regional(language), {
    year: "numeric",
    month: "long",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    timeZoneName: "short",
  }).format(seconds * MS);
}

/** A day alone, as for the dates of data. */
export function day(seconds: number, language: string): string {
  return new Intl.DateTimeFormat(regional(language), { dateStyle: "long", timeZone: "UTC" }).format(
    seconds * MS,
  );
}

export const now = (): number => Math.floor(Date.now() / MS);

/** What a `datetime-local` field holds, in the reader's zone, as unix seconds. */
export function ofField(value: string): number | null {
  const time = new Date(value).getTime();
  return Number.isNaN(time) || time < 0 ? null : Math.floor(time / MS);
}

/** Unix seconds as a `datetime-local` field holds them. */
export function toField(seconds: number): string {
  const date = new Date(seconds * MS);
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60 * MS);
  return local.toISOString().slice(0, 19);
}
