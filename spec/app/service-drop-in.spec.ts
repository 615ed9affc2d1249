import { expect } from 'chai';
import { dropInFor } from '../../lib/app/service-drop-in.ts';

const local = (directory: string) =>
  dropInFor({ name: 'main', location: { kind: 'local', directory } }).lines;

describe('the drop-in that opens a store to the service', () => {
  it('names the store’s directory, as what must be mounted and as what may be written', () => {
    expect(
      dropInFor({ name: 'mainnet', location: { kind: 'local', directory: '/srv/backups' } }),
    ).to.deep.equal({
      file: '/etc/systemd/system/tombstoned.service.d/mainnet.conf',
      lines: ['[Unit]', 'RequiresMountsFor=/srv/backups', '[Service]', 'ReadWritePaths=/srv/backups'],
    });
  });

  it('shows homes to the service where the store is in one', () => {
    for (const directory of ['/home/backup/store', '/root/store']) {
      expect(local(directory)).to.include('ProtectHome=read-only');
    }
    expect(local('/homes/store')).not.to.include('ProtectHome=read-only');
  });

  it('writes any path as one word without specifiers', () => {
    expect(local('/srv/100% "mine"/a\\b')).to.include('ReadWritePaths="/srv/100%% \\"mine\\"/a\\\\b"');
    expect(local('/srv/50%')).to.include('ReadWritePaths=/srv/50%%');
  });

  it('opens the network for a store in S3', () => {
    const { lines } = dropInFor({ name: 'far', location: { kind: 's3', bucket: 'b', prefix: 'p' } });
    expect(lines).to.deep.equal(['[Service]', 'IPAddressDeny=', 'IPAddressAllow=']);
  });
});
