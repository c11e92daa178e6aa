// Stops what pgvpd/jest has started.
'use strict'

module.exports = require('./jest.cjs').globalTeardown
