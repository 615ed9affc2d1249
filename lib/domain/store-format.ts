/** What a store holds: any files, or what the backup tools of Aptos-family nodes write. */
export type StoreFormat = 'plain' | 'aptos';
