// From an object of options to what the addon takes: names as in the configuration file, values as text.
'use strict'

/**
 * Options that are undefined are not set, as if they were left out.
 * @param {object} [options]
 * @returns {import('./binding.cjs').Setting[]}
 */
function entries(options = {}) {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new TypeError('options are an object such as { upstreamPort: 5432 }')
  }
  const seen = new Set()
  return Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => {
      const name = snakeCase(key)
      if (seen.has(name)) return { name, ...refused(`set twice, the second time as ${key}; keep one`) }
      seen.add(name)
      return { name, ...text(value) }
    })
}

/**
 * The value of one option, in whichever case its key is.
 * @param {object} options
 * @param {string} name
 */
function valueOf(options, name) {
  return Object.entries(options).find(([key, value]) => snakeCase(key) === name && value !== undefined)?.[1]
}

/**
 * `upstreamHost` is `upstream_host`, which stays as it is: options need no table here.
 * @param {string} key
 */
function snakeCase(key) {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/**
 * @param {unknown} value
 * @returns {{ text: string, refused: boolean }}
 */
function text(value) {
  if (Array.isArray(value)) return list(value)
  if (['string', 'number', 'boolean', 'bigint'].includes(typeof value)) return { text: String(value), refused: false }
  return refused('a value is a string, a number, a boolean or an array of them')
}

/** @param {unknown[]} values */
function list(values) {
  const items = values.map(text)
  const bad = items.find((item) => item.refused)
  if (bad) return bad
  // One item would become two, and a deny list miss what it names.
  if (items.some((item) => item.text.includes(','))) return refused('an item of a list cannot hold a comma')
  return { text: items.map((item) => item.text).join(','), refused: false }
}

/** @param {string} why */
function refused(why) {
  return { text: why, refused: true }
}

module.exports = { entries, valueOf }
