// The errors of this package, and how the addon's failures become them.
'use strict'

class PgvpdError extends Error {
  /**
   * @param {import('./index.cjs').ErrorCode} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

class ConfigError extends PgvpdError {
  /**
   * @param {string} message
   * @param {import('./binding.cjs').SettingProblem[]} problems
   */
  constructor(message, problems) {
    super('ERR_PGVPD_CONFIG', message)
    this.problems = problems
  }
}

for (const type of [PgvpdError, ConfigError]) {
  Object.defineProperty(type.prototype, 'name', { value: type.name, configurable: true, writable: true })
}

/**
 * Throws a failure; everything else is a result.
 * @template T
 * @param {T | import('./binding.cjs').Failure} result
 * @returns {T}
 */
function unwrap(result) {
  if (!isFailure(result)) return result
  const { code, message, problems } = result
  if (problems) throw new ConfigError(message, problems)
  throw new PgvpdError(/** @type {import('./index.cjs').ErrorCode} */ (code), message)
}

/**
 * @param {unknown} result
 * @returns {result is import('./binding.cjs').Failure}
 */
function isFailure(result) {
  return typeof result === 'object' && result !== null && 'code' in result && 'message' in result
}

module.exports = { PgvpdError, ConfigError, unwrap }
