/** What is wrong with a line or a file; `readMetadataFile` says of which, and what to do. */
export class Malformed extends Error {
  readonly isCut: boolean;

  /** `isCut` where the end is missing, so that writing it again is the remedy. */
  constructor(problem: string, isCut = false) {
    super(problem);
    this.name = 'Malformed';
    this.isCut = isCut;
  }
}
