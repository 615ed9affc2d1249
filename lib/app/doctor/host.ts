import { release } from 'node:os';
import { programVersion } from '../version.ts';
import { type Finding, ok, warning } from './finding.ts';

/** What runs here: this program, Node, the kernel. */
export function versionFinding(): Finding {
  return ok('versions', `tombstoned ${programVersion()}, Node ${process.versions.node}, Linux ${release()}`);
}

/** What the system says of NTP: see `askedOfNtp`. */
export function ntpFinding(said: 'yes' | 'no' | 'unknown'): Finding {
  switch (said) {
    case 'yes':
      return ok('ntp', 'the clock is kept right by NTP');
    case 'no':
      return warning(
        'ntp',
        'the clock is not kept right by NTP: time in which this machine is off does not count for safety windows',
        'timedatectl set-ntp true',
      );
    case 'unknown':
      return warning(
        'ntp',
        'whether NTP keeps the clock right is not known: timedatectl does not say',
        'if another program does, nothing; see docs/clock.md',
      );
  }
}
