// Prints options.d.cts, or with --readme the rows of README.md's table, from the tables of docs/configuration.md, which
// the project's tests hold against the code. After an option was added: node scripts/options.mjs > options.d.cts
import { readFileSync } from 'node:fs'

const manual = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8')
const rows = [...manual.matchAll(/^\| `(?<name>\w+)` \| (?<initial>.+?) \| `PGVPD_\w+` \| (?<meaning>.+) \|$/gm)]

const camelCase = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase())

if (process.argv[2] === '--readme') {
  for (const { groups } of rows) console.log(`| \`${camelCase(groups.name)}\` | ${groups.initial} | ${groups.meaning} |`)
} else {
  declare()
}

function declare() {
  console.log(`// Made by scripts/options.mjs from docs/configuration.md; do not edit.

/** A text, a number, or a list; times are seconds. */
export type OptionValue = string | number | bigint | readonly (string | number | bigint)[]

/** Every option of the proxy. What is undefined is not set. */
export interface Options {`)
  for (const { groups } of rows) {
    const { name, initial, meaning } = groups
    const type = /^`(true|false)`$/.test(initial) ? "boolean | 'true' | 'false'" : 'OptionValue'
    console.log(`  /** ${meaning.replaceAll('*/', '*\\/')} Default: ${initial}. */`)
    console.log(`  ${camelCase(name)}?: ${type} | undefined`)
  }
  console.log('}')
}
