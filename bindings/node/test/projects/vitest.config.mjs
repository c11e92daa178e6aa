import { defineConfig } from 'vitest/config'

const project = (name, schema) => ({
  test: { name, root: `${import.meta.dirname}/${name}`, globalSetup: 'pgvpd/vitest', provide: { pgvpd: { schema } } },
})

export default defineConfig({ test: { projects: [project('one', 'one.sql'), project('two', 'two.sql')] } })
