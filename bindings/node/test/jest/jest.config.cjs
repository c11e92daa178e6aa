module.exports = { preset: 'pgvpd', globals: { pgvpd: { schema: '../schema.sql' } } }
