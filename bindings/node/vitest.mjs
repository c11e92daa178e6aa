// Vitest's global set-up: `globalSetup: 'pgvpd/vitest'`, with options in `provide: { pgvpd: { … } }`.
import { setup } from './testing.cjs'

export default async function (project) {
  const { config } = project
  const started = await setup({ root: config.root, ...project.getProvidedContext().pgvpd })
  // Projects of one run can each have a set-up of their own.
  config.env = { ...config.env, ...started.env }
  return () => started.stop()
}
