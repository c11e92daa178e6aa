import type { SetupOptions } from './testing.cjs'

declare module 'vitest' {
  interface ProvidedContext {
    /** Options of the global set-up `pgvpd/vitest`. */
    pgvpd: Omit<SetupOptions, 'prepare'>
  }
}

/** Vitest's global set-up. */
export default function setup(project: unknown): Promise<() => Promise<void>>
