// Holds that the code in a guide is the example's, line by line; a line that is only `…` stands for what was left out.
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

/** Tests the TypeScript, SQL and Prisma blocks of `docs/<name>` against the files in `folders` and below. */
export function testGuide(name: string, ...folders: string[]): void {
  const sources = folders.flatMap(filesIn).map((file) => trimmed(readFileSync(file, 'utf8')))
  const guide = readFileSync(`${import.meta.dirname}/../../docs/${name}`, 'utf8')
  const blocks = [...guide.matchAll(/^```(?:ts|sql|prisma)\n(.*?)^```$/gms)].map(([, block]) => trimmed(block ?? ''))
  const parts = blocks.flatMap((block) => block.split('\n…\n'))
  test('the code in the guide is that of the example', () => {
    expect(parts).not.toEqual([])
    expect(parts.filter((part) => !sources.some((source) => `\n${source}\n`.includes(`\n${part}\n`)))).toEqual([])
  })
}

function filesIn(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true })
  const sources = entries.filter((entry) => entry.isFile() && /\.(ts|sql|prisma)$/.test(entry.name))
  return sources.map((entry) => `${entry.parentPath}/${entry.name}`)
}

/** Indentation differs where a part of a function is shown, and an empty line more or less is nobody's concern. */
function trimmed(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  return lines.filter((line) => line !== '').join('\n')
}
