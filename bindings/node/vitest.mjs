// Vitest's global set-up: `globalSetup: 'pgvpd/vitest'`, with options in `provide: { pgvpd: { … } }`.
import { setup } from './testing.cjs'

/** @param {import('vitest/node').TestProject} project */
export default async function (project) {
  const { config } = project
  /** @type {{ pgvpd?: import('./testing.cjs').SetupOptions }} */
  const { pgvpd } = project.getProvidedContext()
  const started = await setup({ root: config.root, ...pgvpd })
  // Projects of one run can each have a set-up of their own.
  config.env = { ...config.env, ...started.env }
  return () => started.stop()
}
