// Stops what pgvpd/jest has started.
'use strict'

module.exports = async function () {
  await globalThis.__pgvpd?.stop()
  delete globalThis.__pgvpd
}
