import { expect } from 'chai';
import fc from 'fast-check';
import { escapeXml } from '../../lib/store/s3/encoding.ts';
import { MalformedAnswer } from '../../lib/store/s3/http.ts';
import { readRecords } from '../../lib/store/s3/xml.ts';

const WANTED = {
  root: 'List',
  records: new Set(['Entry', 'Other']),
  fields: new Set(['Key', 'Size', 'IsTruncated']),
};

/** A document's fields, and its records as `[name, fields]`. */
function read(document: string): { fields: object; records: [string, object][] } {
  const { fields, records } = readRecords(document, WANTED);
  return {
    fields: Object.fromEntries(fields),
    records: records.map(({ name, fields: of }) => [name, Object.fromEntries(of)]),
  };
}

describe('a document of S3', () => {
  it('is its fields and its records, in their order, without what nobody wants', () => {
    const document = `<?xml version="1.0" encoding="UTF-8"?>
      <List xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>true</IsTruncated>
        <Entry><Key>a</Key><Size>1</Size><Owner><Key>of another</Key><ID>x</ID></Owner><Type/></Entry>
        <!-- a program on the way --><Other xsi:type='x'><Key >b</Key></Other><Entry/>
        <Prefixes><Key>of none</Key></Prefixes><Entry><Key><![CDATA[<c>]]></Key></Entry>
      </List >\n`;
    expect(read(document)).to.deep.equal({
      fields: { IsTruncated: 'true' },
      records: [
        ['Entry', { Key: 'a', Size: '1' }],
        ['Other', { Key: 'b' }],
        ['Entry', {}],
        ['Entry', { Key: '<c>' }],
      ],
    });
  });

  it('has texts as they were, whatever is in them', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const { records } = read(`<List><Entry><Key>${escapeXml(text)}</Key></Entry></List>`);
        expect(records).to.deep.equal([['Entry', { Key: text }]]);
      }),
    );
    expect(
      read('<List><Key>&lt;&gt;&amp;&quot;&apos;&#34;&#x1F600;&amp;lt;</Key></List>').fields,
    ).to.deep.equal({
      Key: `<>&"'"😀&lt;`,
    });
  });

  const WHOLE = '<List><Entry><Key>a</Key></Entry><Entry><Key>b</Key></Entry></List>';

  it('is none wherever it is cut short', () => {
    for (let length = 0; length < WHOLE.length; length++)
      expect(() => read(WHOLE.slice(0, length)), `${length}`).to.throw(MalformedAnswer);
    expect(read(WHOLE).records).to.have.length(2);
  });

  for (const [why, document] of [
    ['it has another root', '<Error><Code>InternalError</Code></Error>'],
    ['it has a second root', `${WHOLE}<List/>`],
    ['it says a key twice', '<List><Entry><Key>a</Key><Key>b</Key></Entry></List>'],
    [
      'it says twice whether it ends',
      '<List><IsTruncated>false</IsTruncated><IsTruncated>true</IsTruncated></List>',
    ],
    ['its elements overlap', '<List><Entry><Key>a</Entry></Key></List>'],
    ['it closes what is not open', '<List></Entry></List>'],
    ['there is text beside its elements', '<List><Entry>lost<Key>a</Key></Entry></List>'],
    ['there is text after an element', '<List><Entry><Key>a</Key>lost</Entry></List>'],
    ['a record is a text', '<List><Entry>lost</Entry></List>'],
    ['there is text before it', `lost${WHOLE}`],
    ['there is text after it', `${WHOLE}lost`],
    ['it has an entity that nobody knows', '<List><Entry><Key>&nbsp;</Key></Entry></List>'],
    ['it has half an entity', '<List><Entry><Key>a & b</Key></Entry></List>'],
    ['it has a character that is none', '<List><Key>&#x110000;</Key></List>'],
    ['it declares entities of its own', `<!DOCTYPE List [<!ENTITY x "y">]>${WHOLE}`],
    ['a tag is none', '<List><1/></List>'],
    ['it is deeper than any', `<List>${'<a>'.repeat(1000)}${'</a>'.repeat(1000)}</List>`],
  ] as const) {
    it(`is none where ${why}`, () => {
      expect(() => read(document)).to.throw(MalformedAnswer);
    });
  }
});
