'use strict'
// Elements, small charts, and figures in words.
// Names of tenants, roles and databases are untrusted: they reach the page as text nodes and never as markup.
const $ = (id) => document.getElementById(id)
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}
// A name may be written from right to left, or hold characters that turn what follows: it turns only itself.
const named = (name, attributes = {}) => make('bdi', { title: name, ...attributes }, name)
const put = (element, text) => {
  if (element.textContent !== text) element.textContent = text
}
// Rows that stay the same elements while what they show changes, so that a selection and the focus stay too.
const keyed = (body, items, key, create, update) => {
  body.rowsByKey ??= new Map()
  const old = body.rowsByKey
  const rows = new Map(items.map((item) => [key(item), old.get(key(item)) ?? create(item)]))
  for (const [name, row] of old) if (!rows.has(name)) row.remove()
  let at = body.firstElementChild
  items.forEach((item) => {
    const row = rows.get(key(item))
    update(row, item)
    if (row === at) at = at.nextElementSibling
    else body.insertBefore(row, at)
  })
  body.rowsByKey = rows
}

// What was, look by look; null where nothing was measured.
const KEPT = 120
const FEW = 30
const series = new Map()
const remember = (name, value) => {
  const values = series.get(name) ?? []
  values.push(value)
  if (values.length > KEPT) values.shift()
  series.set(name, values)
}
const last = (name) => (series.get(name) ?? []).at(-1) ?? 0
const recent = (name, looks) => (series.get(name) ?? []).slice(-looks)
const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0)

const HEIGHT = 32
const spark = (name) => {
  const values = series.get(name) ?? []
  const width = Math.max(values.length, FEW) - 1
  const top = Math.max(...values, 0) || 1
  const at = (value, index) => `${index + width + 1 - values.length},${(HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1)}`
  // A gap ends a line; a single point is a short one.
  const runs = []
  values.forEach((value, index) => {
    if (value === null) return
    if (index === 0 || values[index - 1] === null) runs.push([])
    runs.at(-1).push(at(value, index))
  })
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  for (const [attribute, value] of [['class', 'spark'], ['viewBox', `0 0 ${width} ${HEIGHT}`], ['preserveAspectRatio', 'none'], ['aria-hidden', 'true']]) svg.setAttribute(attribute, value)
  const path = (kind, d) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', 'path')
    element.setAttribute('class', kind)
    element.setAttribute('d', d)
    svg.append(element)
  }
  path('base', `M0,${HEIGHT - 1} H${width}`)
  for (const run of runs) {
    const x = (point) => point.split(',')[0]
    if (run.length > 1) path('area', `M${x(run[0])},${HEIGHT} L${run.join(' L')} L${x(run.at(-1))},${HEIGHT} Z`)
    path('line', run.length > 1 ? `M${run.join(' L')}` : `M${run[0]} h0.01`)
  }
  return svg
}

const number = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en-US') : value.toFixed(1))
const many = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`
const bytes = (value) => {
  let unit = 0
  // What would be written as 1024 of a unit is 1 of the next.
  while (value >= 1023.5 && unit < 4) [value, unit] = [value / 1024, unit + 1]
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`
}
const age = (seconds) => {
  const whole = Math.floor(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`
}
const short = (value) => String(Number(value.toPrecision(2)))
const time = (seconds) => {
  if (seconds < 0.0009995) return `${short(seconds * 1e6)} µs`
  return seconds < 0.9995 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`
}
